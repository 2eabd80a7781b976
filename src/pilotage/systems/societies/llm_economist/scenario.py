"""The population that a configuration describes, and the schedules with which a run is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import federal_schedule
from pilotage.planning.box_search import Found, cma_es, enumerate_grid, pattern_search, restarts
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.population import (
    GB2,
    WorkerPopulation,
    gini,
    population_of,
    read_tax_units,
    resample,
)
from pilotage.systems.societies.llm_economist.env.tax_game import FLAT, THREE, TaxGame, Year
from pilotage.systems.societies.llm_economist.env.workers import Satisfaction
from pilotage.systems.societies.llm_economist.optimal_tax import saez_fixed_point

GeneratorSource = Callable[[str], torch.Generator]
"""Returns the random generator of a name, as `Run.generator` and `Streams(seed).torch` do."""
GRID = tuple(float(rate) for rate in range(0, 101, 10))
"""Rates in percent that a planner can reach by changes in tens from a multiple of ten."""
ENUMERATED = 3
"""Largest number of brackets for which all combinations are tried."""
MOST_ENUMERATED = 20_000
"""Largest number of workers for which all combinations are tried; larger populations are searched."""


@dataclass(frozen=True)
class TaxWorld:
    """A population under brackets, with its attitudes to taxes and their rule of satisfaction."""

    game: TaxGame
    ideology: Tensor
    """Attitude to redistribution, −1 to 1, [worker]."""
    satisfaction: Satisfaction | None
    """The logistic rule; None without satisfaction, or where a language model is asked."""

    def score(self, rates: Tensor) -> Tensor:
        """Return welfare per head of schedules [..., bracket] when all workers play their best response.

        It is the expectation over who is content; habits and exploration are left out.
        """
        return self.welfare_of(self.game.play(rates))

    def welfare_of(self, year: Year) -> Tensor:
        """Return welfare per head of years [...], as expectation over who is content."""
        if self.satisfaction is None:
            return year.welfare
        return self.game.welfare(self.satisfaction.expected(year) * year.utility, year.income)

    def with_edges(self, edges: Tensor, config: TaxDesignConfig) -> TaxWorld:
        """Return the same people and weights under other brackets."""
        game = make_game(config, self.game.population, edges)
        return TaxWorld(game, self.ideology, self.satisfaction and replace(self.satisfaction, game=game))


def edges_of(config: TaxDesignConfig) -> Tensor:
    """Return the lower edges in dollars of the configured brackets, [bracket]."""
    if config.edges:
        return torch.tensor(config.edges, dtype=torch.float64)
    if config.brackets == "federal":
        return federal_schedule(config.year, config.status).edges
    return torch.tensor(FLAT if config.brackets == "flat" else THREE, dtype=torch.float64)


def incomes_of(config: TaxDesignConfig, generator: torch.Generator) -> Tensor:
    """Sample incomes in dollars a year at 40 hours a week, float64 [worker]."""
    if config.incomes == "gb2":
        return GB2().sample(config.agents, generator)
    units = read_tax_units(config.tax_units).working()
    return resample(units.earnings(config.incomes.removeprefix("cps-"), config.income_growth), config.agents, generator)


def make_population(config: TaxDesignConfig, source: GeneratorSource) -> WorkerPopulation:
    """Build the configured workers from the streams population, costs and kinds."""
    people = population_of(incomes_of(config, source("population")), cost=config.cost, delta=config.delta)
    if config.cost_spread:
        people = people.with_costs_spread(config.cost_spread, source("costs"))
    if config.altruistic or config.adversarial:
        people = people.with_kinds(config.altruistic, config.adversarial, source("kinds"))
    return people


def make_game(config: TaxDesignConfig, people: WorkerPopulation, edges: Tensor) -> TaxGame:
    """Build the game of a population under brackets."""
    steps = round(100 / config.hours_step)
    return TaxGame(
        people,
        edges,
        hours=[config.hours_step * step for step in range(steps + 1)],
        delta=config.delta,
        swf=config.swf,
        weights_from=config.weights_from,
        floor=config.floor,
    )


def make_world(config: TaxDesignConfig, source: GeneratorSource) -> TaxWorld:
    """Build the world of a configuration; every seed of the streams gives another population."""
    game = make_game(config, make_population(config, source), edges_of(config))
    ideology = 2 * torch.rand(config.agents, generator=source("ideology"), dtype=torch.float64) - 1
    rule = Satisfaction(game, ideology) if config.satisfaction and config.workers != "llm" else None
    return TaxWorld(game, ideology, rule)


# ---- reference schedules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceSchedule:
    """A schedule with which runs are compared, and its metrics under best responses."""

    name: str
    edges: Tensor
    rates: Tensor
    """Marginal rates in percent, [bracket], as `edges` in dollars."""
    welfare: float
    hours: float
    output: float
    """Income per head before tax, dollars a year."""
    gini: float
    """Gini coefficient of income after tax and rebate."""
    rebate: float
    """Dollars a year."""

    def record(self) -> dict[str, Any]:
        """Return the fields as plain numbers and lists, for a file or a table."""
        return {
            **{name: value for name, value in vars(self).items() if not isinstance(value, Tensor)},
            "edges": self.edges.tolist(),
            "rates": self.rates.tolist(),
        }


def reference_schedule(name: str, world: TaxWorld, rates: Tensor) -> ReferenceSchedule:
    """Return the metrics of constant rates [bracket] in percent under best responses."""
    year = world.game.play(rates)
    after = (year.income - year.tax + year.rebate).clamp(min=0)
    numbers = (world.welfare_of(year), year.hours.mean(), year.income.mean(), gini(after), year.rebate)
    return ReferenceSchedule(name, world.game.edges, year.rates, *(float(number) for number in numbers))


def reference_schedules(
    config: TaxDesignConfig, world: TaxWorld, generator: torch.Generator
) -> dict[str, ReferenceSchedule]:
    """Return the optimum, Saez's formula, a flat 50 % and the federal schedule, by name."""
    law = federal_schedule(config.year, config.status)
    return {
        "optimum": reference_schedule("optimum", world, best_schedule(world, generator).point),
        "saez": reference_schedule("saez", world, saez(config, world)),
        "flat_50": reference_schedule("flat_50", world, torch.full_like(world.game.edges, 50)),
        "federal": reference_schedule("federal", world.with_edges(law.edges, config), law.rates),
    }


def best_schedule(world: TaxWorld, generator: torch.Generator) -> Found:
    """Return the optimum of the planner as leader (Stackelberg) against workers who respond.

    It is exact over rates in tens with up to three brackets and 20,000 workers, otherwise the best of pattern searches
    from five starts and of CMA-ES.
    """
    brackets, many = len(world.game.edges), len(world.game) > MOST_ENUMERATED
    if brackets <= ENUMERATED and not many:
        return enumerate_grid(world.score, GRID, brackets)
    levels = (50.0,) if many else (50.0, 20.0, 40.0, 60.0, 80.0)
    starts = torch.tensor(levels, dtype=torch.float64)[:, None].expand(-1, brackets)
    found = [restarts(lambda start: pattern_search(world.score, start, evaluations=200), starts)]
    if not many:
        found.append(cma_es(world.score, found[0].point, generator, evaluations=600))
    return max(found, key=lambda one: one.value)


def saez(config: TaxDesignConfig, world: TaxWorld) -> Tensor:
    """Return the rates [bracket] of Saez's formula at the incomes that these rates lead to.

    The formula knows the welfare weights, and of behaviour only the configured elasticity.
    """
    if config.swf == "paper":
        # The weights move with behaviour; the formula takes those of incomes without taxes.
        free = world.game.play(torch.zeros_like(world.game.edges)).income
        weights = 1 / free.clamp(min=config.floor)
    else:
        weights = world.game.weights
    e = config.elasticity[0] if len(config.elasticity) == 1 else config.elasticity
    return saez_fixed_point(lambda rates: world.game.play(rates).income, weights, world.game.edges, e)


def named_schedule(text: str, references: Mapping[str, ReferenceSchedule], brackets: int) -> Tensor | str:
    """Return the name of a reference schedule, or the rates [bracket] in percent that a text such as "70,60,40" gives.

    Args:
        text: name, or rates separated by commas (one number: for all brackets).
        references: reference schedules by name.
        brackets: number of brackets.

    Raises:
        UsageError: for a text that is neither.
    """
    if text in references:
        return text
    try:
        rates = [float(word) for word in text.split(",")]
    except ValueError:
        rates = []
    if len(rates) not in (1, brackets):
        raise UsageError(
            f"{text!r} is no schedule; give {', '.join(map(repr, references))}, or {brackets} rates in percent "
            "separated by commas"
        )
    return torch.tensor(rates, dtype=torch.float64).expand(brackets)
