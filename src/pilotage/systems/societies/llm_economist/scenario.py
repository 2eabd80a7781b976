"""From a configuration to a population and the schedules that it is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import FLAT, THREE, federal_schedule
from pilotage.planning.box_search import Found, cma_es, enumerate_grid, pattern_search, restarts
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.population import (
    GB2,
    Population,
    gini,
    population_of,
    read_tax_units,
    resample,
)
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year
from pilotage.systems.societies.llm_economist.env.workers import Satisfaction
from pilotage.systems.societies.llm_economist.optimal_tax import saez_fixed_point

Source = Callable[[str], torch.Generator]
"""Generators by name, as `Run.generator` and `Streams(seed).torch` give them."""
GRID = tuple(float(rate) for rate in range(0, 101, 10))
"""Rates that a planner who moves in tens from a multiple of ten can set."""
ENUMERATED = 3
"""Most brackets for which all combinations are tried."""
MOST_ENUMERATED = 20_000
"""Workers up to which they are; more are searched, in a hundredth of the time."""


@dataclass(frozen=True)
class World:
    """A population under brackets, and how society judges it."""

    game: TaxGame
    ideology: Tensor
    """[N], −1 to 1."""
    satisfaction: Satisfaction | None
    """The logistic rule; None where nobody asks, or a model is asked."""

    def score(self, rates: Tensor) -> Tensor:
        """[*K, B] -> [*K]: welfare per head when everybody responds as well as it can, in expectation over who is
        content. The yardstick: habits and exploration are left out."""
        return self.judge(self.game.play(rates))

    def judge(self, year: Year) -> Tensor:
        """[*K]: welfare per head of years, in expectation over who is content."""
        if self.satisfaction is None:
            return year.welfare
        return self.game.welfare(self.satisfaction.expected(year) * year.utility, year.income)

    def with_edges(self, edges: Tensor, config: TaxDesignConfig) -> World:
        """The same people and weights under other brackets."""
        game = make_game(config, self.game.population, edges)
        return World(game, self.ideology, self.satisfaction and replace(self.satisfaction, game=game))


def edges_of(config: TaxDesignConfig) -> Tensor:
    """[B] lower edges in dollars."""
    if config.edges:
        return torch.tensor(config.edges, dtype=torch.float64)
    if config.brackets == "federal":
        return federal_schedule(config.year, config.status).edges
    return torch.tensor(FLAT if config.brackets == "flat" else THREE, dtype=torch.float64)


def incomes_of(config: TaxDesignConfig, generator: torch.Generator) -> Tensor:
    """[agents] float64: dollars a year at 40 hours."""
    if config.incomes == "gb2":
        return GB2().sample(config.agents, generator)
    units = read_tax_units(config.tax_units).working()
    return resample(units.earnings(config.incomes.removeprefix("cps-"), config.income_growth), config.agents, generator)


def make_population(config: TaxDesignConfig, source: Source) -> Population:
    """Workers as the configuration says, from the streams population, costs and kinds."""
    people = population_of(incomes_of(config, source("population")), cost=config.cost, delta=config.delta)
    if config.cost_spread:
        people = people.with_costs_spread(config.cost_spread, source("costs"))
    if config.altruistic or config.adversarial:
        people = people.with_kinds(config.altruistic, config.adversarial, source("kinds"))
    return people


def make_game(config: TaxDesignConfig, people: Population, edges: Tensor) -> TaxGame:
    """The game of a population under brackets."""
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


def make_world(config: TaxDesignConfig, source: Source) -> World:
    """A population of its own for every seed of the streams."""
    game = make_game(config, make_population(config, source), edges_of(config))
    ideology = 2 * torch.rand(config.agents, generator=source("ideology"), dtype=torch.float64) - 1
    rule = Satisfaction(game, ideology) if config.satisfaction and config.workers != "llm" else None
    return World(game, ideology, rule)


# ---- the schedules to be measured against ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Landmark:
    """A schedule and what people make of it when they respond as well as they can."""

    name: str
    edges: Tensor
    rates: Tensor
    """[B] in percent, as `edges` in dollars."""
    welfare: float
    hours: float
    output: float
    """Income per head before tax, dollars a year."""
    gini: float
    """Of income after tax and rebate."""
    rebate: float
    """Dollars a year."""

    def record(self) -> dict[str, Any]:
        """Plain numbers, for a file or a table."""
        return {
            **{name: value for name, value in vars(self).items() if not isinstance(value, Tensor)},
            "edges": self.edges.tolist(),
            "rates": self.rates.tolist(),
        }


def landmark(name: str, world: World, rates: Tensor) -> Landmark:
    """What a schedule [B] brings."""
    year = world.game.play(rates)
    after = (year.income - year.tax + year.rebate).clamp(min=0)
    numbers = (world.judge(year), year.hours.mean(), year.income.mean(), gini(after), year.rebate)
    return Landmark(name, world.game.edges, year.rates, *(float(number) for number in numbers))


def landmarks(config: TaxDesignConfig, world: World, generator: torch.Generator) -> dict[str, Landmark]:
    """The optimum, Saez's formula, a flat 50 % and the law, by name."""
    law = federal_schedule(config.year, config.status)
    return {
        "optimum": landmark("optimum", world, best_schedule(world, generator).point),
        "saez": landmark("saez", world, saez(config, world)),
        "flat 50 %": landmark("flat 50 %", world, torch.full_like(world.game.edges, 50)),
        "federal": landmark("federal", world.with_edges(law.edges, config), law.rates),
    }


def best_schedule(world: World, generator: torch.Generator) -> Found:
    """The leader's optimum against followers who respond: exact over rates in tens with up to three brackets and 20,000
    workers, otherwise the best of pattern searches from five starts and of CMA-ES."""
    brackets, many = len(world.game.edges), len(world.game) > MOST_ENUMERATED
    if brackets <= ENUMERATED and not many:
        return enumerate_grid(world.score, GRID, brackets)
    levels = (50.0,) if many else (50.0, 20.0, 40.0, 60.0, 80.0)
    starts = torch.tensor(levels, dtype=torch.float64)[:, None].expand(-1, brackets)
    found = [restarts(lambda start: pattern_search(world.score, start, evaluations=200), starts)]
    if not many:
        found.append(cma_es(world.score, found[0].point, generator, evaluations=600))
    return max(found, key=lambda one: one.value)


def saez(config: TaxDesignConfig, world: World) -> Tensor:
    """[B]: the formula at the incomes that its own rates lead to. It knows the welfare weights, and of behaviour only
    the elasticity that it is told."""
    if config.swf == "paper":
        # The weights move with behaviour; the formula takes those of incomes without taxes.
        free = world.game.play(torch.zeros_like(world.game.edges)).income
        weights = 1 / free.clamp(min=config.floor)
    else:
        weights = world.game.weights
    e = config.elasticity[0] if len(config.elasticity) == 1 else config.elasticity
    return saez_fixed_point(lambda rates: world.game.play(rates).income, weights, world.game.edges, e)


def named_schedule(text: str, marks: Mapping[str, Landmark], brackets: int) -> Tensor | str:
    """The landmark that a text names, or rates [B] in percent such as "70,60,40" (one number: for all brackets)."""
    if text in marks:
        return text
    try:
        rates = [float(word) for word in text.split(",")]
    except ValueError:
        rates = []
    if len(rates) not in (1, brackets):
        raise UsageError(
            f"{text!r} is no schedule; give {', '.join(map(repr, marks))}, or {brackets} rates in percent separated by "
            "commas"
        )
    return torch.tensor(rates, dtype=torch.float64).expand(brackets)
