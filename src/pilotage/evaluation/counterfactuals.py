"""What would have happened: two scenarios under the same seeds, and the difference that the change makes.

A scenario is a function of a seed whose noise is the seed's alone (counters, or named streams), so that both draw the
same numbers wherever they do the same; what is left between them is the change. The unit is the seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotage.evaluation.verdicts import Interval, t_interval
from pilotage.system import UsageError

Measures = Mapping[str, float | Sequence[float]]
"""Numbers of one run by name; a sequence is one number per day, borough, …"""
Scenario = Callable[[int], Measures]


@dataclass(frozen=True)
class Effect:
    """One measure under two scenarios."""

    factual: NDArray[np.float64]
    """[seeds, …]"""
    counterfactual: NDArray[np.float64]
    """[seeds, …]"""
    level: float
    """Of the intervals."""

    @property
    def differences(self) -> NDArray[np.float64]:
        """[seeds, …]: counterfactual − factual, seed by seed."""
        return self.counterfactual - self.factual

    def interval(self) -> Interval:
        """Mean difference with Student's t interval, for a measure that is one number."""
        return t_interval(self.differences, self.level)

    def intervals(self) -> list[Interval]:
        """The same for each number of a measure that is a sequence, each with its own error of 1 − level."""
        table = self.differences.reshape(len(self.differences), -1)
        return [t_interval(column, self.level) for column in table.T]

    def share_of_variance(self) -> float:
        """Variance of the paired differences over that of unpaired ones: below 1, common noise helped.

        NaN with fewer than two seeds or without any variance."""
        paired, apart = self.differences, self.factual.var(0, ddof=1).sum() + self.counterfactual.var(0, ddof=1).sum()
        return float(paired.var(0, ddof=1).sum() / apart) if len(paired) > 1 and apart > 0 else math.nan


def paired_effects(
    factual: Scenario, counterfactual: Scenario, seeds: Sequence[int], *, level: float = 0.95
) -> dict[str, Effect]:
    """Runs both scenarios under every seed. -> effects by measure

    factual, counterfactual: measures of a run, by seed; seeds: different ones; level: of the intervals.
    Raises UsageError for repeated seeds, fewer than two, or scenarios that measure different things."""
    if len(set(seeds)) != len(seeds) or len(seeds) < 2:
        raise UsageError(f"an interval needs two different seeds or more, got {list(seeds)}")
    if not 0 < level < 1:
        raise UsageError(f"level is the probability that an interval covers, between 0 and 1, got {level}")
    pairs = [(_numbers(factual(seed), seed), _numbers(counterfactual(seed), seed)) for seed in seeds]
    shapes = {name: value.shape for name, value in pairs[0][0].items()}
    for seed, pair in zip(seeds, pairs, strict=True):
        for measured in pair:
            if {name: value.shape for name, value in measured.items()} != shapes:
                raise UsageError(f"with seed {seed} a scenario measured {list(measured)}; {list(shapes)} was expected")
    return {
        name: Effect(np.stack([one[name] for one, _ in pairs]), np.stack([other[name] for _, other in pairs]), level)
        for name in shapes
    }


def _numbers(measured: Measures, seed: int) -> dict[str, NDArray[np.float64]]:
    arrays = {name: np.asarray(value, dtype=float) for name, value in measured.items()}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise UsageError(f"{name} is not finite with seed {seed}")
    return arrays
