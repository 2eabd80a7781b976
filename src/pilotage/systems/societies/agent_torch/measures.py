"""What is measured for AgentTorch: recovery, gradients, archetypes for agents, forecasts, effects, wordings, speed."""

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
"""By age group."""


def run(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """One run of the arm's command, and the error of R_w as a truth value."""
    del arm, unit
    numbers = dict(context.train().metrics)
    return {**numbers, "log wis": math.log(numbers["forecast/wis"] + 1e-9)}


# ---- speed -----------------------------------------------------------------------------------------------------------


def speed(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Processor time of an agent-day and of the whole city's 60 days, one thread, and what memory the process took.

    arm: full (8,336,817 agents), tenth, hundredth, objects (an object per person in Python, ten thousand)."""
    import torch

    from pilotage.systems.societies.agent_torch.data.nyc_people import TOTAL
    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

    days = 3 if context.quick else 10
    if arm == "objects":
        people, begun = 2_000 if context.quick else 10_000, time.process_time()
        _objects(people, days, unit)
    else:
        part = {"full": 1, "tenth": 10, "hundredth": 100}[arm] * (100 if context.quick else 1)
        people = max(1000, TOTAL // part)
        city = tiny_city(people)
        parameters = Parameters(torch.tensor(2.4), None, torch.tensor(0.01))
        begun = time.process_time()
        simulate(city, parameters, days=days, seed=unit)
    seconds = (time.process_time() - begun) / days
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform != "darwin" else 1)
    return {
        "seconds per day": seconds,
        "log seconds per agent-day": math.log(max(seconds, 1e-9) / people),
        "minutes for 60 days": seconds,
        "60 days in 3 minutes": float(60 * seconds <= 180),
        "peak gigabytes": peak / 1e9,
        "under 3 GB": float(peak <= 3e9),
    }


def _objects(count: int, days: int, seed: int) -> int:
    """An epidemic of six contacts a day, one object per person: what a first program of one's own does."""
    import random

    class Person:
        __slots__ = ("day", "stage")

        def __init__(self, stage: int) -> None:
            self.stage, self.day = stage, 0

    draw = random.Random(seed)
    people = [Person(1 if draw.random() < 0.01 else 0) for _ in range(count)]
    for _ in range(days):
        for _ in [p for p in people if p.stage]:
            for _ in range(6):
                other = people[draw.randrange(count)]
                if other.stage == 0 and draw.random() < 0.05:
                    other.stage = 1
        for person in people:
            if person.stage:
                person.day += 1
                if person.day > 9:
                    person.stage = 2
    return sum(person.stage > 0 for person in people)


# ---- calibration -----------------------------------------------------------------------------------------------------


def recovery(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Planted R of eight weeks (and, known to every method, isolation by age) at the same number of simulations.

    arm: gradient (Adam through every day), same day (Adam, earlier days held constant), cma, abc. `error`: mean
    relative error of R_w; `within 5 %`: share of weeks."""
    import torch

    from pilotage.systems.societies.agent_torch.bounded import Bounded
    from pilotage.systems.societies.agent_torch.calibration import Calibrator, searched
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
            cross_day=arm != "same day",
        )
        # The first and last days of a week's infections fall ill five days later: exposures tell R of their own week.
        return weekly(outcome.exposed)

    # Averages of several planted runs, so that what is to be found is not one run's luck; other seeds than below.
    observed = torch.stack([cases(planted, 10_000 + 100 * unit + k) for k in range(1 if context.quick else 8)]).mean(0)
    start = torch.full((weeks,), 2.95)
    if arm in ("gradient", "same day"):
        made = Calibrator(
            Bounded(start, low, high),
            lambda rates, seed: cases(rates, seed, gradients=True),
            observed,
            rate=0.15,
            decay_over=simulations,
            seed=1000 * unit,
            fresh_noise=True,
        )
        for _ in range(simulations):
            made.step()
        found = made.model().detach()
    else:
        generator = torch.Generator().manual_seed(unit)
        found, _ = searched(
            lambda rates, seed: cases(rates, seed),
            observed,
            low,
            high,
            generator,
            method="cma" if arm == "cma" else "abc",
            evaluations=simulations,
            seed=1000 * unit,
        )
    error = (found - planted).abs() / planted
    return {
        "error": float(error.mean()),
        "largest error": float(error.max()),
        "within 5 %": float((error <= 0.05).float().mean()),
        "mean within 5 %": float(error.mean() <= 0.05),
    }


def gradient_error(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """A gradient of total infections by R_w of four weeks against central differences under common random numbers.

    arm: left, straight_through, smoothed, score. `bias`: |mean − truth| / |truth| over seeds; `noise`: sd of a single
    estimate over |truth|; `off`: root of bias² + noise², what a step that takes one simulation is off by."""
    import torch

    from pilotage.objectives.discrete_gradients import score_function
    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

    people, seeds, weeks = (500, 2, 2) if context.quick else (4_000, 12, 4)
    city = tiny_city(people, seed=unit)
    rates = torch.tensor(PLANTED_R[:weeks])

    def total(values: Any, seed: int, **more: Any) -> Any:
        parameters = Parameters(values, torch.tensor(PLANTED_ISOLATION), torch.tensor(0.01))
        return simulate(city, parameters, days=7 * weeks, seed=seed, **more)

    estimates = []
    for k in range(seeds):
        values = rates.clone().requires_grad_()
        outcome = total(values, 1000 * unit + k, differentiable=True, estimator=arm)
        if arm == "score":
            objective = score_function(outcome.log_probability, outcome.exposed.sum())
        else:
            objective = outcome.exposed.sum()
        estimates.append(torch.autograd.grad(objective, values)[0])
    found = torch.stack(estimates).double()
    step = 0.3
    slopes = []
    for week in range(weeks):
        moved = [rates + sign * step * torch.eye(weeks)[week] for sign in (1, -1)]
        ends = [
            np.mean([float(total(m, 500_000 + 1000 * unit + k).exposed.sum()) for k in range(2 * seeds)]) for m in moved
        ]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    truth = torch.tensor(slopes, dtype=torch.float64)
    size = float(truth.norm())
    bias, noise = float((found.mean(0) - truth).norm()) / size, float(found.var(0).sum().sqrt()) / size
    return {"bias": bias, "noise": noise, "off": math.hypot(bias, noise), "log off": math.log(math.hypot(bias, noise))}


# ---- archetypes ------------------------------------------------------------------------------------------------------


def archetypes(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """2,000 agents with propensities of their own inside each kind; the curve when kinds are asked about, against the
    one when everybody is. `error`: root mean squared difference of daily infections over their mean, ten epidemics.

    arm: one, ages, kinds: 1, 6, 30 archetypes, asked exactly; draws 1, draws 5, draws 20: 30 archetypes of so many
    answers each."""
    import torch

    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

    people, epidemics = (300, 1) if context.quick else (2_000, 10)
    city = tiny_city(people, seed=unit)
    generator = torch.Generator().manual_seed(unit)
    kind = city.age.long() * 5 + city.borough.long()
    # Between kinds an age and a borough matter; inside of a kind people differ too.
    logit = torch.linspace(-2.2, 0.6, 6)[city.age.long()] + torch.linspace(-0.6, 0.6, 5)[city.borough.long()]
    own = torch.sigmoid(logit + 0.7 * torch.randn(people, generator=generator))
    groups = {"one": torch.zeros_like(kind), "ages": city.age.long()}.get(arm, kind)
    count = int(groups.max()) + 1
    members = torch.bincount(groups, minlength=count).clamp(min=1)
    share = torch.zeros(count).index_add(0, groups, own) / members
    calls = int(torch.bincount(groups, minlength=count).count_nonzero())
    if arm.startswith("draws"):
        answers = int(arm.split()[1])
        yes = torch.binomial(torch.full((count,), float(answers)), share, generator=generator)
        share, calls = (1 + yes) / (2 + answers), calls * answers
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
    return {"error": error, "calls": float(calls), "share of calls": calls / people}


# ---- wordings --------------------------------------------------------------------------------------------------------


def wording(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """In how many of ten seeds P3O ends at the wording that is known to be best, of twelve prompts, scripted."""
    del arm
    import torch

    from pilotage.llm import Service
    from pilotage.llm.yes_no import poll, scripted_yes_no
    from pilotage.systems.societies.agent_torch.prompt_optimisation import PromptSlots, SlotOptimiser

    roles = {"You are careful.": 0.3, "You are bold.": 0.1, "You are a person.": 0.6}
    stress = {"Think of others.": 0.2, "Think of money.": -0.05, "Think.": 0.0, "Decide.": -0.1}
    wordings = {"role": list(roles), "stress": list(stress)}

    def says(text: str) -> float:
        return sum(value for part in (roles, stress) for words, value in part.items() if words in text)

    right = 0
    for seed in range(2 if context.quick else 10):
        with Service(scripted_yes_no(says, "citizen", seed=10 * unit + seed)) as service:

            def share(prompts: Any, service: Any = service) -> Any:
                return torch.tensor(
                    [p.share for p in poll(service, [[("user", x)] for x in prompts], first_token=True)]
                )

            made = SlotOptimiser(PromptSlots("[[role]] [[stress]] Do you isolate?", wordings), share, 0.8, scale=0.2)
            generator = torch.Generator().manual_seed(10 * unit + seed)
            for _ in range(3 if context.quick else 60):
                step = made.step(generator)
        right += step.best == "You are a person. Think of others. Do you isolate?"
    return {"right of ten": float(right), "nine of ten": float(right >= 9)}


# ---- effects ---------------------------------------------------------------------------------------------------------


def earlier(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Reported cases and deaths in the known weeks of a calibrated run, five pairs of simulations.

    arm: as it was; earlier (everybody isolates as two weeks later); frozen (at its mean over the weeks)."""
    del unit
    from pathlib import Path

    from pilotage.systems.societies.agent_torch.actions import counterfactual

    result = context.train()
    change = "earlier" if arm == "as it was" else arm
    pairs = 2 if context.quick else 5
    weeks = 1.0 if context.quick else 2.0
    table = counterfactual(context.configuration(), Path(result.run), change, weeks, pairs)
    cases, deaths = table["reported cases and deaths in the known weeks"]
    side = "as it was" if arm == "as it was" else "changed"
    return {"log cases": math.log(cases[side] + 1), "log deaths": math.log(deaths[side] + 1)}


def attack_rates(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Share infected within twelve days, among those who live with somebody infected at first, and among the others.

    arm: household, elsewhere. A mean-field equation has no such difference."""
    import torch

    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city
    from pilotage.systems.societies.agent_torch.env.infection import NEVER

    city = tiny_city(2_000 if context.quick else 20_000, seed=unit)
    outcome = simulate(city, Parameters(torch.tensor(3.0), None, torch.tensor(0.005)), days=12, seed=unit)
    assert outcome.state is not None
    day = outcome.state["infected_at"].long()
    ill, home = day != NEVER, city.households.of.long()
    first = ill & (day < 0)
    with_first = torch.zeros(len(city.households), dtype=torch.bool)
    with_first[home[first]] = True
    part = with_first[home] & ~first if arm == "household" else ~with_first[home]
    return {"log attack rate": math.log(float(ill[part].float().mean()) + 1e-6)}


# ---- forecasts -------------------------------------------------------------------------------------------------------


def wave(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Scores of four weeks of the winter wave from one of six origins (the unit), by the arm's command.

    arm: persistence and seir give the scores of these, from the same window."""
    from pilotage.systems.societies.agent_torch.forecast_scores import spread_origins

    weeks, least, horizon = (8, 2, 1) if context.quick else (30, 8, 4)
    origin = spread_origins(weeks, count=6, least=least, horizon=horizon)[unit % 6]
    short = " --last 2020-10-24 --horizon 1 --agents 2000 --steps 1" if context.quick else ""
    numbers = context.train(command=f"{context.command}{short} --known {origin}", seed=0).metrics
    who = arm if arm in ("persistence", "seir") else "forecast"
    scores = {name.partition("/")[2]: value for name, value in numbers.items() if name.startswith(f"{who}/")}
    return {**scores, "log wis": math.log(scores["wis"] + 1e-9), "log rmse": math.log(scores["rmse"] + 1e-9)}


# ---- unemployment ----------------------------------------------------------------------------------------------------


def unemployment(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Leave-one-month-out error of a regression that ties its numbers over time: per borough a level and a slope.

    unit: 0 … 4, the borough. arm: behaviour: the slope is on the share of low-wage people who go to work, by the
    scripted formula and the city's cases; constant: no slope, the ablation; trend: the slope is on the month's number.
    """
    del context
    import torch

    from pilotage.systems.societies.agent_torch.data.nyc_unemployment import MONTHS
    from pilotage.systems.societies.agent_torch.data.nyc_unemployment import unemployment as rates

    target = rates()[:, unit].double()
    months = torch.arange(len(MONTHS), dtype=torch.float64)
    columns = {
        "constant": [],
        "trend": [months],
        "behaviour": [_work(MONTHS)],
    }[arm]
    x = torch.stack([torch.ones_like(months), *columns], 1)
    errors = []
    for month in range(len(MONTHS)):
        kept = torch.arange(len(MONTHS)) != month
        fit = torch.linalg.lstsq(x[kept], target[kept, None]).solution[:, 0]
        errors.append(float(x[month] @ fit - target[month]))
    return {"mae": float(np.mean(np.abs(errors)))}


def _work(months: tuple[str, ...]) -> Any:
    """[months] share of low-wage people who work, from the city's reported cases and the two stimulus payments."""
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
