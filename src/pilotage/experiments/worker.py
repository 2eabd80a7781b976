"""Work of the process of one job: run or resume it, write its result."""

from __future__ import annotations

import fcntl
import importlib
import math
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import write_json
from pilotage.core.errors import UsageError
from pilotage.core.references import load_function
from pilotage.core.system import Result
from pilotage.experiments.jobs import (
    Job,
    JobResult,
    ModuleNames,
    PlacedJob,
    function_reference,
    parse_command,
    place,
    read_result,
    with_seed,
)
from pilotage.experiments.provenance import artifacts_used, provenance


def finish_job(placed: PlacedJob) -> JobResult:
    """Run or resume a job, or take the result that is there; two processes that want one job wait for each other."""
    with _owned(placed.directory):
        finished = read_result(placed.directory)
        if finished is not None:
            return finished
        made = provenance(placed.modules)
        began = _processor_seconds()
        context = Context(placed.job, placed.run_directory, placed.modules, placed.directory.parents[1])
        if placed.job.measure:
            metrics = load_function(placed.job.measure)(placed.job.arm, placed.job.seed, context)
        else:
            metrics = train(placed.job, placed.run_directory, placed.modules).metrics
        seconds = round(_processor_seconds() - began, 3)
        artifacts = {**artifacts_used(placed.directory), **context.artifacts}
        result = JobResult(_checked(metrics, placed.job), seconds, placed.key, artifacts, made)
        write_json(placed.directory / "result.json", asdict(result))
        return result


def train(job: Job, directory: Path, modules: ModuleNames) -> Result:
    """Train the job's command with its seed, from the last checkpoint where the directory has one."""
    system, config = parse_command(job.command, modules)
    launcher: Any = importlib.import_module(modules.launch)
    callback = {"callback": load_function(job.callback)} if job.callback else {}
    config = with_seed(config, job.seed)
    result: Result = launcher.launch(
        system, config, seed=job.seed, directory=directory, command=job.command, **callback
    )
    return result


@dataclass(frozen=True)
class Context:
    """What a claim's `measure(arm, seed, context)` may use."""

    job: Job
    directory: Path
    """A directory of its own, kept with the job."""
    modules: ModuleNames
    root: Path
    artifacts: dict[str, Any] = field(default_factory=dict)
    """Artifacts that its trainings used."""

    @property
    def command(self) -> str:
        """Return the arm's command line, tuned setting included."""
        return self.job.command

    @property
    def quick(self) -> bool:
        """True for a smoke run with a fraction of the work; its numbers are not evidence."""
        return self.job.quick

    def configuration(self, command: str | None = None) -> Any:
        """Return the configuration that `command` (the arm's own by default) names."""
        return parse_command(command or self.command, self.modules)[1]

    def train(
        self, command: str | None = None, seed: int | None = None, callback: Callable[..., Any] | None = None
    ) -> Result:
        """Train a command as a job of its own, which claims, arms and comparisons that need the same one share.

        Args:
            command: the command line; the arm's own by default.
            seed: the seed; the job's own by default.
            callback: a function of a module, called as `callback(trainer, step)` whenever held-out prompts are
                answered; the numbers that it returns stand in metrics.jsonl at that step. For systems whose run takes
                a callback.

        Returns:
            The run's directory and its metrics.
        """
        job = replace(
            self.job,
            command=command or self.command,
            seed=self.job.seed if seed is None else seed,
            measure="",
            callback=function_reference(callback) if callback else "",
        )
        placed = place(job, self.modules, self.root)
        result = finish_job(placed)
        self.artifacts.update(result.artifacts)
        numbers = {name: value for name, value in result.metrics.items() if value is not None}
        return Result(str(placed.run_directory), numbers)


@contextmanager
def _owned(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _processor_seconds() -> float:
    """Return user and system seconds of this process and of its finished children."""
    usage = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def _checked(metrics: Mapping[str, Any], job: Job) -> dict[str, float | None]:
    """Return plain numbers by name; None for a number that is missing or not finite (JSON has no NaN)."""
    numbers: dict[str, float | None] = {}
    for name, value in metrics.items():
        if value is not None and not isinstance(value, (bool, int, float)) and not hasattr(value, "__float__"):
            raise UsageError(f"metric {name!r} of {job.command!r} is {value!r}; expected a number")
        number = math.nan if value is None else float(value)
        numbers[name] = number if math.isfinite(number) else None
    return numbers
