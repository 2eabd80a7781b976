"""A server that forks trainings and kills them: its children start without importing torch again.

The process of a script that calls `serve(train)` reads one JSON command a line: `{"directory", "kill_after", "kill_at",
…}`. A child trains; it is killed (SIGKILL) `kill_after` seconds later, or kills itself at the `kill_at`-th call that
changes the disk. The answer is `{"status": exit status or minus the signal, "calls": such calls made}`; the status is 3
when there was nothing to do. `served(script)` starts such a process and asks it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotage.core import atomic_io as durable
from pilotage.runs import checkpoints, journal, metrics
from pilotage.runs import state as state_files

Ask = Callable[..., dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def served(script: Path, **defaults: Any) -> Iterator[Ask]:
    """`ask(directory, **command)` gives the answer of the server that `script` starts."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    ) as server:
        assert server.stdin
        assert server.stdout

        def ask(directory: Path, **command: Any) -> dict[str, Any]:
            print(json.dumps({"directory": str(directory), **defaults, **command}), file=server.stdin, flush=True)
            return json.loads(server.stdout.readline())

        yield ask
        server.stdin.close()


class Calls:
    """Counts the calls that change the disk, and dies at one of them (a write is then half done)."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.count = 0
        for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "ftruncate"), (shutil, "rmtree")):
            setattr(module, name, self.before(getattr(module, name)))
        state_files.save_file = self.before(state_files.save_file)
        half = self.half(durable.write_all)
        for module in (durable, checkpoints, journal, metrics):
            module.write_all = half  # type: ignore[attr-defined]

    def _due(self) -> bool:
        self.count += 1
        return self.count == self.kill_at

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._due():
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    def half(self, call: Callable[[int, bytes], None]) -> Callable[[int, bytes], None]:
        def counted(descriptor: int, data: bytes) -> None:
            if self._due():
                call(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            call(descriptor, data)

        return counted


def child(train: Callable[[dict[str, Any]], bool], command: dict[str, Any], report: int) -> None:
    status = 1
    try:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a training prints is no answer of the server
        calls = Calls(command.get("kill_at"))
        busy = train(command)
        os.write(report, str(calls.count).encode())
        status = 0 if busy else 3
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def serve(train: Callable[[dict[str, Any]], bool]) -> None:
    """Answer commands until the input ends. `train(command)` is True when there was something to do."""
    for row in sys.stdin:
        command = json.loads(row)
        reading, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(train, command, report)
        os.close(report)
        ready, _, _ = select.select([reading], [], [], command.get("kill_after"))
        if not ready:
            os.kill(pid, signal.SIGKILL)
        counted = os.read(reading, 100)
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "calls": int(counted or 0)}
        print(json.dumps(answer), flush=True)
