"""One side of a benchmark, in a process of its own: does a repetition whenever it is told to, and says what it took.

`python -m benchmarks.child module:function THREADS SETTINGS`: the function gets a `Turn` and the settings as keywords.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class Turn:
    """The conversation with the harness: a line in starts a repetition, a line out ends it."""

    def __init__(self) -> None:
        # What a library prints must not be taken for an answer.
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._began = (0.0, 0.0)

    def _say(self, message: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()

    def begin(self) -> None:
        """Waits for the start of the next repetition; ends the process when there is none."""
        if not sys.stdin.readline():
            sys.stdout.flush()
            # Not sys.exit: a trainer that catches it would go on, and there is nothing left to tidy up.
            os._exit(0)
        self._began = (time.perf_counter(), time.process_time())

    def end(self, **facts: float) -> None:
        """Ends a repetition. facts: further numbers of it."""
        seconds, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._say({"seconds": seconds, "cpu": cpu, "peak_mib": peak, **facts})

    def serve(self, repetition: Callable[[], Mapping[str, float] | None]) -> None:
        """Does a repetition per turn, for ever; what the function returns are its facts."""
        while True:
            self.begin()
            facts = repetition() or {}
            self.end(**facts)


def main(place: str, threads: str, settings: str) -> None:
    """Pins the process to as many processors as it has threads, then becomes the side that `place` names."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    if importlib.util.find_spec("torch"):  # an environment of its own may have none
        import torch

        torch.set_num_threads(int(threads))
    module, function = place.split(":")
    turn = Turn()
    getattr(importlib.import_module(module), function)(turn, **json.loads(settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
