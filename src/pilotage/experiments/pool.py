"""Local processes for jobs: one process and one thread each, all stopped when one fails or the parent ends."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from typing import Literal

from pilotage.core.errors import UsageError
from pilotage.core.references import load_functions
from pilotage.experiments.jobs import JobResult, ModuleNames, PlacedJob, parse_command
from pilotage.runs.progress import Progress

_LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES} | {
    "VECLIB_MAXIMUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_PRELOADED = ("torch", "transformers.models.auto.modeling_auto", "transformers.tokenization_utils_tokenizers")
_LAST_LINES = 15
_PR_SET_PDEATHSIG = 1


class JobFailed(RuntimeError):  # noqa: N818 - it is what happened to a job
    """A job ended with an error. The message names arm, seed and directory and ends with the worker's last lines."""

    def __init__(self, placed: PlacedJob, code: int, stderr: str) -> None:
        self.arm, self.seed, self.code, self.stderr = placed.job.arm, placed.job.seed, code, stderr
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        super().__init__(
            f"arm {placed.job.arm!r}, seed {placed.job.seed} {ended} (`{placed.job.command}`, "
            f"in {placed.directory}); the others were stopped, finished ones are kept. Its last lines:\n{stderr}"
        )


@dataclass(frozen=True)
class JobEvent:
    """Change of a job: it was `reused`, has `started`, or has `finished`; with the counts so far."""

    kind: Literal["reused", "started", "finished"]
    placed: PlacedJob
    done: int
    total: int


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(asked: int | None, jobs: int) -> int:
    """Return the number of parallel processes: `asked`, or one per core; never more than there are cores or jobs."""
    if asked is not None and asked < 1:
        raise UsageError(f"{asked} workers were asked for; give at least 1 (or nothing, for one per core)")
    return max(1, min(asked or cores(), cores(), jobs))


class Display:
    """Line of progress on standard error that shows events: jobs done, arm and seed, time left."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._progress: Progress | None = None
        self._seen = (0, 0)

    def __call__(self, event: JobEvent) -> None:
        """Show an event."""
        done, total = self._seen
        if event.total != total or event.done < done:  # other jobs than before: those that tune come first
            self.close()
        self._seen = (event.done, event.total)
        if self._progress is None:
            if event.kind == "reused":
                return
            self._progress = Progress(event.total, self._label, start=event.done, unit="job")
            self._progress.__enter__()
        self._progress.advance(event.done, arm=event.placed.job.arm, seed=event.placed.job.seed)

    def close(self) -> None:
        """End the line."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None


def run_jobs(
    jobs: Sequence[PlacedJob],
    workers: int | None = None,
    on_event: Callable[[JobEvent], None] = lambda _: None,
) -> dict[str, JobResult]:
    """Finish every job and return the results by key.

    Args:
        jobs: the jobs, started in this order. Finished ones are taken as they are, unfinished ones resume.
        workers: parallel processes; one per core by default.
        on_event: called when a job is reused, starts or finishes.

    Raises:
        JobFailed: within a fraction of a second of a worker's failure, after stopping the other workers.
    """
    unique = list({placed.key: placed for placed in jobs}.values())
    results: dict[str, JobResult] = {}
    waiting: deque[PlacedJob] = deque()
    for placed in unique:
        result = placed.result()
        if result is None:
            waiting.append(placed)
        else:
            results[placed.key] = result
            on_event(JobEvent("reused", placed, len(results), len(unique)))
    limit = worker_count(workers, max(1, len(waiting)))
    running: dict[int, tuple[PlacedJob, ForkServerProcess]] = {}
    if waiting:
        _start_server(waiting)
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                placed = waiting.popleft()
                process = _start(placed)
                running[process.sentinel] = (placed, process)
                on_event(JobEvent("started", placed, len(results), len(unique)))
            for sentinel in wait(list(running)):
                placed, process = running.pop(sentinel)  # type: ignore[arg-type]
                results[placed.key] = _collect(placed, process)
                on_event(JobEvent("finished", placed, len(results), len(unique)))
    finally:
        for _, process in running.values():
            _stop(process)
    return results


def _start_server(jobs: Sequence[PlacedJob]) -> None:
    """Start the process that workers are forked from, with torch and the systems' runs imported, once and for all.

    Importing takes seconds, more than many jobs. A fork in a process of one thread is safe on Linux; elsewhere every
    worker imports for itself.
    """
    context = multiprocessing.get_context("forkserver")
    if sys.platform == "linux" and all(placed.modules == ModuleNames() for placed in jobs):
        systems = {parse_command(placed.job.command, placed.modules)[0].run for placed in jobs}
        runs = {run.partition(":")[0] for run in systems if isinstance(run, str)}
        context.set_forkserver_preload([*_PRELOADED, *sorted(runs)])
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    before = dict(os.environ)
    os.environ.update(ONE_THREAD, PYTHONPATH=path)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start(placed: PlacedJob) -> ForkServerProcess:
    placed.directory.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_work, args=(placed, {**os.environ, **ONE_THREAD}))
    with _main_hidden():
        process.start()
    return process


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep a new process from importing the script that was started: it may compare or reproduce when imported."""
    main = sys.modules["__main__"]
    names: Sequence[str] = ("__spec__", "__file__")
    kept = {name: vars(main).pop(name) for name in names if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


def _work(placed: PlacedJob, environment: Mapping[str, str]) -> None:
    """Run a job in this process, which has a session of its own and writes to log files in the job's directory."""
    os.setsid()
    _die_with_parent()
    for name, target in (("stdout.log", 1), ("stderr.log", 2)):
        with (placed.directory / name).open("wb") as file:
            os.dup2(file.fileno(), target)
    os.environ.clear()
    os.environ.update(environment)
    worker = importlib.import_module("pilotage.experiments.worker")
    try:
        load_functions(placed.functions)
        worker.finish_job(placed)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _die_with_parent() -> None:
    """Have this process, with all that it started, end when our parent does, and when the fork server does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        # The fork server outlives our parent as long as it has a worker, so that the kernel's signal is not enough.
        parent.join()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _collect(placed: PlacedJob, process: ForkServerProcess) -> JobResult:
    process.join()
    result = placed.result()
    if process.exitcode == 0 and result is not None:
        return result
    log = placed.directory / "stderr.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise JobFailed(placed, process.exitcode or 0, "\n".join(lines[-_LAST_LINES:]) or "(it wrote nothing)")


def _stop(process: ForkServerProcess) -> None:
    """Kill a worker with all that it started."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it may not have become a session of its own yet
    process.join()
