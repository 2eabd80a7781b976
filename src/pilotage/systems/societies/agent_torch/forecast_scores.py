"""Scores of forecasts on weeks that were not fitted: errors, weighted interval score, coverage.

A `Window` shows a method only the weeks observed at its origin and compares a forecast with the weeks after it.
Observed weeks cannot be scored: a `Forecast` states how many weeks were used to make it, and scoring refuses others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotage.core.errors import UsageError

Array = NDArray[np.float64]
ALPHAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels of the central intervals of the weighted interval score, as in the US forecast hub."""


@dataclass(frozen=True)
class Forecast:
    """Draws of the weeks after the observed ones."""

    draws: Array
    """[draw, week, place]: week 0 is the first one after `observed_weeks`."""
    observed_weeks: int
    """Number of weeks, from the first one of the series, that were used in any way: fitting, choosing, validation."""

    def __post_init__(self) -> None:
        draws = np.asarray(self.draws, dtype=float)
        if draws.ndim != 3 or not draws.size or not np.isfinite(draws).all():
            raise UsageError(f"a forecast has finite draws [draw, week, place], got the shape {draws.shape}")
        object.__setattr__(self, "draws", draws)

    def median(self) -> Array:
        """Return the median of the draws [week, place]."""
        return np.median(self.draws, axis=0)

    def interval(self, alpha: float) -> tuple[Array, Array]:
        """Return the ends of the central interval of probability 1 − alpha, [week, place] each."""
        low, high = np.quantile(self.draws, [alpha / 2, 1 - alpha / 2], axis=0)
        return low, high


class Window:
    """Series as it stood at an origin, and the weeks after it, which only `score` reads.

    Args:
        series: counts [week, place].
        origin: number of observed weeks.
        horizon: number of weeks to forecast.

    Raises:
        UsageError: the data does not reach that far.
    """

    def __init__(self, series: ArrayLike, origin: int, horizon: int) -> None:
        table = np.array(series, dtype=float)
        if table.ndim != 2 or not np.isfinite(table).all():
            raise UsageError(f"a series has finite numbers [week, place], got the shape {table.shape}")
        if origin < 1 or horizon < 1 or origin + horizon > len(table):
            raise UsageError(
                f"{origin} observed weeks and {horizon} to forecast were asked for; the series has {len(table)} weeks"
            )
        self.origin, self.horizon = origin, horizon
        self._observed, self._later = table[:origin], table[origin : origin + horizon]
        self._observed.flags.writeable = False

    @property
    def observed(self) -> Array:
        """Return the observed weeks [origin, place], read-only."""
        return self._observed

    def score(self, forecast: Forecast) -> dict[str, float]:
        """Return the errors over weeks and places: see `scores`.

        Raises UsageError when the forecast used other weeks than the observed ones, or has another shape.
        """
        if forecast.observed_weeks != self.origin:
            raise UsageError(
                f"the forecast used {forecast.observed_weeks} weeks, this window has {self.origin} observed ones: a "
                "forecast is scored from its own origin on, and never on weeks that it was calibrated on"
            )
        if forecast.draws.shape[1:] != self._later.shape:
            raise UsageError(
                f"the forecast is of [week, place] = {forecast.draws.shape[1:]}, expected {self._later.shape}"
            )
        return scores(forecast, self._later)


def spread_origins(weeks: int, *, count: int, least: int, horizon: int) -> list[int]:
    """Return evenly spread origins of forecasts.

    Args:
        weeks: length of the series.
        count: number of origins.
        least: observed weeks of the first origin.
        horizon: weeks to forecast after each origin.
    """
    last = weeks - horizon
    if count < 1 or least < 1 or last - least + 1 < count:
        raise UsageError(f"{weeks} weeks have no {count} origins with {least} observed weeks or more before {horizon}")
    return [int(origin) for origin in np.linspace(least, last, count).round()]


def scores(forecast: Forecast, truth: Array) -> dict[str, float]:
    """Return wis, mae and rmse of the median, and the coverage of the central 50 % and 95 % intervals.

    truth: [week, place].
    """
    error = forecast.median() - truth
    return {
        "wis": float(weighted_interval_score(forecast, truth).mean()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "coverage_50": coverage(forecast, truth, 0.5),
        "coverage_95": coverage(forecast, truth, 0.05),
    }


def interval_score(low: Array, high: Array, truth: Array, alpha: float) -> Array:
    """Return the width plus 2/alpha times the distance to a truth outside (Gneiting and Raftery 2007).

    Args:
        low: lower ends [...].
        high: upper ends [...].
        truth: true values [...].
        alpha: one minus the probability of the interval.
    """
    return (high - low) + 2 / alpha * (np.maximum(low - truth, 0) + np.maximum(truth - high, 0))


def weighted_interval_score(forecast: Forecast, truth: Array, alphas: Sequence[float] = ALPHAS) -> Array:
    """Return (|y − median|/2 + Σ α/2 · IS_α) / (K + 1/2) of K intervals (Bracher et al. 2021); lower is better.

    Args:
        forecast: the forecast.
        truth: true counts [week, place].
        alphas: levels of the K intervals; none: |y − median|.

    Returns:
        The score [week, place], in the unit of the series.
    """
    if not all(0 < alpha < 1 for alpha in alphas):
        raise UsageError(f"alphas lie between 0 and 1, got {list(alphas)}")
    total = np.abs(truth - forecast.median()) / 2
    for alpha in alphas:
        total = total + alpha / 2 * interval_score(*forecast.interval(alpha), truth, alpha)
    return total / (len(alphas) + 0.5)


def coverage(forecast: Forecast, truth: Array, alpha: float) -> float:
    """Return the share of truths [week, place] inside the central interval of probability 1 − alpha."""
    low, high = forecast.interval(alpha)
    return float(((low <= truth) & (truth <= high)).mean())
