"""The tax game on two time scales: workers act at every step, the planner changes rates once per tax year."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.llm_economist.env.planner_state import ReplayMemory, TriedSchedule, describe_state
from pilotage.systems.societies.llm_economist.env.population import gini
from pilotage.systems.societies.llm_economist.env.replies import Refused, apply_delta, parse_delta
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year
from pilotage.systems.societies.llm_economist.env.workers import SatisfactionModel, WorkerObservation, Workers


class RatePlanner(Protocol):
    """Planner that reads a prompt and answers with a text that holds `{"DELTA": [...]}`."""

    scripted: bool
    """Whether no language model is asked."""

    def reply(self, state: str) -> str:
        """Return the answer to the prompt of a tax year."""
        ...


@dataclass(frozen=True)
class SimulationResult:
    """Result of a simulation of several tax years."""

    rates: Tensor
    """Marginal rates in percent, [year, bracket]."""
    welfare: Tensor
    """Welfare per head, mean over the settled part of each year, satisfaction counted, [year]."""
    step_welfare: Tensor
    """Welfare per head, satisfaction counted, [step]."""
    hours: Tensor
    """Mean weekly hours, [step]."""
    output: Tensor
    """Mean income before tax in dollars a year, [step]."""
    gini: Tensor
    """Gini coefficient of income after tax and rebate, negative incomes counted as 0, [step]."""
    content: Tensor
    """Share of workers who are content, 1 without satisfaction, [step]."""
    counts: Counter[str]
    """Number of the planner's answers by what became of them (see `parse_delta` and `apply_delta`); kept: years without
    an answer that could be used."""
    scripted: bool
    """Whether neither the workers nor the planner are played by a language model."""


class TaxYears:
    """Simulation that goes on by tax years and can be saved between two of them.

    `state_dict` does not hold the generators of the simulation, workers and planner, nor the planner's own state, such
    as an elected leader.
    """

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
        satisfaction: SatisfactionModel | None = None,
    ) -> None:
        """Create a simulation before its first year.

        Args:
            game: the tax game.
            workers: choose hours.
            planner: changes rates.
            generator: draws satisfaction.
            years: number of tax years.
            tax_year: number of steps of a tax year.
            start: rates of the first year in percent, one or [bracket].
            settled: last part of a tax year over which its welfare is averaged, so that exploration does not count.
            final: last part of the years in which the planner is told to choose the best rates it knows.
            attempts: number of times the planner is asked before rates stay as they are, with the reason of a refusal.
            memory: what the planner's prompt holds of earlier years.
            satisfaction: model whose draws multiply utilities.
        """
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
        """Rates in percent that are in force in the coming year, [bracket]."""
        self.counts = Counter[str]()
        self.steps: dict[str, list[float]] = {name: [] for name in ("welfare", "hours", "output", "gini", "content")}
        self.yearly: list[tuple[Tensor, float]] = []
        self.last: Year | None = None

    def advance(self) -> None:
        """Simulate one tax year and the planner's change of rates. Raises UsageError when all years are over."""
        number = len(self.yearly)
        if number >= self.years:
            raise UsageError(f"all {self.years} tax years are over")
        for step in range(self.tax_year):
            view = WorkerObservation(self.game, self.rates, number * self.tax_year + step, step == 0, self.last)
            year = self.game.play(self.rates, self.workers.choose(view))
            factor = self._satisfaction(year)
            utility = factor * year.utility
            self.workers.learn(year, factor)
            self._record(year, utility, factor)
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

    def _record(self, year: Year, utility: Tensor, factor: Tensor) -> None:
        after = (year.income - year.tax + year.rebate).clamp(min=0)
        recorded: dict[str, Tensor | float] = {
            "welfare": self.game.welfare(utility, year.income),
            "hours": year.hours.mean(),
            "output": year.income.mean(),
            "gini": gini(after),
            "content": (factor == 1).double().mean(),
        }
        for name, value in recorded.items():
            self.steps[name].append(float(value))

    def result(self) -> SimulationResult:
        """Return the result so far. Raises UsageError before the first year."""
        if not self.yearly:
            raise UsageError("nothing has happened yet: advance by a tax year first")
        columns = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.steps.items()}
        return SimulationResult(
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
        """Return the state between two years, the workers' memories included."""
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
        """Restore what `state_dict` returned."""
        self.rates = state["rates"]
        self.counts = Counter(state["counts"])
        self.steps = {name: list(values) for name, values in state["steps"].items()}
        self.yearly = [(rates, welfare) for rates, welfare in state["yearly"]]
        self.memory.trials = [TriedSchedule(tuple(rates), welfare) for rates, welfare in state["memory"]]
        self.last = None if state["last"] is None else Year(**state["last"])
        self.workers.load_state_dict(state["workers"])


def run_tax_years(
    game: TaxGame, workers: Workers, planner: RatePlanner, generator: torch.Generator, **options: Any
) -> SimulationResult:
    """Simulate all years at once; options as in `TaxYears`."""
    simulation = TaxYears(game, workers, planner, generator, **options)
    for _ in range(simulation.years):
        simulation.advance()
    return simulation.result()


def _ask(planner: RatePlanner, state: str, brackets: int, attempts: int, counts: Counter[str]) -> Tensor:
    """Return the planner's change, [bracket] in points; zeros when no answer could be used."""
    text = state
    for _ in range(attempts):
        found = parse_delta(planner.reply(text), brackets, counts)
        if not isinstance(found, Refused):
            return found
        text = f"Your last answer was refused: {found.detail}.\n{state}"
    counts["kept"] += 1
    return torch.zeros(brackets, dtype=torch.float64)
