"""Checkpoints that are refused because opening them can run anything."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.errors import UsageError

PICKLED = (".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".bin")
"""Endings of files that Python's pickle writes, such as diffusion_policy's checkpoints."""


def refuse_pickled(path: Path) -> None:
    """Raise UsageError where the file of a pickled checkpoint is given as a policy, saying what to do instead."""
    if path.suffix in PICKLED and not path.is_dir():
        raise UsageError(
            f"{path} is a pickled checkpoint, and opening one can run whatever is in it; it is never opened here. Give "
            "the folder of a run or of a LeRobot policy (config.json, model.safetensors): write the weights to "
            "safetensors with the project that the checkpoint is from"
        )
