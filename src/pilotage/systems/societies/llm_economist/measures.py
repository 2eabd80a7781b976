"""What is measured for LLM Economist: games, kinds of workers, populations against the survey, votes, scale."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import product
from typing import Any

QUICK = "--years 3 --tax-year 12 --updates 2"
"""Added to a command in a quick pass."""
SAMPLE, QUICK_SAMPLE = 5_000, 300
CRITICAL = 1.95
"""Of the Kolmogorov-Smirnov statistic times √n, at p = .001."""
HELD_OUT = 5_000
"""Survey units that resampling does not draw from."""


def played(arm: str, unit: int, context: Any) -> dict[str, float]:
    """One run of the arm's command: the numbers of its result."""
    del arm, unit
    return dict(_run(context))


def _run(context: Any) -> Mapping[str, float]:
    metrics: Mapping[str, float] = context.train(
        command=f"{context.command} {QUICK}" if context.quick else None
    ).metrics
    return metrics


# ---- kinds of workers ------------------------------------------------------------------------------------------------


def kinds(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The same people at flat 50 %, a tenth of them altruistic, adversarial, or as selfish as the rest ("selfish"):
    welfare per head, and the weekly hours of that tenth and of its better-paid half."""
    import torch

    from pilotage.environments.economy.tax_schedule import THREE
    from pilotage.systems.societies.llm_economist.env.population import GB2, population_of
    from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame

    generator = torch.Generator().manual_seed(unit)
    people = population_of(GB2().sample(100 if context.quick else 1000, generator))
    shares = {"selfish": (0.0, 0.0), "altruistic": (0.1, 0.0), "adversarial": (0.0, 0.1), "mixed": (0.1, 0.1)}[arm]
    # Drawn before anything else depends on the arm, so that the tenth is the same people in all arms.
    drawn = people.with_kinds(0.1, 0.1, torch.Generator().manual_seed(unit))
    altruists, adversaries = drawn.kind == 1, drawn.kind == 2
    kind = torch.where(altruists & (shares[0] > 0), 1, 0) + torch.where(adversaries & (shares[1] > 0), 2, 0)
    game = TaxGame(type(people)(people.skill, people.cost, kind), THREE)
    year = game.play([50.0, 50.0, 50.0])
    rich = people.skill > people.skill.median()
    return {
        "welfare": float(year.welfare),
        "altruists' hours": float(year.hours[altruists].mean()),
        "well-paid altruists' hours": float(year.hours[altruists & rich].mean()),
        "adversaries' hours": float(year.hours[adversaries].mean()),
        "hours": float(year.hours.mean()),
    }


def backward_induction(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Two workers of random skills and kinds: whether what the game computes as best responses leaves neither anything
    to gain, payoffs being computed by hand for all 121 pairs of hours; and whether the leader's grid optimum is the
    best of all schedules under such followers (7 levels of two rates)."""
    del arm, context
    import torch

    from pilotage.environments.economy.tax_schedule import Schedule
    from pilotage.planning.box_search import enumerate_grid
    from pilotage.systems.societies.llm_economist.env.population import Population
    from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame

    generator = torch.Generator().manual_seed(unit)
    skill = (200 + 4800 * torch.rand(2, generator=generator)).double()
    kind = torch.randint(0, 3, (2,), generator=generator)
    people = Population(skill, torch.full_like(skill, 0.02), kind)
    game = TaxGame(people, (0.0, 60_000.0))
    levels = [0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0]
    best, stable = -math.inf, True
    for rates in product(levels, repeat=2):
        schedule = Schedule(game.edges, torch.tensor(rates, dtype=torch.float64))
        income = skill[:, None] * game.hours
        paid = schedule.tax(income)
        effort = people.cost[:, None] * game.hours**game.delta
        rebate = (paid[0][:, None] + paid[1][None, :]) / 2
        first = (income - paid - effort)[0][:, None] + rebate
        second = (income - paid - effort)[1][None, :] + rebate
        welfare = (game.weights[0] * first + game.weights[1] * second) / 2
        wanted = [(own, welfare, -welfare)[int(k)] for own, k in zip((first, second), kind, strict=True)]
        a, b = game.best_response(list(rates)).tolist()
        stable &= bool(wanted[0][a, b] >= wanted[0][:, b].max() - 1e-6 and wanted[1][a, b] >= wanted[1][a].max() - 1e-6)
        best = max(best, float(welfare[a, b]))
    leader = enumerate_grid(game.score, levels, 2).value
    return {"equilibrium": float(stable and abs(leader - best) <= 1e-6 * abs(best))}


# ---- populations -----------------------------------------------------------------------------------------------------


def _survey(unit: int) -> tuple[Any, Any, Any]:
    """Working units in two halves, split by unit; and a generator for what follows."""
    import torch

    from pilotage.systems.societies.llm_economist.env.population import read_tax_units

    units = read_tax_units().working()
    generator = torch.Generator().manual_seed(unit)
    order = torch.randperm(len(units), generator=generator)
    return units[order[HELD_OUT:]], units[order[:HELD_OUT]], generator


def incomes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Kolmogorov-Smirnov distances of sampled incomes. "gb2": drawn from the fit; "resampled": from half of the survey.
    To the fit itself, and to the other half's wages of first earners, of couples, and all that they earned."""
    from pilotage.systems.societies.llm_economist.env.population import GB2, ks_distance, resample

    count = QUICK_SAMPLE if context.quick else SAMPLE
    own, other, generator = _survey(unit)
    growth = context.configuration().income_growth
    found = {}
    for who in ("primary", "unit", "earned"):
        sample = (
            GB2().sample(count, generator) if arm == "gb2" else resample(own.earnings(who, growth), count, generator)
        )
        found[f"distance to {who}"] = ks_distance(sample, other.earnings(who, growth))
        if who == "primary":
            found["distance to fit"] = ks_distance(sample, GB2().cdf)
    return {
        **found,
        "follows the fit": float(found["distance to fit"] * math.sqrt(count) < CRITICAL),
        "near the survey": float(found["distance to primary"] <= 0.1),
    }


def marginals(arm: str, unit: int, context: Any) -> dict[str, float]:
    """χ² of the ages (three groups) and filing statuses of 400 personas against the survey's shares."""
    del arm
    import numpy as np
    import torch
    from scipy.stats import chisquare

    from pilotage.systems.societies.llm_economist.env.population import population_of, read_tax_units, resample
    from pilotage.systems.societies.llm_economist.llm_workers import make_archetypes

    units = read_tax_units().working()
    earns = units.columns["wages_primary"] > 0
    units = units[earns.nonzero()[:, 0]]
    generator = torch.Generator().manual_seed(unit)
    growth = context.configuration().income_growth
    people = population_of(resample(units.earnings("primary", growth), 4000, generator))
    made = make_archetypes(people.skill, units, generator, growth=growth, bins=20, personas=20)
    statuses = ("single", "mjoint", "headhh")  # the others are too few for χ²

    def counts(ages: Any, status: Any) -> Any:
        groups = np.digitize(np.asarray(ages), (30, 45))
        names = np.asarray(status)
        return np.array([((groups == g) & (names == s)).sum() for g, s in product(range(3), statuses)])

    drawn = counts([p.age for p in made.personas], [p.status for p in made.personas])
    whole = counts(units.columns["age_head"].tolist(), units.status)
    p = float(chisquare(drawn, whole / whole.sum() * drawn.sum()).pvalue)
    return {"p": p, "fits": float(p >= 0.001)}


# ---- votes -----------------------------------------------------------------------------------------------------------


def flat_rate(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The flat rate in percent: "elected": mean of the last years of a run; "median": that which the worker of median
    skill likes best, all others responding."""
    import torch

    if arm == "elected":
        return {"rate": _run(context)["rate/1"]}
    from pilotage.random.streams import Streams
    from pilotage.systems.societies.llm_economist.optimal_tax import median_voter
    from pilotage.systems.societies.llm_economist.scenario import GRID, make_world

    world = make_world(context.configuration(), Streams(unit).torch)
    utility = world.game.play(torch.tensor(GRID, dtype=torch.float64)[:, None]).utility
    return {"rate": GRID[median_voter(utility, world.game.population.skill)]}


# ---- scale -----------------------------------------------------------------------------------------------------------


def scale(arm: str, unit: int, context: Any) -> dict[str, float]:
    """A hundred incomes, repeated up to as many workers as the arm names: welfare per head relative to the hundred, CPU
    seconds of a year in which all respond (the best of three), and the most memory that the process ever held."""
    import resource

    import torch

    from pilotage.environments.economy.tax_schedule import THREE
    from pilotage.systems.societies.llm_economist.env.population import GB2, population_of
    from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame

    hundred = GB2().sample(100, torch.Generator().manual_seed(unit))
    count = min(int(arm), 10_000) if context.quick else int(arm)

    def game(size: int) -> TaxGame:
        return TaxGame(population_of(hundred.repeat(size // 100)), THREE, own_rebate=False)

    rates = [70.0, 60.0, 50.0]
    large, base = game(count), game(100)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        year = large.play(rates)
        seconds.append(time.process_time() - began)
    return {
        "welfare": float(year.welfare / base.score(rates)),
        "seconds": min(seconds),
        "log seconds per worker": math.log(min(seconds) / count),
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
