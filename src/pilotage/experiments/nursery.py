"""A process that has imported what cells need and forks a child for each: `python -m pilotage.experiments.nursery`.

Importing torch and transformers takes seconds, more than many cells themselves. A line on standard input asks for a
cell ({"cell", "stdout", "stderr"}: paths); a line on standard output says its process number ({"started"}), another one
how it ended ({"ended", "code"}; a negative code is the signal that killed it). The nursery dies with its parent, the
children die with the nursery. One thread, or forking would not be safe."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilotage.experiments.worker import die_with_parent, main

PRELOADED = (
    "pilotage.training.language.trainer",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.auto.modeling_auto",
    "transformers.tokenization_utils_tokenizers",
)
"""Modules that a cell of a language system imports; one that is not installed is passed over."""

_POLL = 0.02


class Nursery:
    """The parent's end: starts cells in a nursery process and hears how they ended."""

    def __init__(self, environment: Mapping[str, str], preload: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pilotage.experiments.nursery", str(os.getpid()), *preload],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._codes: dict[int, int] = {}
        self._said = b""

    def start(self, cell: Path, stdout: Path, stderr: Path) -> Child:
        """Fork a child that runs the cell described in the file `cell`."""
        assert self._process.stdin is not None
        request = {"cell": str(cell), "stdout": str(stdout), "stderr": str(stderr)}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"the process that starts cells has ended (exit code {self._process.poll()})") from None
        while True:
            for message in self._hear(wait=True):
                if "started" in message:
                    return Child(message["started"], self)

    def code(self, pid: int) -> int | None:
        """The exit code of a child, None while it runs."""
        self._hear(wait=False)
        return self._codes.get(pid)

    def close(self) -> None:
        """End the nursery, and with it what still runs."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _hear(self, wait: bool) -> list[dict[str, int]]:
        """Messages that have come in; endings are remembered."""
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while wait or select.select([source], [], [], 0)[0]:
            wait = False
            read = os.read(source, 65536)
            if not read:
                raise RuntimeError(f"the process that starts cells has ended (exit code {self._process.poll()})")
            self._said += read
        *lines, self._said = self._said.split(b"\n")
        messages: list[dict[str, int]] = [json.loads(line) for line in lines]
        self._codes |= {message["ended"]: message["code"] for message in messages if "ended" in message}
        return messages


class Child:
    """A cell's process, with the few verbs of `subprocess.Popen` that its watcher uses."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.code(self.pid)
        return self.returncode

    def wait(self) -> int:
        """The exit code, once it has ended."""
        while (code := self.poll()) is None:
            select.select([], [], [], _POLL)
        return code


def serve(parent: int, preload: Sequence[str]) -> None:
    """The nursery's own loop: import, then fork for every line of standard input until it closes."""
    die_with_parent(parent)
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    running: set[int] = set()
    waiting = b""
    while True:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.discard(pid)
                _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})
        if not select.select([0], [], [], _POLL)[0]:
            continue
        read = os.read(0, 65536)
        if not read:
            return
        *lines, waiting = (waiting + read).split(b"\n")
        for line in lines:
            pid = _fork(json.loads(line))
            running.add(pid)
            _say({"started": pid})


def _fork(request: Mapping[str, str]) -> int:
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        # A group of its own, so that what the cell starts ends with it; set by both, so that it is there at once.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        with open(os.devnull) as nothing, open(request["stdout"], "wb") as out, open(request["stderr"], "wb") as err:
            for source, target in ((nothing, 0), (out, 1), (err, 2)):
                os.dup2(source.fileno(), target)
        code = main([request["cell"]], parent=nursery)
    except BaseException:  # the child must never return into the nursery's loop
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say(message: Mapping[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
