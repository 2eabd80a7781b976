"""Runs cells in parallel processes of one thread each, and stops them all when one fails or the parent ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pilotage.core.errors import UsageError
from pilotage.experiments.jobs import JobResult, PlacedJob, Wiring, write_json
from pilotage.experiments.nursery import PRELOADED, Child, Nursery
from pilotage.runs.progress import Progress

_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES} | {
    "VECLIB_MAXIMUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_POLL = 0.05
_LAST_LINES = 15


class JobFailed(RuntimeError):  # noqa: N818 - it is what happened to a cell
    """A cell ended with an error. The message names arm, seed and directory and ends with the worker's last lines."""

    def __init__(self, placed: PlacedJob, code: int, stderr: str) -> None:
        self.arm, self.unit, self.code, self.stderr = placed.cell.arm, placed.cell.unit, code, stderr
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        super().__init__(
            f"arm {placed.cell.arm!r}, seed {placed.cell.unit} {ended} (`{placed.cell.command}`, "
            f"in {placed.directory}); the others were stopped, finished ones are kept. Its last lines:\n{stderr}"
        )


@dataclass(frozen=True)
class JobEvent:
    """What happened to a cell: it was `reused`, has `started`, or has `finished`; with the counts so far."""

    kind: Literal["reused", "started", "finished"]
    placed: PlacedJob
    done: int
    total: int


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(asked: int | None, cells: int) -> int:
    """Number of parallel processes: `asked`, or one per core; never more than there are cores or cells."""
    if asked is not None and asked < 1:
        raise UsageError(f"{asked} workers were asked for; give at least 1 (or nothing, for one per core)")
    return max(1, min(asked or cores(), cores(), cells))


class Display:
    """Shows events as a line of progress on standard error: cells done, arm and seed, time left."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._progress: Progress | None = None
        self._seen = (0, 0)

    def __call__(self, event: JobEvent) -> None:
        done, total = self._seen
        if event.total != total or event.done < done:  # other cells than before: those that tune come first
            self.close()
        self._seen = (event.done, event.total)
        if self._progress is None:
            if event.kind == "reused":
                return
            self._progress = Progress(event.total, self._label, start=event.done, unit="cell")
            self._progress.__enter__()
        self._progress.advance(event.done, arm=event.placed.cell.arm, seed=event.placed.cell.unit)

    def close(self) -> None:
        """End the line."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None


def run_jobs(
    cells: Sequence[PlacedJob],
    workers: int | None = None,
    on_event: Callable[[JobEvent], None] = lambda _: None,
) -> dict[str, JobResult]:
    """Finish every cell and return the outcomes by key.

    Finished cells are taken as they are, unfinished ones resume in their directory. Cells start in the order given.
    Raises JobFailed within a fraction of a second of a worker's failure, after stopping the other workers."""
    unique = list({placed.key: placed for placed in cells}.values())
    outcomes: dict[str, JobResult] = {}
    waiting: deque[PlacedJob] = deque()
    for placed in unique:
        outcome = placed.outcome()
        if outcome is None:
            waiting.append(placed)
        else:
            outcomes[placed.key] = outcome
            on_event(JobEvent("reused", placed, len(outcomes), len(unique)))
    limit = worker_count(workers, max(1, len(waiting)))
    running: dict[str, tuple[PlacedJob, subprocess.Popen[bytes] | Child]] = {}
    # A fork in a process of one thread is safe on Linux; elsewhere every cell imports for itself.
    preload = PRELOADED if any(placed.wiring == Wiring() for placed in waiting) else ()
    nursery = Nursery(_environment(), preload) if len(waiting) > 1 and sys.platform == "linux" else None
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                placed = waiting.popleft()
                running[placed.key] = (placed, _start(placed, nursery))
                on_event(JobEvent("started", placed, len(outcomes), len(unique)))
            time.sleep(_POLL)
            for key, (placed, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[key]
                outcomes[key] = _collect(placed, process)
                on_event(JobEvent("finished", placed, len(outcomes), len(unique)))
    finally:
        for _, process in running.values():
            _stop(process)
        if nursery is not None:
            nursery.close()
    return outcomes


def _environment() -> dict[str, str]:
    """One thread, and the same modules as we find, also those beside a script or named by a test."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _start(placed: PlacedJob, nursery: Nursery | None) -> subprocess.Popen[bytes] | Child:
    description = placed.directory / "cell.json"
    write_json(
        description,
        {
            "cell": asdict(placed.cell),
            "key": placed.key,
            "directory": str(placed.directory),
            "wiring": asdict(placed.wiring),
            "parent": os.getpid(),
        },
    )
    if nursery is not None:
        return nursery.start(description, placed.directory / "stdout.log", _log(placed))
    with _log(placed).open("wb") as errors, (placed.directory / "stdout.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pilotage.experiments.worker", str(description)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            # A group of its own, so that what the worker started ends with it.
            start_new_session=True,
        )


def _collect(placed: PlacedJob, process: subprocess.Popen[bytes] | Child) -> JobResult:
    outcome = placed.outcome()
    if process.returncode == 0 and outcome is not None:
        return outcome
    lines = _log(placed).read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
    raise JobFailed(placed, process.returncode or 0, "\n".join(lines) or "(it wrote nothing)")


def _stop(process: subprocess.Popen[bytes] | Child) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _log(placed: PlacedJob) -> Path:
    return placed.directory / "stderr.log"
