"""Runs sides of a benchmark in turn and makes figures of their times.

Every side is a child process with its own threads, processors and memory. One works at a time, the order changes from
round to round, and ratios are taken within a round: what disturbs the machine for longer than a round disturbs both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Side:
    """`place` ("module:function") called with `settings`; see `benchmarks.child`."""

    place: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    """Of the environment in which it runs."""


@dataclass(frozen=True)
class Figure:
    """One line of results.json."""

    name: str
    ours: float
    """Median seconds, or MiB for peak memory, or what `note` says."""
    peer: float
    """The same of the other side."""
    peer_version: str
    """Who the other side is."""
    ratio: float
    """Median over rounds of peer / ours: above 1 when ours needs less."""
    pairs: int
    """Rounds behind the medians."""
    spread: tuple[float, float]
    """Lowest and highest ratio of a round."""
    note: str = ""
    measured: str = ""
    """When, on what, with which versions, and beside what else."""


@dataclass(frozen=True)
class Target:
    """What a figure is asked to reach: `ratio` at least (or, with `at_most`, at most) `value`."""

    value: float
    at_most: bool = False

    def met(self, ratio: float) -> bool:
        return ratio <= self.value if self.at_most else ratio >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"


class SideFailedError(RuntimeError):
    """A child ended before its repetition did; the message holds the end of what it wrote."""


class Child:
    """A running side."""

    def __init__(self, side: Side, threads: int) -> None:
        environment = dict(os.environ) | dict.fromkeys(ONE_THREAD_VARIABLES, str(threads))
        # The experiment tracker that transformers would import for nothing.
        environment |= {"DISABLE_MLFLOW_INTEGRATION": "TRUE", "TOKENIZERS_PARALLELISM": "false"}
        paths = [str(ROOT), str(ROOT / "src"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        command = [side.python, "-m", "benchmarks.child", side.place, str(threads), json.dumps(side.settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        )
        # Read beside the work, or a talkative child would stop at a full pipe.
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said = [*self._said[-30:], line]

    def repeat(self) -> dict[str, float]:
        """One repetition: seconds, cpu, peak_mib and what the side adds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._listener.join()
            raise SideFailedError("a side ended early:\n" + "".join(self._said))
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait()
        self._process.stdout.close()
        self._listener.join()


def alternate(sides: Sequence[Side], *, threads: int, rounds: int, warm_up: int = 1) -> list[list[dict[str, float]]]:
    """Repetitions of every side, [side][round]. Warm-up rounds are thrown away."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(side, threads)) for side in sides]
        readings: list[list[dict[str, float]]] = [[] for _ in sides]
        for round_ in range(-warm_up, rounds):
            order = list(range(len(sides)))
            for index in order if round_ % 2 == 0 else reversed(order):
                reading = children[index].repeat()
                if round_ >= 0:
                    readings[index].append(reading)
    return readings


def figure(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    peer_version: str,
    note: str = "",
) -> Figure:
    """Medians of both sides, and the median and range of the ratios of rounds.

    Raises ValueError unless both have the same number of rounds, at least one, of times above 0."""
    if len(ours) != len(peer) or not ours or min(*ours, *peer) <= 0:
        raise ValueError(f"rounds come in pairs of times above 0; {list(ours)} and {list(peer)} were given")
    ratios = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
    return Figure(
        name=name,
        ours=round(statistics.median(ours), 4),
        peer=round(statistics.median(peer), 4),
        peer_version=peer_version,
        ratio=round(statistics.median(ratios), 3),
        pairs=len(ratios),
        spread=(round(min(ratios), 3), round(max(ratios), 3)),
        note=note,
    )


def column(readings: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """One number of every round."""
    return [reading[name] for reading in readings]
