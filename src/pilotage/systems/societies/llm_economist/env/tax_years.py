"""The loop of two time scales: workers act every step, the planner changes rates once per tax year."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.llm_economist.env.planner_state import ReplayMemory, Trial, describe_state
from pilotage.systems.societies.llm_economist.env.population import gini
from pilotage.systems.societies.llm_economist.env.replies import Refused, apply_delta, parse_delta
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year
from pilotage.systems.societies.llm_economist.env.workers import Contentment, View, Workers


class RatePlanner(Protocol):
    """Reads a text, answers with a text that holds `{"DELTA": [...]}`: a language model, or a script that says so."""

    scripted: bool

    def reply(self, state: str) -> str: ...


@dataclass(frozen=True)
class Simulation:
    """What happened in S steps of Y tax years."""

    rates: Tensor
    """[Y, B] in percent."""
    welfare: Tensor
    """[Y] per head, the mean over the settled part of each year, with satisfaction."""
    step_welfare: Tensor
    """[S] per head."""
    hours: Tensor
    """[S], mean a week."""
    output: Tensor
    """[S], mean income before tax in dollars."""
    gini: Tensor
    """[S], of income after tax and rebate, what is below 0 counted as 0."""
    content: Tensor
    """[S], share of workers who are content; 1 where nobody asks."""
    counts: Counter[str]
    """What became of the planner's answers: see `parse_delta` and `apply_delta`; kept: years without a usable one."""
    scripted: bool
    """Whether neither workers nor planner asked a language model."""


class TaxYears:
    """A simulation that goes on year by year and can be put away between two of them.

    What `state_dict` does not hold: the generators of the loop, workers and planner, which a run keeps, and a planner
    that remembers more than it is told (those here do not, but for the elected one's leader)."""

    def __init__(
        self,
        game: TaxGame,
        workers: Workers,
        planner: RatePlanner,
        generator: torch.Generator,
        *,
        years: int = 40,
        tax_year: int = 25,
        start: float | Sequence[float] | Tensor = 50.0,
        settled: float = 0.5,
        final: float = 0.1,
        attempts: int = 3,
        memory: ReplayMemory | None = None,
        satisfaction: Contentment | None = None,
    ) -> None:
        """`years` tax years of `tax_year` steps each.

        start: first rates in percent, one or B; settled: last part of a tax year by which it is judged, so that workers
        who still look around do not count; final: last part of the years in which the planner is told to settle on the
        best; attempts: how often the planner is asked before rates stay as they are, each time with the reason of the
        refusal; memory: what the planner is told of earlier years; satisfaction: multiplies utilities, drawn with the
        generator."""
        if years < 1 or tax_year < 1 or attempts < 1 or not 0 < settled <= 1 or not 0 <= final <= 1:
            raise UsageError(
                "expected years, steps and attempts of 1 or more, a settled part in (0, 1] and a final one in [0, 1], "
                f"got {years}, {tax_year}, {attempts}, {settled} and {final}"
            )
        self.game, self.workers, self.planner, self.generator = game, workers, planner, generator
        self.years, self.tax_year, self.attempts = years, tax_year, attempts
        self.settled, self.settling = max(1, round(settled * tax_year)), years - round(final * years)
        self.memory = ReplayMemory() if memory is None else memory
        self.satisfaction = satisfaction
        self.rates = game.check(torch.as_tensor(start, dtype=torch.float64).expand(len(game.edges)))
        """[B] in percent, in force in the year to come."""
        self.counts = Counter[str]()
        self.steps: dict[str, list[float]] = {name: [] for name in ("welfare", "hours", "output", "gini", "content")}
        self.yearly: list[tuple[Tensor, float]] = []
        self.last: Year | None = None

    def advance(self) -> None:
        """One tax year: its steps, then the planner's change. Raises UsageError when all years are over."""
        number = len(self.yearly)
        if number >= self.years:
            raise UsageError(f"all {self.years} tax years are over")
        for step in range(self.tax_year):
            view = View(self.game, self.rates, number * self.tax_year + step, step == 0, self.last)
            year = self.game.play(self.rates, self.workers.choose(view))
            factor = self._satisfaction(year)
            utility = factor * year.utility
            self.workers.learn(year, factor)
            self._note(year, utility, factor)
            self.last = year
        welfare = sum(self.steps["welfare"][-self.settled :]) / self.settled
        self.yearly.append((self.rates, welfare))
        self.memory.add(self.rates, welfare)
        if number + 1 < self.years:
            final = number + 1 >= self.settling
            state = describe_state(
                self.game, year, utility, welfare, self.memory, number=number, years=self.years, final=final
            )
            delta = _ask(self.planner, state, len(self.rates), self.attempts, self.counts)
            self.rates = apply_delta(self.rates, delta, self.counts)

    def _satisfaction(self, year: Year) -> Tensor:
        return (
            torch.ones_like(year.utility) if self.satisfaction is None else self.satisfaction.draw(year, self.generator)
        )

    def _note(self, year: Year, utility: Tensor, factor: Tensor) -> None:
        after = (year.income - year.tax + year.rebate).clamp(min=0)
        noted: dict[str, Tensor | float] = {
            "welfare": self.game.welfare(utility, year.income),
            "hours": year.hours.mean(),
            "output": year.income.mean(),
            "gini": gini(after),
            "content": (factor == 1).double().mean(),
        }
        for name, value in noted.items():
            self.steps[name].append(float(value))

    def result(self) -> Simulation:
        """What happened so far. Raises UsageError before the first year."""
        if not self.yearly:
            raise UsageError("nothing has happened yet: advance by a tax year first")
        columns = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.steps.items()}
        return Simulation(
            rates=torch.stack([rates for rates, _ in self.yearly]),
            welfare=torch.tensor([welfare for _, welfare in self.yearly], dtype=torch.float64),
            step_welfare=columns["welfare"],
            hours=columns["hours"],
            output=columns["output"],
            gini=columns["gini"],
            content=columns["content"],
            counts=Counter(self.counts),
            scripted=self.workers.scripted and self.planner.scripted,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the simulation stands, between two years; workers' memories included."""
        return {
            "rates": self.rates,
            "counts": dict(self.counts),
            "steps": {name: list(values) for name, values in self.steps.items()},
            "yearly": [[rates, welfare] for rates, welfare in self.yearly],
            "memory": [[list(trial.rates), trial.welfare] for trial in self.memory.trials],
            "last": None if self.last is None else dict(vars(self.last)),
            "workers": self.workers.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rates = state["rates"]
        self.counts = Counter(state["counts"])
        self.steps = {name: list(values) for name, values in state["steps"].items()}
        self.yearly = [(rates, welfare) for rates, welfare in state["yearly"]]
        self.memory.trials = [Trial(tuple(rates), welfare) for rates, welfare in state["memory"]]
        self.last = None if state["last"] is None else Year(**state["last"])
        self.workers.load_state_dict(state["workers"])


def simulate(
    game: TaxGame, workers: Workers, planner: RatePlanner, generator: torch.Generator, **options: Any
) -> Simulation:
    """All years at once; options as in `TaxYears`."""
    simulation = TaxYears(game, workers, planner, generator, **options)
    for _ in range(simulation.years):
        simulation.advance()
    return simulation.result()


def _ask(planner: RatePlanner, state: str, brackets: int, attempts: int, counts: Counter[str]) -> Tensor:
    """[B] points; zeros when no answer could be used."""
    text = state
    for _ in range(attempts):
        found = parse_delta(planner.reply(text), brackets, counts)
        if not isinstance(found, Refused):
            return found
        text = f"Your last answer was refused: {found.detail}.\n{state}"
    counts["kept"] += 1
    return torch.zeros(brackets, dtype=torch.float64)
