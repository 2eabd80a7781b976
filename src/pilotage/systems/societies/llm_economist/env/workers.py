"""Scripted workers: best responses, bandits over hours, and best responses with habits; and the satisfaction rule.

A language model can take their place: any class with the methods of `Workers` works in `TaxYears`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.stateful import Stateful
from pilotage.environments.economy.tax_schedule import tax
from pilotage.systems.societies.llm_economist.env.population import ADVERSARIAL, ALTRUISTIC, FULL_TIME
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year


@dataclass(frozen=True)
class WorkerObservation:
    """What workers observe before they choose."""

    game: TaxGame
    rates: Tensor
    """Rates in force in percent, [bracket]."""
    step: int
    """Number of the step, from 0."""
    new_rates: bool
    """Whether this is the first step under these rates."""
    last: Year | None
    """Outcome of the step before; None at the beginning."""


class Workers(Stateful, Protocol):
    """Choices of a whole population."""

    scripted: bool
    """Whether no language model is asked."""

    def choose(self, view: WorkerObservation) -> Tensor:
        """Return each worker's place in `view.game.hours`, int64 [worker]."""
        ...

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        """Learn from a step; `satisfaction` [worker] multiplies utilities, 1 without a satisfaction model."""
        ...


@runtime_checkable
class SatisfactionModel(Protocol):
    """Model of who is content with the policy: the rule `Satisfaction`, or workers who are asked."""

    def draw(self, year: Year, generator: torch.Generator) -> Tensor:
        """Draw the factor on each worker's utility in this step, [worker]."""
        ...


class RationalWorkers:
    """Workers who choose the computed best response."""

    scripted = True

    def choose(self, view: WorkerObservation) -> Tensor:
        """Return each worker's place in the grid of hours, int64 [worker]."""
        return view.game.best_response(view.rates)

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        """Learn from the outcome of a step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the workers remember."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class AdaptiveWorkers:
    """Workers each of whom is an ε-greedy bandit over the grid of hours.

    Under new rates a worker forgets, tries each place once in a random order, then takes the one with the best mean; at
    the t-th step since then it takes a random one with probability ε / t. It knows neither its skill nor the schedule,
    only the outcomes of its choices, as a model that learns in context does.
    """

    scripted = True

    def __init__(self, game: TaxGame, generator: torch.Generator, *, epsilon: float = 0.1) -> None:
        """Create the workers of a game, of which the number of workers, the grid and the kinds are used."""
        if not 0 <= epsilon <= 1:
            raise UsageError(f"ε is a probability, got {epsilon}")
        self.generator, self.epsilon = generator, epsilon
        self.shape = (len(game), len(game.hours))
        self.kind = game.population.kind
        self._forget()

    def _forget(self) -> None:
        self.mean = torch.zeros(self.shape, dtype=torch.float64)
        self.count = torch.zeros(self.shape, dtype=torch.int64)
        self.order = torch.rand(self.shape, generator=self.generator)

    def choose(self, view: WorkerObservation) -> Tensor:
        """Return each worker's place in the grid of hours, int64 [worker]."""
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
        """Learn from the outcome of a step."""
        own = year.utility - year.rebate  # others' hours move the rebate
        reward = torch.where(self.kind == ALTRUISTIC, year.welfare, satisfaction * own)
        reward = torch.where(self.kind == ADVERSARIAL, -year.welfare, reward)
        place = year.choice[:, None]
        self.count.scatter_add_(1, place, torch.ones_like(place))
        old = self.mean.gather(1, place)
        self.mean.scatter_(1, place, old + (reward[:, None].double() - old) / self.count.gather(1, place))

    def state_dict(self) -> dict[str, Any]:
        """Return what the workers remember."""
        return {"mean": self.mean.clone(), "count": self.count.clone(), "order": self.order.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.mean, self.count, self.order = (state[name].clone() for name in ("mean", "count", "order"))


class PersonaWorkers:
    """Workers with habits: they begin at 40 hours and move to the best response only for a large enough gain.

    The gain has to exceed `inertia` times the income of full-time work.
    """

    scripted = True

    def __init__(self, *, inertia: float = 0.01) -> None:
        """Create workers with an inertia of 0 (rational) or above, as a share of the income at 40 hours."""
        if inertia < 0:
            raise UsageError(f"inertia is 0 or above, got {inertia}")
        self.inertia = inertia
        self.habit: Tensor | None = None

    def choose(self, view: WorkerObservation) -> Tensor:
        """Return each worker's place in the grid of hours, int64 [worker]."""
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
        """Learn from the outcome of a step."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the workers remember."""
        return {"habit": self.habit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.habit = state["habit"]


@dataclass(frozen=True)
class Satisfaction:
    """Logistic rule of who is content with the policy; utility is multiplied by 1 if so, otherwise by `discontent`.

    It looks at tax less rebate as a share of the income at 40 hours, and stands for the question that a language model
    is asked. The share of the income at the hours worked would not do: a worker who stops working pays nothing, would
    be content and count double, and the best lowest rate would be 100 %.
    """

    game: TaxGame
    ideology: Tensor
    """Attitude to redistribution, −1 (against) to 1 (for), [worker]."""
    tolerated: float = 0.3
    """Share of full-time income at which half of the workers with ideology 0 are content."""
    by_ideology: float = 0.2
    """Increase of that share at ideology 1."""
    steepness: float = 10.0
    discontent: float = 0.5

    def __post_init__(self) -> None:
        if self.ideology.shape != (len(self.game),):
            raise UsageError(f"expected ideologies [{len(self.game)}], got {list(self.ideology.shape)}")
        if not (self.ideology.abs() <= 1).all() or not 0 < self.discontent <= 1 or self.steepness < 0:
            raise UsageError("ideologies lie in [−1, 1], the multiplier in (0, 1], and the steepness is not negative")

    def probability(self, year: Year) -> Tensor:
        """Return the probability of being content, [..., worker]."""
        full = FULL_TIME * self.game.population.skill
        share = (tax(full, year.rates, self.game.edges) - year.rebate[..., None]) / full
        return torch.sigmoid(self.steepness * (self.tolerated + self.by_ideology * self.ideology - share))

    def expected(self, year: Year) -> Tensor:
        """Return the expected factor on utility, [..., worker]."""
        return self.discontent + (1 - self.discontent) * self.probability(year)

    def draw(self, year: Year, generator: torch.Generator) -> Tensor:
        """Draw 1 or `discontent` for each worker, [worker].

        A negative utility is halved, too, as in the paper's r · u.
        """
        probability = self.probability(year)
        content = torch.rand(len(probability), generator=generator, dtype=probability.dtype) < probability
        return torch.where(content, 1.0, self.discontent).to(probability)
