"""Learning curves compared where they are comparable: at equal accuracy, or at equal cost, instead of at equal step."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def value_at(x: ArrayLike, y: ArrayLike, at: float) -> float:
    """Return `y` [point] where `x` [point], which never falls, is `at`: linear between points, NaN outside the curve.

    Of several points with the same x the last counts at that x: a cost that did not grow bought what came last.
    """
    xs, ys = _curve(x, y)
    if np.any(np.diff(xs) < 0):
        raise ValueError("x falls along the curve; value_at needs one that never does, such as a cost")
    if not xs[0] <= at <= xs[-1]:
        return math.nan
    right = int(np.searchsorted(xs, at, side="right"))
    if right == len(xs) or xs[right - 1] == at:
        return float(ys[right - 1])
    share = (at - xs[right - 1]) / (xs[right] - xs[right - 1])
    return float(ys[right - 1] + share * (ys[right] - ys[right - 1]))


def at_first_reaching(progress: ArrayLike, y: ArrayLike, level: float) -> float:
    """Return `y` [point] where `progress` [point], such as an accuracy, reaches `level` for the first time.

    It is linear between points, and NaN where the level is never reached. Later falls of the progress do not matter.
    """
    xs, ys = _curve(progress, y)
    reached = np.flatnonzero(xs >= level)
    if not len(reached):
        return math.nan
    first = int(reached[0])
    if first == 0:
        return float(ys[0])
    share = (level - xs[first - 1]) / (xs[first] - xs[first - 1])
    return float(ys[first - 1] + share * (ys[first] - ys[first - 1]))


def mean_over_progress(progress: ArrayLike, y: ArrayLike, low: float, high: float, points: int = 33) -> float:
    """Return the mean of `y` over the levels of progress from `low` to `high`: the area under y against progress, by
    its width.

    Every level counts where it is first reached. NaN where `high` never is: such a curve has no such area.
    """
    if not low < high:
        raise ValueError(f"low={low} and high={high}; expected low < high")
    values = [at_first_reaching(progress, y, float(level)) for level in np.linspace(low, high, points)]
    return float(np.trapezoid(values, dx=1.0) / (points - 1))


def _curve(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if xs.shape != ys.shape or xs.ndim != 1 or not len(xs):
        raise ValueError(f"a curve has one x for each y; given shapes {xs.shape} and {ys.shape}")
    return xs, ys
