"""The loop of two time scales: workers act every step, the planner changes rates once per tax year."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pilotage.environments.economy.planner_state import ReplayMemory, describe_state
from pilotage.environments.economy.population import gini
from pilotage.environments.economy.replies import Refused, apply_delta, parse_delta
from pilotage.environments.economy.tax_game import TaxGame, Year
from pilotage.environments.economy.workers import Satisfaction, View, Workers
from pilotage.system import UsageError


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


def simulate(
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
    satisfaction: Satisfaction | None = None,
) -> Simulation:
    """Play `years` tax years of `tax_year` steps each.

    start: first rates in percent, one or B; settled: last part of a tax year by which it is judged, so that workers who
    still look around do not count; final: last part of the years in which the planner is told to settle on the best;
    attempts: how often the planner is asked before rates stay as they are, each time with the reason of the refusal;
    memory: what the planner is told of earlier years; satisfaction: multiplies utilities, drawn with the generator."""
    if years < 1 or tax_year < 1 or attempts < 1 or not 0 < settled <= 1 or not 0 <= final <= 1:
        raise UsageError(
            "expected years, steps and attempts of 1 or more, a settled part in (0, 1] and a final one in [0, 1], got "
            f"{years}, {tax_year}, {attempts}, {settled} and {final}"
        )
    rates = game.check(torch.as_tensor(start, dtype=torch.float64).expand(len(game.edges)))
    remembered = ReplayMemory() if memory is None else memory
    counts = Counter[str]()
    kept = max(1, round(settled * tax_year))
    table: dict[str, list[float]] = {name: [] for name in ("welfare", "hours", "output", "gini", "content")}
    yearly: list[tuple[Tensor, float]] = []
    last: Year | None = None
    for number in range(years):
        for step in range(tax_year):
            view = View(game, rates, number * tax_year + step, step == 0, last)
            last = year = game.play(rates, workers.choose(view))
            factor = torch.ones_like(year.utility) if satisfaction is None else satisfaction.draw(year, generator)
            utility = factor * year.utility
            workers.learn(year, factor)
            table["welfare"].append(float(game.welfare(utility, year.income)))
            table["hours"].append(float(year.hours.mean()))
            table["output"].append(float(year.income.mean()))
            table["gini"].append(gini((year.income - year.tax + year.rebate).clamp(min=0)))
            table["content"].append(float((factor == 1).double().mean()))
        welfare = sum(table["welfare"][-kept:]) / kept
        yearly.append((rates, welfare))
        remembered.add(rates, welfare)
        if number + 1 < years:
            settling = number + 1 >= years - round(final * years)
            state = describe_state(game, year, utility, welfare, remembered, number=number, years=years, final=settling)
            rates = apply_delta(rates, _ask(planner, state, len(rates), attempts, counts), counts)
    columns = {name: torch.tensor(values, dtype=torch.float64) for name, values in table.items()}
    return Simulation(
        rates=torch.stack([rates for rates, _ in yearly]),
        welfare=torch.tensor([welfare for _, welfare in yearly], dtype=torch.float64),
        step_welfare=columns["welfare"],
        hours=columns["hours"],
        output=columns["output"],
        gini=columns["gini"],
        content=columns["content"],
        counts=counts,
        scripted=workers.scripted and planner.scripted,
    )


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
