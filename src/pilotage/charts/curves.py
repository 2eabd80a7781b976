"""Curves of one arm: the mean over its seeds with a t interval, against steps, samples, tokens or seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotage.evaluation.verdicts import Interval, t_interval
from pilotage.runs.reader import Points, RunRecord

Axis = Literal["steps", "samples", "tokens", "seconds"]
SPENT = {"samples": "samples/total", "tokens": "tokens/total"}
"""The metrics that say what was spent so far."""
_GRID = 80
_LEVEL = re.compile(r"^(?P<metric>.+)/level_(?P<level>\w+)$")


@dataclass(frozen=True)
class Curve:
    """An arm's curve: `low` and `high` are NaN where one seed leaves no interval. All [point]."""

    name: str
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curve(name: str, runs: Sequence[RunRecord], metric: str, axis: Axis = "steps") -> Curve | None:
    """The curve of `metric` over `runs` (one per seed), where all of them have been; None when a run lacks it.

    Against steps the points are the steps that all seeds logged; against what was spent, which differs from seed to
    seed, each seed is interpolated on a common grid."""
    lines = [_against(run, metric, axis) for run in runs]
    if not lines or any(len(x) == 0 for x, _ in lines):
        return None
    if axis == "steps":
        shared = set(lines[0][0].tolist()).intersection(*(x.tolist() for x, _ in lines[1:]))
        grid = np.array(sorted(shared), dtype=float)
    else:
        first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
        grid = np.linspace(first, last, _GRID) if last > first else np.array([])
    if len(grid) == 0:
        return None
    if len(grid) > 4 * _GRID:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, 4 * _GRID).astype(int))]
    table = np.array([np.interp(grid, x, y) for x, y in lines])
    intervals = [t_interval(column) for column in table.T]
    return Curve(
        name, grid, table.mean(0), *(np.array([getattr(i, side) for i in intervals]) for side in ("low", "high"))
    )


def final_interval(runs: Sequence[RunRecord], metric: str) -> Interval:
    """Mean and t interval over seeds of the last value of `metric`; NaN where no run has one."""
    return t_interval([value for run in runs if (value := run.final(metric)) is not None])


def levels_of(runs: Sequence[RunRecord], metric: str) -> list[str]:
    """The levels by which `metric` was also measured (`metric/level_3` gives "3"), in order."""
    matches = (_LEVEL.match(name) for run in runs for name in (*run.names, *run.result))
    found = {match["level"] for match in matches if match and match["metric"] == metric}
    return sorted(found, key=lambda level: (not level.isdigit(), int(level) if level.isdigit() else 0, level))


def is_level(name: str) -> bool:
    """Whether a metric is one level of another."""
    return _LEVEL.match(name) is not None


def _against(run: RunRecord, metric: str, axis: Axis) -> Points:
    steps, values = run.points(metric)
    if axis == "steps":
        return steps, values
    at, spent = run.seconds() if axis == "seconds" else run.points(SPENT[axis])
    if len(at) == 0 or len(steps) == 0:
        return np.array([]), np.array([])
    # An evaluation before the first step has cost nothing yet.
    if at[0] > 0:
        at, spent = np.concatenate([[0.0], at]), np.concatenate([[0.0], spent])
    return np.interp(steps, at, spent), values
