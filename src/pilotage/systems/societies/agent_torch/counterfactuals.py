"""Effect of a change on a simulation, from pairs of simulations that share all noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pilotage.core.claims import Criterion, Verdict
from pilotage.core.errors import UsageError
from pilotage.core.intervals import Interval, t_interval
from pilotage.core.verdicts import judge


@dataclass(frozen=True)
class Effect:
    """Difference changed − unchanged, paired by seed."""

    interval: Interval
    """Mean and 95 % t interval of the difference."""
    share: Interval
    """The difference as a share of the unchanged mean; NaN where that mean is 0."""
    pairs: int
    """Number of pairs."""
    correlation: float
    """Correlation of both sides over seeds; NaN with fewer than two different values."""
    verdict: Verdict
    """Verdict on «the difference is above 0», `Criterion("better")`; "undecided" below five pairs."""


def effect(changed: ArrayLike, unchanged: ArrayLike, *, larger: bool = True) -> Effect:
    """Compute the effect on a number.

    Args:
        changed: numbers with the change [seed].
        unchanged: numbers without it, under the same seeds in the same order [seed].
        larger: whether the verdict is on an increase; otherwise on a decrease.

    Raises:
        UsageError: the sides cannot be paired.
    """
    after, before = np.asarray(changed, dtype=float), np.asarray(unchanged, dtype=float)
    if after.shape != before.shape or after.ndim != 1 or not len(after):
        raise UsageError(f"pairs need one number per seed on both sides, got {after.shape} and {before.shape}")
    if not (np.isfinite(after).all() and np.isfinite(before).all()):
        raise UsageError("a side holds numbers that are not finite; leave that seed out on both sides and say so")
    difference = after - before
    whole = t_interval(difference)
    base = float(before.mean())
    part = Interval(*(value / base if base else float("nan") for value in (whole.mean, whole.low, whole.high)))
    varied = len(after) > 1 and after.std() > 0 and before.std() > 0
    correlation = float(np.corrcoef(after, before)[0, 1]) if varied else float("nan")
    judged = judge(Criterion("better"), difference if larger else -difference, n_declared=len(after))
    return Effect(whole, part, len(after), correlation, judged.verdict)


def effect_row(of: str, changed: Sequence[float], unchanged: Sequence[float]) -> dict[str, Any]:
    """Return a row of an action's table: both means and the effect, named where its interval excludes 0."""
    after, before = float(np.mean(changed)), float(np.mean(unchanged))
    found = effect(changed, unchanged, larger=after >= before)
    words = {"holds": "higher" if after >= before else "lower", "undecided": "undecided"}
    return {
        "of": of,
        "unchanged": before,
        "changed": after,
        "effect": found.interval.mean,
        "low_95": found.interval.low,
        "high_95": found.interval.high,
        "verdict": words.get(found.verdict, "no effect shown"),
    }
