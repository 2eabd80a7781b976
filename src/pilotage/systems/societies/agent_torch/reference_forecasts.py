"""Reference forecasts: the last week repeated, and a compartment model with four parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.forecast_scores import Array, Forecast, Window

LATENT_DAYS = 3.0


def persistence(window: Window) -> Forecast:
    """Forecast the last observed week for all later weeks.

    Draws are the last count times the past changes over h weeks, and their inverses, so that the median is the last
    week itself. Changes are those of log(count + 1), pooled over places.
    """
    logs = np.log1p(window.observed)
    last = logs[-1]
    count = 400
    level = (np.arange(count) + 0.5) / count
    weeks = []
    for ahead in range(1, window.horizon + 1):
        changes = (logs[ahead:] - logs[:-ahead]).ravel() if len(logs) > ahead else np.zeros(1)
        both = np.concatenate([changes, -changes])
        weeks.append(np.expm1(last[None] + np.quantile(both, level)[:, None]))
    return Forecast(np.maximum(np.stack(weeks, axis=1), 0), window.origin)


@dataclass(frozen=True)
class SEIR:
    """Compartment model (susceptible, exposed, infected, recovered) of a closed, evenly mixed population."""

    reproduction: float
    """R0: persons infected by one person among susceptibles."""
    infectious_days: float
    """Mean days in I."""
    initial: float
    """Share exposed, and as many infected, on day 0."""
    reported: float
    """Share of infections that become cases."""

    def weekly(self, weeks: int) -> list[float]:
        """Return the cases of each week as a share of the population, simulated in four steps a day."""
        step = 0.25
        # Shares per step; with these, one infected infects R0 whatever the step.
        ripening, leaving = -math.expm1(-step / LATENT_DAYS), -math.expm1(-step / self.infectious_days)
        exposed = infected = self.initial
        susceptible = max(0.0, 1 - exposed - infected)
        out = []
        for _ in range(weeks):
            total = 0.0
            for _ in range(round(7 / step)):
                new = susceptible * -math.expm1(-self.reproduction * leaving * infected)
                ill, well = exposed * ripening, infected * leaving
                susceptible, exposed, infected = susceptible - new, exposed + new - ill, infected + ill - well
                total += ill
            out.append(self.reported * total)
        return out


_LOW = np.log([0.3, 2.0, 1e-7, 0.02])
_HIGH = np.log([6.0, 20.0, 0.05, 1.0])
_STARTS = np.log([[1.3, 5.0, 1e-4, 0.3], [2.0, 8.0, 1e-5, 0.1], [1.05, 4.0, 1e-3, 0.5]])


def fit_seir(counts: Array, population: float) -> tuple[SEIR, Array]:
    """Fit the four parameters to weekly counts by least squares in log(count + 1), from three starts.

    Returns the model and the residuals [week]. Raises UsageError for fewer than four weeks.
    """
    if len(counts) < 4 or not population > 0:
        raise UsageError(f"four parameters need four weeks or more and people, got {len(counts)} and {population}")
    target = np.log1p(counts)

    def residuals(logs: Array) -> Array:
        return np.log1p(population * np.array(SEIR(*np.exp(logs).tolist()).weekly(len(counts)))) - target

    fits = [least_squares(residuals, start, bounds=(_LOW, _HIGH), max_nfev=40) for start in _STARTS]
    best = min(fits, key=lambda fit: fit.cost)
    return SEIR(*np.exp(best.x).tolist()), best.fun


def seir(window: Window, population: Array, *, generator: np.random.Generator, draws: int = 200) -> Forecast:
    """Forecast by an SEIR model fitted to the observed weeks of each place.

    A residual of the fit, drawn per draw and place, times the square root of the weeks ahead is added to
    log(count + 1).

    Args:
        window: the observed weeks.
        population: persons [place].
        generator: random numbers.
        draws: number of draws.
    """
    places = []
    for place, people in enumerate(population):
        fitted, residuals = fit_seir(window.observed[:, place], float(people))
        curve = people * np.array(fitted.weekly(window.origin + window.horizon))[window.origin :]
        noise = generator.choice(residuals - np.median(residuals), size=(draws, 1))
        ahead = np.sqrt(np.arange(1, window.horizon + 1))
        places.append(np.maximum(np.expm1(np.log1p(curve) + noise * ahead), 0))
    return Forecast(np.stack(places, axis=2), window.origin)
