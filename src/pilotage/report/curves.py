"""Curves of an arm: the mean over seeds with a t interval, over steps, samples, tokens or seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pilotage.charts.charts import Line, thin
from pilotage.core.intervals import Interval, t_interval
from pilotage.runs.reader import Points, RunRecord

Axis = Literal["steps", "samples", "tokens", "seconds"]
SPENT = {"samples": "samples/total", "tokens": "tokens/total"}
"""The metrics that hold what was spent so far."""
_GRID = 80
_LEVEL = re.compile(r"^(?P<metric>.+)/level_(?P<level>\w+)$")


def curve(name: str, runs: Sequence[RunRecord], metric: str, axis: Axis = "steps", series: int = 0) -> Line | None:
    """Return the curve of a metric over the points that all runs have, or None when a run lacks the metric.

    Over steps the points are the steps that all seeds logged; over what was spent, which differs from seed to seed,
    each seed is interpolated on a common grid.

    Args:
        name: of the line.
        runs: one per seed; a single one has no band.
        metric: what is shown.
        axis: over what.
        series: index of the line's colour.
    """
    points = [_against(run, metric, axis) for run in runs]
    if not points or any(len(x) == 0 for x, _ in points):
        return None
    if axis == "steps":
        shared = set(points[0][0].tolist()).intersection(*(x.tolist() for x, _ in points[1:]))
        grid = np.array(sorted(shared), dtype=float)
    else:
        first, last = max(x[0] for x, _ in points), min(x[-1] for x, _ in points)
        grid = np.linspace(first, last, _GRID) if last > first else np.array([])
    if len(grid) == 0:
        return None
    table = np.array([np.interp(grid, x, y) for x, y in points])
    kept = thin(table.mean(0), 4 * _GRID)
    grid, table = grid[kept], table[:, kept]
    intervals = [t_interval(column) for column in table.T]
    low, high = (np.array([getattr(interval, side) for interval in intervals]) for side in ("low", "high"))
    return Line(name, grid, table.mean(0), (low, high), series)


def final_interval(runs: Sequence[RunRecord], metric: str) -> Interval:
    """Return mean and t interval over seeds of the last value of `metric`; NaN where no run has one."""
    return t_interval([value for run in runs if (value := run.final(metric)) is not None])


def levels_of(runs: Sequence[RunRecord], metric: str) -> list[str]:
    """Return the levels by which `metric` was also measured (`metric/level_3` gives "3"), in order."""
    matches = (_LEVEL.match(name) for run in runs for name in (*run.names, *run.result))
    found = {match["level"] for match in matches if match and match["metric"] == metric}
    return sorted(found, key=lambda level: (not level.isdigit(), int(level) if level.isdigit() else 0, level))


def is_level(name: str) -> bool:
    """Return whether a metric is one level of another, such as `accuracy/level_3`."""
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
