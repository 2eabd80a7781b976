"""A pool of processes that score untrusted answers and are killed at their limit."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from pilotage.core.errors import UsageError
from pilotage.rewards.worker_process import HEADER, MARK, descendants, kill_all, marked_processes
from pilotage.types import Failed, Item, Score

_START_LIMIT = 120.0
"""Seconds that a worker may take to start, on a busy machine."""
_REPLY_LIMIT = 1 << 20
"""Bytes that a reply may have; more means that something has written over the protocol."""

_PROGRAM = "from pilotage.rewards.worker_process import main; main()"

Job = tuple[str, str, Item]
"""(name of the scorer, text, item)"""


class Scorer(Protocol):
    """What runs in a worker. It is pickled once, when a worker starts; its class must be importable there.

    Attributes that it may have: `answer_only` (True: it is given what follows the reasoning of a model, and reasoning
    without an answer scores 0), `identity` (text on which recorded scores depend, such as a version) and
    `quick(item, text)` (a score where no worker is needed, or None).
    """

    def prepare(self) -> None:
        """Import what is needed, before the clock of the first answer runs. An exception stops the pool's start."""
        ...

    def __call__(self, text: str, item: Item) -> float | None:
        """Return a score; None to abstain. Whatever it raises becomes Failed("exception")."""
        ...


class WorkerPool:
    """Processes that score answers; an answer that takes over `limit` is Failed("timeout").

    Workers are fresh interpreters (never forks, so threads and locks of the caller do not matter) without torch. One
    that reaches the limit is killed by SIGKILL with all that it has started, and replaced; starting the replacement is
    not charged to any answer. A reply counts only when it bears the number of the request and comes from the worker;
    any other is Failed("protocol"), and the worker is replaced. The scores do not depend on the number of workers, nor
    on the thread or process that asks; a process forked from one that has a pool gets workers of its own at its first
    use.

    scorers: by name; limit: seconds for one answer; memory: bytes of address space of a worker, 0 for no limit.
    Raises UsageError for a limit or count that is not positive.
    """

    def __init__(
        self, scorers: Mapping[str, Scorer], *, count: int = 1, limit: float = 5.0, memory: int = 4 << 30
    ) -> None:
        if count < 1 or not limit > 0 or memory < 0:
            raise UsageError(
                f"reward workers were given count={count}, limit={limit}, memory={memory}; "
                "expected count ≥ 1, limit > 0 seconds, memory ≥ 0 bytes"
            )
        self.count, self.limit, self.memory = count, limit, memory
        self._scorers = pickle.dumps(dict(scorers))
        self._workers: list[_Worker] = []
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self.replaced = 0
        """Workers that had to be killed or had died, since the pool was made."""
        self._finalizer = weakref.finalize(self, _close, self._workers, self._owner)

    def start(self) -> None:
        """Start the workers now. Raises UsageError when the scorers cannot be loaded."""
        with self._locked():
            self._ensure()
            for worker in self._workers:
                worker.wait_until_ready()

    def score(self, jobs: Sequence[Job]) -> list[Score]:
        """Return the score of each job, in order. Never raises for what a scorer or an answer does."""
        if not jobs:
            return []
        with self._locked():
            self._ensure(len(jobs))
            return self._run(jobs)

    def close(self) -> None:
        """Kill the workers. The pool starts new ones if it is used again."""
        with self._locked():
            _close(self._workers, self._owner)

    def _locked(self) -> threading.Lock:
        if self._owner != os.getpid():  # forked: the workers, and perhaps a lock that is held, belong to the parent
            self._owner, self._workers, self._lock = os.getpid(), [], threading.Lock()
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, _close, self._workers, self._owner)
        return self._lock

    def _ensure(self, jobs: int | None = None) -> None:
        wanted = self.count if jobs is None else min(self.count, jobs)
        for position, worker in enumerate(self._workers):
            if worker.gone or worker.process.poll() is not None:
                self._replace(position)
        while len(self._workers) < wanted:
            self._workers.append(_Worker(self._scorers, self.limit, self.memory))

    def _replace(self, position: int) -> None:
        self._workers[position].kill()
        self.replaced += 1
        self._workers[position] = _Worker(self._scorers, self.limit, self.memory)

    def _run(self, jobs: Sequence[Job]) -> list[Score]:
        scores: list[Score] = [None] * len(jobs)
        waiting = list(range(len(jobs)))[::-1]
        running: dict[int, int] = {}  # position of a worker → index of its job
        try:
            while waiting or running:
                for position in range(len(self._workers)):
                    if position not in running and (self._workers[position].gone or self._workers[position].has_said):
                        self._replace(position)
                    if waiting and position not in running and self._workers[position].ready:
                        running[position] = waiting.pop()
                        self._workers[position].send(jobs[running[position]])
                self._wait(running)
                for position in range(len(self._workers)):
                    score = self._collect(position)
                    if score is not None and position in running:
                        scores[running.pop(position)] = score[0]
        except BaseException:  # an interrupt between sending and collecting: no stale score may reach the next call
            _close(self._workers, self._owner)
            raise
        return scores

    def _wait(self, running: Mapping[int, int]) -> None:
        """Sleep until a worker sends something or the next limit is reached."""
        with selectors.DefaultSelector() as selector:
            for position, worker in enumerate(self._workers):
                if position in running or not worker.ready:
                    selector.register(worker.output, selectors.EVENT_READ)
            deadlines = [worker.deadline for i, worker in enumerate(self._workers) if i in running or not worker.ready]
            selector.select(max(0.0, min(deadlines) - time.monotonic()))

    def _collect(self, position: int) -> tuple[Score] | None:
        """Return the score of a worker in a tuple, when there is one; replace a worker that is over its limit."""
        worker = self._workers[position]
        message = worker.receive()
        if message is not None:
            return (_score(message),)
        if worker.gone:
            if not worker.ready:
                raise UsageError(f"a reward worker died while it started (exit status {worker.process.wait()})")
            if worker.busy:
                self._replace(position)
                return (Failed("crashed", f"the worker died (exit status {worker.process.returncode})"),)
        elif worker.busy and time.monotonic() >= worker.deadline:
            self._replace(position)
            return (Failed("timeout", f"over {self.limit:g} s"),)
        elif not worker.ready and time.monotonic() >= worker.deadline:
            raise UsageError(f"a reward worker did not start within {_START_LIMIT:g} s; is the machine overloaded?")
        return None


class _Worker:
    """One process and what it is doing."""

    def __init__(self, scorers: bytes, limit: float, memory: int) -> None:
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if "\n" not in path)
        self.mark = secrets.token_hex(16)
        environment = {
            **os.environ,
            MARK: self.mark,
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(memory), str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.limit = limit
        self.ready = self.busy = self.gone = False
        self._received, self._number = b"", 0
        self.deadline = time.monotonic() + _START_LIMIT
        self._write(scorers)

    @property
    def has_said(self) -> bool:
        """Return whether an idle worker has sent something that nobody asked for."""
        return self.ready and not self.busy and (bool(self._received) or bool(_readable(self.output)))

    def send(self, job: Job) -> None:
        """Begin a job. Its clock starts here: the worker is idle and answers at once."""
        self.busy = True
        self._number += 1
        self.deadline = time.monotonic() + self.limit
        self._write(pickle.dumps((self._number, *job)))

    def receive(self) -> dict[str, Any] | None:
        """Return the reply to the job under way, once it has come."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.output.fileno(), 65536):
                self._received += chunk
                if len(self._received) > _REPLY_LIMIT:
                    break
            self.gone = True
        if len(self._received) < HEADER.size:
            return None
        size = HEADER.unpack(self._received[: HEADER.size])[0]
        if size > _REPLY_LIMIT or len(self._received) < HEADER.size + size:
            return None
        message = _decoded(self._received[HEADER.size : HEADER.size + size])
        self._received = self._received[HEADER.size + size :]
        if message.get("failed") == "start":
            raise UsageError(f"the rewards cannot be loaded in a worker: {message['detail']}")
        if not self.ready:
            self.ready = True
            return None
        self.busy = False
        if (message.get("number"), message.get("process")) != (self._number, self.process.pid):
            self.gone = True
            return {
                "failed": "protocol",
                "detail": "a reply that does not belong to the request; does the reward fork?",
            }
        self.gone = self.gone or message.get("last", False)
        return message

    def wait_until_ready(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while not self.ready:
                if not selector.select(max(0.0, self.deadline - time.monotonic())):
                    raise UsageError(f"a reward worker did not start within {_START_LIMIT:g} s")
                self.receive()
                if self.gone and not self.ready:
                    raise UsageError(f"a reward worker died while it started (exit status {self.process.wait()})")

    def kill(self) -> None:
        """End the process and whatever it has started."""
        started = descendants(self.process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        kill_all([*started, *marked_processes(self.mark)])
        for stream in (self.input, self.output):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _write(self, payload: bytes) -> None:
        try:
            self.input.write(HEADER.pack(len(payload)) + payload)
            self.input.flush()
        except BrokenPipeError:
            self.gone = True


def _close(workers: list[_Worker], owner: int) -> None:
    if owner == os.getpid():
        for worker in workers:
            worker.kill()
        workers.clear()


def _readable(stream: IO[bytes]) -> list[object]:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return list(selector.select(0))


def _decoded(payload: bytes) -> dict[str, Any]:
    """Return a reply; an empty one for what is none."""
    try:
        message = json.loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _score(message: Mapping[str, Any]) -> Score:
    if "failed" in message:
        return Failed(str(message["failed"]), str(message.get("detail", "")))
    score = message.get("score")
    return (
        score if score is None or isinstance(score, int | float) else Failed("protocol", f"the score is {score!r:.80}")
    )
