"""Measures of AgentTorch's claims: speed, recovery, archetypes, effects, forecasts, unemployment."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

PLANTED_R = (3.6, 4.0, 4.1, 3.9, 3.4, 3.0, 2.8, 3.0)
PLANTED_ISOLATION = (0.05, 0.1, 0.1, 0.1, 0.15, 0.25)
"""Planted probability of isolation by age group."""


# ---- speed -----------------------------------------------------------------------------------------------------------


def speed(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Measure the processor time of the whole city's days on one thread, and the peak memory of the process."""
    del arm
    import torch

    from pilotage.systems.societies.agent_torch.data.nyc_people import TOTAL
    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

    days = 3 if context.quick else 10
    people = TOTAL // 100 if context.quick else TOTAL
    city = tiny_city(people)
    parameters = Parameters(torch.tensor(2.4), None, torch.tensor(0.01))
    began = time.process_time()
    simulate(city, parameters, days=days, seed=unit)
    seconds = (time.process_time() - began) / days
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform != "darwin" else 1)
    return {
        "seconds_per_day": seconds,
        "log_seconds_per_agent_day": math.log(max(seconds, 1e-9) / people),
        "minutes_for_60_days": seconds,
        "60_days_in_3_minutes": float(60 * seconds <= 180),
        "peak_gigabytes": peak / 1e9,
    }


# ---- calibration -----------------------------------------------------------------------------------------------------


def recovery(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Recover the planted R of eight weeks with a hundred simulations; isolation by age is given to every method.

    arm: gradient (Adam through every day) or cma. `error`: mean relative error of R_w.
    """
    import torch

    from pilotage.systems.societies.agent_torch.bounded import Bounded
    from pilotage.systems.societies.agent_torch.calibration import Calibrator, search
    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city, weekly

    people, simulations, weeks = (500, 12, 2) if context.quick else (50_000, 100, len(PLANTED_R))
    city, planted = tiny_city(people), torch.tensor(PLANTED_R[:weeks])
    isolation = torch.tensor(PLANTED_ISOLATION)
    initial = torch.tensor(0.02 if context.quick else 0.004)
    low, high = torch.full((weeks,), 1.4), torch.full((weeks,), 4.5)

    def cases(rates: Any, seed: int, *, gradients: bool = False) -> Any:
        outcome = simulate(
            city,
            Parameters(rates, isolation, initial),
            days=7 * weeks,
            seed=seed,
            differentiable=gradients,
        )
        # The first and last days of a week's infections fall ill five days later: exposures tell R of their own week.
        return weekly(outcome.exposed)

    # Averages of several planted runs, so that what is to be found is not one run's luck; other seeds than below.
    observed = torch.stack([cases(planted, 10_000 + 100 * unit + k) for k in range(1 if context.quick else 8)]).mean(0)
    start = torch.full((weeks,), 2.95)
    if arm == "gradient":
        made = Calibrator(
            Bounded(start, low, high),
            lambda rates, seed: cases(rates, seed, gradients=True),
            observed,
            lr=0.15,
            decay_over=simulations,
            seed=1000 * unit,
            fresh_noise=True,
        )
        for _ in range(simulations):
            made.step()
        found = made.model().detach()
    else:
        generator = torch.Generator().manual_seed(unit)
        found, _ = search(
            lambda rates, seed: cases(rates, seed),
            observed,
            low,
            high,
            generator,
            method="cma",
            evaluations=simulations,
            seed=1000 * unit,
        )
    error = (found - planted).abs() / planted
    return {
        "error": float(error.mean()),
        "largest_error": float(error.max()),
        "within_5_percent": float((error <= 0.05).float().mean()),
        "mean_within_5_percent": float(error.mean() <= 0.05),
    }


# ---- archetypes ------------------------------------------------------------------------------------------------------


def archetypes(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Compare the curve of 2,000 agents asked by archetype with that of agents asked one by one.

    Agents of an archetype differ in their propensities. `error`: root mean squared difference of daily infections over
    their mean, over ten epidemics. arm: one, ages, kinds: 1, 6, 30 archetypes.
    """
    import torch

    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

    people, epidemics = (300, 1) if context.quick else (2_000, 10)
    city = tiny_city(people, seed=unit)
    generator = torch.Generator().manual_seed(unit)
    kind = city.age.long() * 5 + city.borough.long()
    # Kinds differ by age and borough; people of a kind differ too.
    logit = torch.linspace(-2.2, 0.6, 6)[city.age.long()] + torch.linspace(-0.6, 0.6, 5)[city.borough.long()]
    own = torch.sigmoid(logit + 0.7 * torch.randn(people, generator=generator))
    groups = {"one": torch.zeros_like(kind), "ages": city.age.long()}.get(arm, kind)
    count = int(groups.max()) + 1
    members = torch.bincount(groups, minlength=count).clamp(min=1)
    share = torch.zeros(count).index_add(0, groups, own) / members
    calls = int(torch.bincount(groups, minlength=count).count_nonzero())
    curves = []
    for probability, group in ((own, torch.arange(people)), (share, groups)):
        parameters = Parameters(torch.tensor(4.2), probability, torch.tensor(0.01))
        made = [
            simulate(
                city, parameters, days=14 if context.quick else 42, seed=1000 * unit + k, groups=group
            ).exposed.sum(1)
            for k in range(epidemics)
        ]
        curves.append(torch.stack(made).mean(0))
    each, kinds = curves
    error = float((each - kinds).square().mean().sqrt() / each.mean())
    return {"error": error, "calls": float(calls), "share_of_calls": calls / people}


# ---- effects ---------------------------------------------------------------------------------------------------------


def earlier(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Count reported cases and deaths in the observed weeks of a calibrated run, over five pairs of simulations.

    arm: as it was; earlier (isolation starts two weeks earlier).
    """
    del unit
    from pathlib import Path

    from pilotage.systems.societies.agent_torch.actions import counterfactual

    result = context.train()
    pairs = 2 if context.quick else 5
    weeks = 1.0 if context.quick else 2.0
    table = counterfactual(context.configuration(), Path(result.run), "earlier", weeks, pairs)
    cases, deaths = table["reported cases and deaths in the observed weeks"]
    side = "unchanged" if arm == "as it was" else "changed"
    return {"log_cases": math.log(cases[side] + 1), "log_deaths": math.log(deaths[side] + 1)}


# ---- forecasts -------------------------------------------------------------------------------------------------------


def wave(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Score four weeks of the winter wave from one of six origins (the unit), forecast by the arm's command.

    arm: persistence gives the scores of the last observed week repeated, in the same window.
    """
    from pilotage.systems.societies.agent_torch.forecast_scores import spread_origins

    weeks, least, horizon = (8, 2, 1) if context.quick else (30, 8, 4)
    origin = spread_origins(weeks, count=6, least=least, horizon=horizon)[unit % 6]
    short = " --end-week 2020-10-24 --horizon 1 --agents 2000 --steps 1" if context.quick else ""
    numbers = context.train(command=f"{context.command}{short} --observed-weeks {origin}", seed=0).metrics
    who = arm if arm == "persistence" else "forecast"
    scores = {name.partition("/")[2]: value for name, value in numbers.items() if name.startswith(f"{who}/")}
    return {**scores, "log_wis": math.log(scores["wis"] + 1e-9), "log_rmse": math.log(scores["rmse"] + 1e-9)}


# ---- unemployment ----------------------------------------------------------------------------------------------------


def unemployment(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Measure the leave-one-month-out error of a regression of unemployment, with a level and perhaps a slope.

    unit: index of the borough, 0 … 4. arm: behaviour: the slope is on the share of low-wage people who go to work, by
    the scripted formula and the city's cases; constant: no slope.
    """
    del context
    import torch

    from pilotage.systems.societies.agent_torch.data.nyc_unemployment import MONTHS, unemployment_rates

    target = unemployment_rates()[:, unit].double()
    columns = {"constant": [], "behaviour": [_work(MONTHS)]}[arm]
    x = torch.stack([torch.ones(len(MONTHS), dtype=torch.float64), *columns], 1)
    errors = []
    for month in range(len(MONTHS)):
        kept = torch.arange(len(MONTHS)) != month
        fit = torch.linalg.lstsq(x[kept], target[kept, None]).solution[:, 0]
        errors.append(float(x[month] @ fit - target[month]))
    return {"mae": float(np.mean(np.abs(errors)))}


def _work(months: tuple[str, ...]) -> Any:
    """Return the share of low-wage people who work by month, from reported cases and the two stimulus payments."""
    import torch

    from pilotage.systems.societies.agent_torch.data.epidemic_series import kept_series, read_weekly
    from pilotage.systems.societies.agent_torch.data.nyc_people import TOTAL
    from pilotage.systems.societies.agent_torch.scripted import p_work

    series = read_weekly(kept_series())
    shares = []
    for month in months:
        weeks = [index for index, week in enumerate(series.weeks) if str(week)[:7] == month]
        cases = 1e4 * float(series.cases[weeks].sum()) / TOTAL
        shares.append(p_work(cases, month in ("2020-12", "2021-03"), True))
    return torch.tensor(shares, dtype=torch.float64)
