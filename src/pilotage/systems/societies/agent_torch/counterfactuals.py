"""What a change makes of a simulation, from pairs that share all noise: effect and interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotage.core.claims import Criterion, Verdict
from pilotage.core.errors import UsageError
from pilotage.evaluation.verdicts import Interval, judge, t_interval


@dataclass(frozen=True)
class Effect:
    """changed − unchanged, paired by seed."""

    interval: Interval
    """Mean and 95 % t interval of the difference."""
    share: Interval
    """The same of the difference as a share of the unchanged mean; NaN where that is 0."""
    pairs: int
    correlation: float
    """Between both sides over seeds: what pairing gains. NaN with fewer than two different values."""
    verdict: Verdict
    """Of "the difference is above 0", `Criterion("better")`; "undecided" below five pairs."""


def effect(changed: ArrayLike, unchanged: ArrayLike, *, larger: bool = True) -> Effect:
    """The effect on a number, changed [seed] and unchanged [seed] under the same seeds in the same order.

    larger: whether the claim is that it grows; else that it falls, and the verdict is on that.
    Raises UsageError for sides that cannot be paired."""
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
    """A line of an action's table: both means and the effect, said in words only where its interval is clear of 0."""
    after, before = float(np.mean(changed)), float(np.mean(unchanged))
    found = effect(changed, unchanged, larger=after >= before)
    words = {"holds": "higher" if after >= before else "lower", "undecided": "undecided"}
    return {
        "of": of,
        "as it was": before,
        "changed": after,
        "effect": found.interval.mean,
        "low 95": found.interval.low,
        "high 95": found.interval.high,
        "verdict": words.get(found.verdict, "no effect shown"),
    }


def by_time(changed: ArrayLike, unchanged: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Mean, low and high of the paired difference at every time, [time] each; changed, unchanged [seed, time].

    Each interval covers its own time, not all of them together."""
    after, before = np.asarray(changed, dtype=float), np.asarray(unchanged, dtype=float)
    if after.shape != before.shape or after.ndim != 2:
        raise UsageError(f"expected [seed, time] twice, got {after.shape} and {before.shape}")
    found = [t_interval(column) for column in (after - before).T]
    return tuple(np.array([getattr(interval, end) for interval in found]) for end in ("mean", "low", "high"))


def paired(
    simulate: Callable[[bool, int], float], seeds: Sequence[int], *, larger: bool = True
) -> tuple[Effect, list[tuple[float, float]]]:
    """Runs `simulate(changed, seed)` with and without the change for every seed; the effect, and the pairs."""
    pairs = [(simulate(True, seed), simulate(False, seed)) for seed in seeds]
    after, before = zip(*pairs, strict=True)
    return effect(after, before, larger=larger), pairs
