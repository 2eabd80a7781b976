"""The process in which untrusted answers are scored. No torch here: it has to start fast.

It reads frames (four bytes of length, then a pickle from its parent) and answers with frames of JSON: what has seen an
untrusted answer is never unpickled. The first frame holds the scorers, each further one a number and an answer to
score; the reply bears that number. A process that a scorer forks can neither read requests nor reply.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Iterable
from typing import Any, BinaryIO

import psutil

from pilotage.core.text import escape_unprintable

HEADER = struct.Struct(">I")
MARK = "PILOTAGE_REWARD_WORKER"
"""Environment variable that holds the mark of a worker, which all that it starts inherits."""
_SET_CHILD_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux."""


def main() -> None:
    """Serve until the parent closes the pipe. Arguments: memory limit in bytes (0: none), time limit in seconds."""
    memory, limit = int(sys.argv[1]), float(sys.argv[2])
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    _close_the_standard_streams()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    owner = os.getpid()
    os.register_at_fork(after_in_child=lambda: _close(incoming, outgoing))
    _adopt_orphans()
    scorers: dict[str, Any] = {}
    try:
        scorers = pickle.loads(_read(incoming) or b"")
        for scorer in scorers.values():
            scorer.prepare()
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except BaseException as error:
        _write(outgoing, {"failed": "start", "detail": _describe(error)})
        return
    _write(outgoing, {"ready": owner})
    while (frame := _read(incoming)) is not None:
        # The parent kills at the limit. Should it be dead, the kernel ends this process: no handler runs, so that
        # not even a loop inside one arithmetic operation delays it.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit + 1.0)
        reply = _score(scorers, frame)
        if os.getpid() != owner:
            os._exit(1)  # a process that the scorer forked, and that was to become another program
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        _write(outgoing, {**reply, "process": owner})
        if reply.get("last"):
            return
    kill_all([process for process in marked_processes(os.environ.get(MARK, "")) if process.pid != owner])


def _score(scorers: dict[str, Any], frame: bytes) -> dict[str, Any]:
    number, name, text, item = pickle.loads(frame)
    try:
        return {"number": number, **reply_of(scorers[name](text, item))}
    except MemoryError as error:  # what filled the memory may still be there: the next answer gets a new worker
        return {"number": number, "failed": "exception", "detail": _describe(error), "last": True}
    except BaseException as error:  # SystemExit and the like come from what is scored, and must not end the worker
        return {"number": number, "failed": "exception", "detail": _describe(error)}


def reply_of(value: Any) -> dict[str, Any]:
    """Return what a scorer returned as plain JSON: {"score": number or None} or {"failed": reason, "detail": text}."""
    if value is None:
        return {"score": None}
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return {"failed": "exception", "detail": f"a score must be a number or None, not {type(value).__name__}"}
    if not math.isfinite(score):
        return {"failed": "nan", "detail": f"the score is {score}"}
    return {"score": score}


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return escape_unprintable(f"{type(error).__name__}: {error}"[:300] + where)


def _close_the_standard_streams() -> None:
    """Make sure that what a scorer prints or reads reaches neither the parent's terminal nor the pipes."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _adopt_orphans() -> None:
    """Become the parent of processes whose parent has ended, so that they are found and killed with this one."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[psutil.Process]:
    """Return the processes that a process and its children have started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def marked_processes(mark: str) -> list[psutil.Process]:
    """Return the processes whose environment holds the mark of a worker, wherever they stand among processes."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """End processes; those that have ended are passed over."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _close(*streams: BinaryIO) -> None:
    for stream in streams:
        with contextlib.suppress(OSError):
            os.close(stream.fileno())


def _read(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    return stream.read(HEADER.unpack(header)[0])


def _write(stream: BinaryIO, message: dict[str, Any]) -> None:
    payload = json.dumps(message).encode()
    stream.write(HEADER.pack(len(payload)) + payload)
    stream.flush()
