"""A mean with its confidence interval over few values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """Mean with the lower and the upper end of its confidence interval."""

    mean: float
    low: float
    high: float


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return mean ± t(level, n−1)·s/√n of `values` [unit]; low and high are NaN with fewer than two units."""
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1:
        raise ValueError(f"t_interval takes one number per unit, given an array of shape {sample.shape}")
    if len(sample) < 2:
        return Interval(float(sample[0]) if len(sample) else math.nan, math.nan, math.nan)
    mean = float(sample.mean())
    # Identical units have exactly no spread; the rounding of their mean must not invent one.
    spread = 0.0 if np.all(sample == sample[0]) else float(sample.std(ddof=1))
    half = _t_quantile(level, len(sample)) * spread / math.sqrt(len(sample))
    return Interval(mean, mean - half, mean + half)


@cache
def _t_quantile(level: float, units: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, units - 1))
