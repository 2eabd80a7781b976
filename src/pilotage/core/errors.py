"""Errors: unusable input, and failures during a run."""

from __future__ import annotations

from pathlib import Path


class UsageError(ValueError):
    """Input that cannot work. The message says what was given, what was expected and what to do."""


class RunError(RuntimeError):
    """A run cannot go on. The message says what happened, what is safe and what to do."""


class DiskFull(RunError):  # noqa: N818 - it is a state of the disk, and the name says which
    """No room to write `path`. The last complete checkpoint is untouched."""

    def __init__(self, path: Path, free: int, detail: str) -> None:
        super().__init__(
            f"no room to write {path} ({detail}): {free / 2**20:.1f} MiB are free there. What was saved before is "
            "untouched; make room (or lift the quota or file-size limit) and start the same command again to resume"
        )
        self.path = path
        self.free = free


class NonFinite(RunError):  # noqa: N818
    """A number that must be finite is not. The batch that gave it and the last good checkpoint are kept."""

    def __init__(self, step: int, name: str, batch: Path | None, checkpoint: Path | None) -> None:
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        where = f"the batch that gave it is {batch}" if batch else "no batch was given to keep"
        super().__init__(
            f"{name} is not finite at step {step}; {kept}; {where}. Look at the batch, then lower the learning rate "
            "or clip gradients in a new run; resuming this one repeats the same step"
        )
        self.step = step
        self.name = name
        self.batch = batch
        self.checkpoint = checkpoint
