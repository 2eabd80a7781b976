"""The process in which untrusted answers are judged. No torch here: it has to start fast.

It reads frames (four bytes of length, then a pickle from its parent) and answers with frames of JSON: what has seen an
untrusted answer is never unpickled. The first frame holds the judges, each further one an answer to judge.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
from typing import Any, BinaryIO

HEADER = struct.Struct(">I")


def main() -> None:
    """Serve until the parent closes the pipe. Arguments: memory limit in bytes (0: none), time limit in seconds."""
    memory, limit = int(sys.argv[1]), float(sys.argv[2])
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    _close_the_standard_streams()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    judges: dict[str, Any] = {}
    try:
        judges = pickle.loads(_read(incoming) or b"")
        for judge in judges.values():
            judge.prepare()
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except BaseException as error:
        _write(outgoing, {"failed": "start", "detail": _describe(error)})
        return
    _write(outgoing, {"ready": os.getpid()})
    while (frame := _read(incoming)) is not None:
        # The parent kills at the limit. Should it be dead, the kernel ends this process: no handler runs, so that
        # not even a loop inside one arithmetic operation delays it.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit + 1.0)
        verdict = _judge(judges, frame)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        _write(outgoing, verdict)
        if verdict.get("last"):
            return


def _judge(judges: dict[str, Any], frame: bytes) -> dict[str, Any]:
    try:
        name, text, item = pickle.loads(frame)
        return verdict_of(judges[name](text, item))
    except MemoryError as error:  # what filled the memory may still be there: the next answer gets a new worker
        return {"failed": "exception", "detail": _describe(error), "last": True}
    except BaseException as error:  # SystemExit and the like come from what is judged, and must not end the worker
        return {"failed": "exception", "detail": _describe(error)}


def verdict_of(value: Any) -> dict[str, Any]:
    """Return what a judge returned as plain JSON: {"score": number or None} or {"failed": reason, "detail": text}."""
    if value is None:
        return {"score": None}
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return {"failed": "exception", "detail": f"a score must be a number or None, not {type(value).__name__}"}
    if not math.isfinite(score):
        return {"failed": "nan", "detail": f"the score is {score}"}
    return {"score": score}


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:300] + where


def _close_the_standard_streams() -> None:
    """What a judge prints or reads reaches neither the parent's terminal nor the protocol."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _read(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    return stream.read(HEADER.unpack(header)[0])


def _write(stream: BinaryIO, message: dict[str, Any]) -> None:
    payload = json.dumps(message).encode()
    stream.write(HEADER.pack(len(payload)) + payload)
    stream.flush()
