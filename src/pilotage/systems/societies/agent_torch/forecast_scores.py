"""Forecasts scored on weeks that nothing was fitted to: rolling origins, errors, weighted interval score, coverage.

A `Window` shows a method only what was known at its origin and compares a forecast with what came after. The known
weeks cannot be scored: a `Forecast` says up to which week its maker has looked, and scoring refuses any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotage.core.errors import UsageError

Array = NDArray[np.float64]
ALPHAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the central intervals of the weighted interval score, as the US forecast hub takes them."""


@dataclass(frozen=True)
class Forecast:
    """Draws of what weeks after `seen` bring."""

    draws: Array
    """[draw, week, place]: week 0 is the first one after `seen`."""
    seen: int
    """Number of weeks, from the series' first on, that its maker looked at in any way: fitting, choosing, held out."""

    def __post_init__(self) -> None:
        draws = np.asarray(self.draws, dtype=float)
        if draws.ndim != 3 or not draws.size or not np.isfinite(draws).all():
            raise UsageError(f"a forecast has finite draws [draw, week, place], got the shape {draws.shape}")
        object.__setattr__(self, "draws", draws)

    def median(self) -> Array:
        """[week, place]"""
        return np.median(self.draws, axis=0)

    def interval(self, alpha: float) -> tuple[Array, Array]:
        """Ends of the central interval of probability 1 − alpha, [week, place] each."""
        low, high = np.quantile(self.draws, [alpha / 2, 1 - alpha / 2], axis=0)
        return low, high


class Window:
    """A series [week, place] as it stood at an origin, and the weeks after it, which only `score` looks at."""

    def __init__(self, series: ArrayLike, origin: int, horizon: int) -> None:
        """origin: number of known weeks; horizon: weeks to forecast. Raises UsageError beyond the data."""
        table = np.array(series, dtype=float)
        if table.ndim != 2 or not np.isfinite(table).all():
            raise UsageError(f"a series has finite numbers [week, place], got the shape {table.shape}")
        if origin < 1 or horizon < 1 or origin + horizon > len(table):
            raise UsageError(
                f"{origin} known weeks and {horizon} to forecast were asked for; the series has {len(table)} weeks"
            )
        self.origin, self.horizon = origin, horizon
        self._known, self._later = table[:origin], table[origin : origin + horizon]
        self._known.flags.writeable = False

    @property
    def known(self) -> Array:
        """[origin, place], read-only."""
        return self._known

    def score(self, forecast: Forecast) -> dict[str, float]:
        """Errors over weeks and places: see `scores`.

        Raises UsageError when the forecast's maker has seen other weeks than the known ones, or for another shape."""
        if forecast.seen != self.origin:
            raise UsageError(
                f"the forecast was made with {forecast.seen} weeks seen, this window knows {self.origin}: what was "
                "calibrated on a week cannot be scored on it, and a forecast is scored from its own origin on"
            )
        if forecast.draws.shape[1:] != self._later.shape:
            raise UsageError(
                f"the forecast is of [week, place] = {forecast.draws.shape[1:]}, expected {self._later.shape}"
            )
        return scores(forecast, self._later)


def rolling(series: ArrayLike, *, origins: Sequence[int], horizon: int) -> list[Window]:
    """A window for each origin. Raises UsageError for origins that are no increasing numbers, or beyond the data."""
    if list(origins) != sorted(set(origins)):
        raise UsageError(f"origins are increasing numbers of known weeks, got {list(origins)}")
    return [Window(series, origin, horizon) for origin in origins]


def spread_origins(weeks: int, *, count: int, least: int, horizon: int) -> list[int]:
    """`count` origins, as evenly spread as whole weeks allow, from `least` known weeks to the last possible one."""
    last = weeks - horizon
    if count < 1 or least < 1 or last - least + 1 < count:
        raise UsageError(f"{weeks} weeks have no {count} origins with {least} known weeks or more before {horizon}")
    return [int(origin) for origin in np.linspace(least, last, count).round()]


def scores(forecast: Forecast, truth: Array) -> dict[str, float]:
    """wis, mae and rmse of the median, and the share of truths inside the central 50 % and 95 % intervals.

    truth [week, place]."""
    error = forecast.median() - truth
    return {
        "wis": float(weighted_interval_score(forecast, truth).mean()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "coverage 50": coverage(forecast, truth, 0.5),
        "coverage 95": coverage(forecast, truth, 0.05),
    }


def interval_score(low: Array, high: Array, truth: Array, alpha: float) -> Array:
    """Width plus 2/alpha times what the truth lies outside (Gneiting and Raftery 2007). All [...]."""
    return (high - low) + 2 / alpha * (np.maximum(low - truth, 0) + np.maximum(truth - high, 0))


def weighted_interval_score(forecast: Forecast, truth: Array, alphas: Sequence[float] = ALPHAS) -> Array:
    """(|y − median|/2 + Σ α/2 · IS_α) / (K + 1/2) of K intervals; without intervals |y − median| (Bracher et al. 2021).

    truth [week, place] -> [week, place], in the series' unit, the lower the better."""
    if not all(0 < alpha < 1 for alpha in alphas):
        raise UsageError(f"alphas lie between 0 and 1, got {list(alphas)}")
    total = np.abs(truth - forecast.median()) / 2
    for alpha in alphas:
        total = total + alpha / 2 * interval_score(*forecast.interval(alpha), truth, alpha)
    return total / (len(alphas) + 0.5)


def coverage(forecast: Forecast, truth: Array, alpha: float) -> float:
    """Share of truths inside the central interval of probability 1 − alpha."""
    low, high = forecast.interval(alpha)
    return float(((low <= truth) & (truth <= high)).mean())


def compared(
    windows: Sequence[Window], methods: dict[str, Callable[[Window], Forecast]]
) -> dict[str, dict[str, list[float]]]:
    """Every method on every window: {method: {score: [window]}}; windows are the units of a paired comparison."""
    out: dict[str, dict[str, list[float]]] = {}
    for name, method in methods.items():
        found = [window.score(method(window)) for window in windows]
        out[name] = {score: [row[score] for row in found] for score in found[0]}
    return out
