"""Scripted workers: those who compute, those who try, and those with habits and opinions.

A language model can take their place: whatever has `choose` and `learn` as in `Workers` works in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.stateful import Stateful
from pilotage.environments.economy.tax_schedule import tax
from pilotage.systems.societies.llm_economist.env.population import ADVERSARIAL, ALTRUISTIC, FULL_TIME
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year


@dataclass(frozen=True)
class View:
    """What workers see before they choose."""

    game: TaxGame
    rates: Tensor
    """[B] in percent, in force now."""
    step: int
    """From 0."""
    new_rates: bool
    """Whether this is the first step under these rates."""
    last: Year | None
    """The step before, None at the beginning."""


class Workers(Stateful, Protocol):
    """A whole population's choices. `scripted`: whether no language model is asked."""

    scripted: bool

    def choose(self, view: View) -> Tensor:
        """[N] int64: places in `view.game.hours`."""
        ...

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        """After a step. satisfaction [N]: what multiplies everybody's utility, 1 where nobody asks."""
        ...


class Contentment(Protocol):
    """Who is content with the policy: a rule such as `Satisfaction`, or workers who are asked."""

    def draw(self, year: Year, generator: torch.Generator) -> Tensor:
        """[N]: what multiplies everybody's utility this step."""
        ...


class RationalWorkers:
    """The best response, computed."""

    scripted = True

    def choose(self, view: View) -> Tensor:
        return view.game.best_response(view.rates)

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class AdaptiveWorkers:
    """Each worker is an ε-greedy bandit over the grid of hours: under new rates it forgets, tries each place once in an
    order of its own, then takes the one with the best mean; at the t-th step since then it takes any one with
    probability ε / t, for hours far off are dear. It knows neither its skill nor the schedule, only what came of what
    it did, as a model that learns in context does."""

    scripted = True

    def __init__(
        self, game: TaxGame, generator: torch.Generator, *, epsilon: float = 0.1, blames_rebate: bool = False
    ) -> None:
        """epsilon: 0 to 1; blames_rebate: whether selfish workers take the common rebate, which others' hours move, for
        something that their own hours brought, which makes them err.
        The game gives the number of workers, the grid and the kinds; nothing else is looked at."""
        if not 0 <= epsilon <= 1:
            raise UsageError(f"ε is a probability, got {epsilon}")
        self.generator, self.epsilon, self.blames_rebate = generator, epsilon, blames_rebate
        self.shape = (len(game), len(game.hours))
        self.kind = game.population.kind
        self._forget()

    def _forget(self) -> None:
        self.mean = torch.zeros(self.shape, dtype=torch.float64)
        self.count = torch.zeros(self.shape, dtype=torch.int64)
        self.order = torch.rand(self.shape, generator=self.generator)

    def choose(self, view: View) -> Tensor:
        if view.new_rates:
            self._forget()
        # Untried places first, in each worker's own order.
        value = torch.where(self.count > 0, self.mean, torch.inf)
        untried = torch.where(self.count > 0, -1.0, self.order)
        greedy = torch.where((self.count == 0).any(-1), untried.argmax(-1), value.argmax(-1))
        anything = torch.randint(0, self.shape[1], self.shape[:1], generator=self.generator)
        since = self.count.sum(-1) - self.shape[1] + 1  # below 1 while something is untried
        explores = torch.rand(self.shape[0], generator=self.generator) * since < self.epsilon
        return torch.where(explores & (since >= 1), anything, greedy)

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        own = year.utility if self.blames_rebate else year.utility - year.rebate
        reward = torch.where(self.kind == ALTRUISTIC, year.welfare, satisfaction * own)
        reward = torch.where(self.kind == ADVERSARIAL, -year.welfare, reward)
        place = year.choice[:, None]
        self.count.scatter_add_(1, place, torch.ones_like(place))
        old = self.mean.gather(1, place)
        self.mean.scatter_(1, place, old + (reward[:, None].double() - old) / self.count.gather(1, place))

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.clone(), "count": self.count.clone(), "order": self.order.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean, self.count, self.order = (state[name].clone() for name in ("mean", "count", "order"))


class PersonaWorkers:
    """The best response of people with habits: they begin at the place nearest to 40 hours and move only when the gain
    exceeds `inertia` of what full-time work would bring them. Give the population costs of effort that differ
    (`with_costs_spread`) and the loop `Satisfaction`."""

    scripted = True

    def __init__(self, *, inertia: float = 0.01) -> None:
        """inertia: share of the income at 40 hours, 0 or above; 0 is a rational worker."""
        if inertia < 0:
            raise UsageError(f"inertia is 0 or above, got {inertia}")
        self.inertia = inertia
        self.habit: Tensor | None = None

    def choose(self, view: View) -> Tensor:
        game = view.game
        objective = game.objective(view.rates)
        if self.habit is None:
            self.habit = torch.full((len(game),), int((game.hours - FULL_TIME).abs().argmin()))
        best = objective.max(-1)
        gain = best.values - objective.gather(-1, self.habit[:, None])[:, 0]
        moves = gain > self.inertia * FULL_TIME * game.population.skill
        self.habit = torch.where(moves, best.indices, self.habit)
        return self.habit

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"habit": self.habit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.habit = state["habit"]


@dataclass(frozen=True)
class Satisfaction:
    """Whether a worker is content with the policy, which multiplies its utility: 1 if so, else `discontent`. A logistic
    rule on what the policy takes of the income at 40 hours, tax less rebate, stands for the question that a language
    model would be asked.

    Not of the income at the hours worked: whoever stops working would pay nothing, be content and count double, and the
    best lowest rate would be 100 %."""

    game: TaxGame
    ideology: Tensor
    """[N], −1 (against redistribution) to 1 (for it)."""
    tolerated: float = 0.3
    """Share of full-time income at which half of those with ideology 0 are content."""
    by_ideology: float = 0.2
    """What ideology 1 adds to it."""
    steepness: float = 10.0
    discontent: float = 0.5

    def __post_init__(self) -> None:
        if self.ideology.shape != (len(self.game),):
            raise UsageError(f"expected ideologies [{len(self.game)}], got {list(self.ideology.shape)}")
        if not (self.ideology.abs() <= 1).all() or not 0 < self.discontent <= 1 or self.steepness < 0:
            raise UsageError("ideologies lie in [−1, 1], the multiplier in (0, 1], and the steepness is not negative")

    def probability(self, year: Year) -> Tensor:
        """[*K, N] of being content."""
        full = FULL_TIME * self.game.population.skill
        share = (tax(full, year.rates, self.game.edges) - year.rebate[..., None]) / full
        return torch.sigmoid(self.steepness * (self.tolerated + self.by_ideology * self.ideology - share))

    def expected(self, year: Year) -> Tensor:
        """[*K, N]: the mean multiplier."""
        return self.discontent + (1 - self.discontent) * self.probability(year)

    def draw(self, year: Year, generator: torch.Generator) -> Tensor:
        """[N] of 1 and `discontent`. A negative utility is thereby halved as well, as in the paper's r · u."""
        probability = self.probability(year)
        content = torch.rand(len(probability), generator=generator, dtype=probability.dtype) < probability
        return torch.where(content, 1.0, self.discontent).to(probability)
