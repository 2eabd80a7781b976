"""The planner's prompt of a tax year: a few sentences, and the same as JSON after the word STATE."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import bracket_of
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year


@dataclass(frozen=True)
class TriedSchedule:
    """A past tax year: its schedule and welfare."""

    rates: tuple[float, ...]
    """Marginal rates in percent."""
    welfare: float
    """Social welfare per head."""


class ReplayMemory:
    """Memory of the last tax years and of the best ones, each schedule once, with advice in words."""

    def __init__(self, *, history: int = 50, best: int = 5, advice: bool = True) -> None:
        """Create an empty memory.

        Args:
            history: number of last years in the prompt, 0 for none.
            best: number of best schedules in the prompt, 0 for none.
            advice: whether the prompt says what the last change of each rate did.
        """
        if history < 0 or best < 0:
            raise UsageError(f"a memory holds 0 years or more, got {history} and {best}")
        self.history, self.best, self.advises = history, best, advice
        self.trials: list[TriedSchedule] = []

    def add(self, rates: Tensor, welfare: float) -> None:
        """Add a year with rates [bracket] in percent."""
        self.trials.append(TriedSchedule(tuple(rates.tolist()), float(welfare)))

    def last(self) -> list[TriedSchedule]:
        """Return the last years, the newest last."""
        return self.trials[len(self.trials) - min(self.history, len(self.trials)) :]

    def ranked(self) -> list[TriedSchedule]:
        """Return the best schedules, the best first; one that was tried more than once counts with its mean."""
        grouped: dict[tuple[float, ...], list[float]] = {}
        for trial in self.trials:
            grouped.setdefault(trial.rates, []).append(trial.welfare)
        means = [TriedSchedule(rates, sum(values) / len(values)) for rates, values in grouped.items()]
        return sorted(means, key=lambda trial: -trial.welfare)[: self.best]

    def advice(self) -> list[str]:
        """Return the verbal gradient: a sentence for each bracket whose rate the last year changed.

        When several rates changed at once, the sentence says so.
        """
        if not self.advises or len(self.trials) < 2:
            return []
        before, after = self.trials[-2:]
        changes = [new - old for old, new in zip(before.rates, after.rates, strict=True)]
        moved = [place for place, change in enumerate(changes) if change]
        better = after.welfare > before.welfare
        together = " (other rates moved too)" if len(moved) > 1 else ""
        sentences = []
        for place in moved:
            upwards = changes[place] > 0
            did, effect = "Raising" if upwards else "Lowering", "helped" if better else "hurt"
            where = "too low" if upwards == better else "too high"
            sentences.append(f"{did} the rate of bracket {place + 1} {effect} welfare{together}: it may be {where}.")
        return sentences


def _moments(values: Tensor) -> dict[str, float]:
    return {
        "mean": round(float(values.mean()), 2),
        "median": round(float(values.median()), 2),
        "sd": round(float(values.std(correction=0)), 2),
    }


def describe_state(
    game: TaxGame,
    year: Year,
    utility: Tensor,
    welfare: float,
    memory: ReplayMemory,
    *,
    number: int,
    years: int,
    final: bool,
) -> str:
    """Return the prompt after a tax year.

    Args:
        game: the tax game.
        year: last step of the tax year.
        utility: utilities of that step, satisfaction counted, [worker].
        welfare: social welfare per head of the tax year.
        memory: earlier years.
        number: number of the tax year, from 0.
        years: number of all tax years.
        final: whether the planner is told to choose the best rates it knows.
    """
    low, high = float(utility.min()), float(utility.max())
    bins = torch.linspace(low, high if high > low else low + 1, 11, dtype=utility.dtype)
    in_bins = (torch.bucketize(utility, bins, right=True) - 1).clamp(0, 9)
    edges, advice = game.edges.tolist(), memory.advice()
    state = {
        "year": number,
        "years": years,
        "phase": "settle" if final else "explore",
        "edges": edges,
        "rates": year.rates.tolist(),
        "welfare": round(welfare, 4),
        "income": {
            **_moments(year.income),
            "people_by_bracket": torch.bincount(bracket_of(year.income, game.edges), minlength=len(edges)).tolist(),
        },
        "utility": {
            **_moments(utility),
            "bins": [round(edge, 2) for edge in bins.tolist()],
            "people_by_bin": torch.bincount(in_bins, minlength=10).tolist(),
        },
        "hours": round(float(year.hours.mean()), 2),
        "rebate": round(float(year.rebate), 2),
        "history": [[list(trial.rates), round(trial.welfare, 4)] for trial in memory.last()],
        "best": [[list(trial.rates), round(trial.welfare, 4)] for trial in memory.ranked()],
        "advice": advice,
    }
    brackets = "; ".join(
        f"from ${edge:,.0f}: {rate:g} %" for edge, rate in zip(edges, year.rates.tolist(), strict=True)
    )
    told = "The trial years are over: choose the best rates you know." if final else "You may still try other rates."
    lines = [
        f"Tax year {number + 1} of {years} is over. Marginal rates were {brackets}.",
        f"Social welfare per head was {welfare:,.2f}. People worked {float(year.hours.mean()):.1f} hours a week on "
        f"average and each received ${float(year.rebate):,.0f} from the common revenue.",
        *advice,
        told,
        f'Answer with JSON: {{"DELTA": [...]}}, {len(edges)} entries of −20, −10, 0, 10 or 20 points, one per bracket.',
        "STATE " + json.dumps(state),
    ]
    return "\n".join(lines)
