"""The process of one cell: `python -m pilotage.experiments.worker CELL.json`. One thread; dies with its parent."""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.experiments.jobs import (
    FORMAT,
    Job,
    JobResult,
    PlacedJob,
    Wiring,
    function_reference,
    load_function,
    parse_command,
    place,
    read_outcome,
    with_seed,
    write_json,
)
from pilotage.experiments.provenance import artifacts_used

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str], parent: int | None = None) -> int:
    """Run the cell that a JSON file describes; 0 when it finished (now or earlier), 2 for input that cannot work.

    parent: the process with which to die; by default the one that the file names."""
    described = json.loads(Path(arguments[0]).read_text())
    die_with_parent(described["parent"] if parent is None else parent)
    placed = PlacedJob(
        Job(**described["cell"]), described["key"], Path(described["directory"]), Wiring(**described["wiring"])
    )
    try:
        finish_job(placed)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; elsewhere than on Linux a thread watches for that."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def finish_job(placed: PlacedJob) -> JobResult:
    """Run or resume a cell, or take what is there; two processes that want one cell wait for each other."""
    with _owned(placed.directory):
        outcome = read_outcome(placed.directory, placed.key)
        if outcome is not None:
            return outcome
        began = _processor_seconds()
        context = Context(placed.cell, placed.run_directory, placed.wiring, placed.directory.parents[1])
        if placed.cell.measure:
            metrics = load_function(placed.cell.measure)(placed.cell.arm, placed.cell.unit, context)
        else:
            metrics = train(placed.cell, placed.run_directory, placed.wiring).metrics
        seconds = _processor_seconds() - began
        numbers = _checked(metrics, placed.cell)
        artifacts = {**artifacts_used(placed.directory), **context.artifacts}
        kept = {"format": FORMAT, "metrics": numbers, "seconds": round(seconds, 3), "artifacts": artifacts}
        write_json(placed.directory / "outcome.json", kept)
        return JobResult(numbers, seconds, placed.directory, placed.key, artifacts)


def train(cell: Job, directory: Path, wiring: Wiring) -> Result:
    """Train the cell's command with its unit as the seed, from the last checkpoint where the directory has one."""
    system, config = parse_command(cell.command, wiring)
    config = with_seed(config, cell.unit)
    launcher: Any = importlib.import_module(wiring.launch)
    looking = {"callback": load_function(cell.callback)} if cell.callback else {}
    result: Result = launcher.launch(
        system, config, seed=cell.unit, directory=directory, command=cell.command, **looking
    )
    return result


@dataclass(frozen=True)
class Context:
    """What a claim's `measure(arm, unit, context)` may use."""

    cell: Job
    directory: Path
    """A directory of its own, kept with the cell."""
    wiring: Wiring
    root: Path
    artifacts: dict[str, Any] = field(default_factory=dict)
    """Those that its trainings used."""

    @property
    def command(self) -> str:
        """The arm's command line, tuned setting included."""
        return self.cell.command

    @property
    def quick(self) -> bool:
        """Whether a fraction of the work is enough, because nobody will believe the numbers."""
        return self.cell.quick

    def configuration(self, command: str | None = None) -> Any:
        """The configuration that `command` (the arm's own by default) names."""
        return parse_command(command or self.command, self.wiring)[1]

    def train(
        self, command: str | None = None, seed: int | None = None, callback: Callable[..., Any] | None = None
    ) -> Result:
        """Train `command` (the arm's own by default) with `seed` (the unit by default).

        The training is a cell of its own: claims, arms and comparisons that need the same one share it.
        `callback(trainer, step)`, a function of a module, is called whenever held-out prompts are answered; the numbers
        that it returns stand in metrics.jsonl at that step. For systems whose run takes a callback."""
        unit = self.cell.unit if seed is None else seed
        looking = function_reference(callback) if callback else ""
        cell = replace(self.cell, command=command or self.command, unit=unit, measure="", callback=looking)
        placed = place(cell, self.wiring, self.root)
        outcome = finish_job(placed)
        self.artifacts.update(outcome.artifacts)
        numbers = {name: value for name, value in outcome.metrics.items() if value is not None}
        return Result(str(placed.run_directory), numbers)


@contextmanager
def _owned(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _processor_seconds() -> float:
    """User and system seconds of this process and of its finished children."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def _checked(metrics: Mapping[str, Any], cell: Job) -> dict[str, float | None]:
    """Plain numbers by name; None for a unit without a number (JSON has no NaN)."""
    numbers: dict[str, float | None] = {}
    for name, value in metrics.items():
        if value is not None and not isinstance(value, (bool, int, float)) and not hasattr(value, "__float__"):
            raise UsageError(f"metric {name!r} of {cell.command!r} is {value!r}; expected a number")
        number = math.nan if value is None else float(value)
        numbers[name] = number if math.isfinite(number) else None
    return numbers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
