"""Workers of a tax game who are played by a language model: asked once per archetype, never once per person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import tax
from pilotage.llm import ChatAnswer, ChatRequest, Service, say, structured
from pilotage.systems.societies.llm_economist.env.personas import Persona, describe
from pilotage.systems.societies.llm_economist.env.population import FULL_TIME, TaxUnits
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year
from pilotage.systems.societies.llm_economist.env.workers import View

Note = Callable[[Mapping[str, Any]], None]
"""Takes what was said, for a transcript."""
DISCONTENT = 0.5
"""What multiplies the utility of somebody who is not content (the paper's r)."""
SYSTEM = (
    "You are one person in a simulation of work and taxes. Answer as this person would, with one JSON object and "
    'nothing else: {"hours": 40, "satisfied": true}. hours: how many hours a week you will work from now on. '
    "satisfied: whether you are content with the tax policy."
)


@dataclass(frozen=True)
class Archetypes:
    """Who shares an answer: people of like skill with one persona."""

    personas: tuple[Persona, ...]
    """A of them."""
    of: Tensor
    """[N] int64: each worker's."""
    skill: Tensor
    """[A]: mean dollars a year that one weekly hour brings."""

    def __len__(self) -> int:
        return len(self.personas)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Who each of them is, in words."""
        return tuple(describe(persona) for persona in self.personas)

    def size(self) -> list[int]:
        """Workers of each."""
        return torch.bincount(self.of, minlength=len(self)).tolist()


def make_archetypes(
    skill: Tensor,
    units: TaxUnits,
    generator: torch.Generator,
    *,
    growth: float,
    bins: int = 5,
    personas: int = 2,
) -> Archetypes:
    """Bins of equally many workers by skill [N], each with `personas` people drawn from survey records of about that
    income, and an ideology of their own. growth: of survey incomes, since its year. Bins × personas texts at most."""
    income = FULL_TIME * skill
    borders = income.quantile(torch.linspace(0, 1, bins + 1, dtype=income.dtype))
    which = torch.bucketize(income, borders[1:-1], right=True)
    earned = growth * units.columns["wages_primary"]
    people, means = list[Persona](), list[float]()
    of = torch.zeros(len(skill), dtype=torch.int64)
    for place in range(bins):
        members = (which == place).nonzero()[:, 0]
        order = members[torch.randperm(len(members), generator=generator)]
        middle = float(income[members].mean()) if len(members) else 0.0
        near = ((earned / max(middle, 1.0)).log().abs()).argsort()[:200]
        for group in order.tensor_split(personas):
            drawn = int(near[torch.randint(0, len(near), (1,), generator=generator)])
            ideology = float(2 * torch.rand(1, generator=generator) - 1)
            if not len(group):
                continue
            own = float(income[group].mean())
            of[group] = len(people)
            people.append(_persona(units, drawn, own, ideology))
            means.append(own / FULL_TIME)
    return Archetypes(tuple(people), of, torch.tensor(means, dtype=torch.float64))


def _persona(units: TaxUnits, row: int, income: float, ideology: float) -> Persona:
    column = {name: float(values[row]) for name, values in units.columns.items()}
    return Persona(
        age=max(16, int(column["age_head"])),
        status=units.status[row],
        children=int(column.get("children_u18", 0)),
        income=income,
        self_employed=column["self_employment"] > column["wages_primary"],
        ideology=ideology,
    )


class ServiceWorkers:
    """Every step each archetype is asked for hours and whether it is content with the policy; `draws` answers each,
    spread over its people at random. An archetype remembers what its hours brought under the rates in force.

    It is `Contentment` too: `draw` gives what was answered last."""

    def __init__(
        self,
        game: TaxGame,
        archetypes: Archetypes,
        service: Service,
        generator: torch.Generator,
        *,
        seed: int = 0,
        draws: int = 4,
        temperature: float = 0.7,
        max_tokens: int = 300,
        note: Note | None = None,
    ) -> None:
        """seed: goes into every request, so that runs of different seeds do not share answers; note: is given the first
        exchange with each archetype under new rates."""
        if len(archetypes.of) != len(game):
            raise UsageError(f"expected an archetype for each of {len(game)} workers, got {len(archetypes.of)}")
        self.game, self.archetypes, self.service, self.generator = game, archetypes, service, generator
        self.seed, self.draws, self.temperature, self.max_tokens = seed, draws, temperature, max_tokens
        self.note = note
        self.scripted = service.provider.source == "scripted"
        shape = (len(archetypes), len(game.hours))
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self.count = torch.zeros(shape, dtype=torch.int64)
        self.place = torch.full((len(game),), int((game.hours - FULL_TIME).abs().argmin()))
        self.content = torch.ones(len(game), dtype=torch.float64)
        self.counts = Counter[str]()

    def choose(self, view: View) -> Tensor:
        """[N]: places in the grid of hours. Raises BudgetReached, with what is under way kept."""
        if view.new_rates:
            self.mean, self.count = torch.zeros_like(self.mean), torch.zeros_like(self.count)
        sizes = self.archetypes.size()
        asked = [(one, draw) for one, size in enumerate(sizes) for draw in range(min(self.draws, size))]
        prompts = [self._prompt(one, view) for one in range(len(sizes))]
        requests = [
            ChatRequest(
                say(prompts[one], SYSTEM),
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                seed=self.seed,
                draw=draw,
            )
            for one, draw in asked
        ]
        answers = structured(self.service, requests, _answer_model(), self._fallback)
        hours: dict[tuple[int, int], tuple[int, float]] = {}
        for key, found in zip(asked, answers, strict=True):
            self.counts[f"workers/{found.how}"] += 1
            hours[key] = self._taken(found)
            if self.note is not None and view.new_rates and key[1] == 0:
                said = found.answer.record() if isinstance(found.answer, ChatAnswer) else {"completion": found.reason}
                self.note({"agent": "worker", "prompt": prompts[key[0]], "how": found.how, **said})
        lots = torch.randint(0, 2**31, (len(self.game),), generator=self.generator).tolist()
        whose = self.archetypes.of.tolist()
        chosen = [hours[one, lot % min(self.draws, sizes[one])] for one, lot in zip(whose, lots, strict=True)]
        # A fallback stays with the hours that the person had.
        self.place = torch.tensor(
            [old if p < 0 else p for (p, _), old in zip(chosen, self.place.tolist(), strict=True)]
        )
        self.content = torch.tensor([content for _, content in chosen], dtype=torch.float64)
        return self.place

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        shape = self.mean.shape
        cell = self.archetypes.of * shape[1] + year.choice
        number = torch.bincount(cell, minlength=shape.numel()).reshape(shape)
        brought = torch.bincount(cell, (satisfaction * year.utility).double(), minlength=shape.numel()).reshape(shape)
        total = self.count + number
        self.mean = torch.where(number > 0, (self.mean * self.count + brought) / total.clamp(min=1), self.mean)
        self.count = total

    def draw(self, year: Year, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - the protocol's
        """[N]: 1 for who said to be content, else r."""
        return self.content

    def _taken(self, found: Any) -> tuple[int, float]:
        """Place in the grid, −1 for none, and the multiplier."""
        if found.how == "fallback":
            return -1, 1.0
        gaps = (self.game.hours - float(found.value.hours)).abs()
        place = int(gaps.argmin())
        self.counts["workers/rounded"] += int(float(gaps[place]) > 1e-9)
        return place, 1.0 if found.value.satisfied else DISCONTENT

    @staticmethod
    def _fallback(request: ChatRequest, reason: str) -> Any:
        del request, reason
        return _answer_model()(hours=0, satisfied=True)

    def _prompt(self, one: int, view: View) -> str:
        pay, rates = float(self.archetypes.skill[one]), view.rates
        grid = [float(h) for h in self.game.hours.tolist()]
        full = torch.tensor(pay * FULL_TIME, dtype=torch.float64)
        share = float(tax(full, rates.double(), self.game.edges) / full)
        tried = {
            f"{grid[place]:g}": round(float(self.mean[one, place]))
            for place in range(len(grid))
            if self.count[one, place] > 0
        }
        brackets = "; ".join(
            f"from ${edge:,.0f}: {rate:g} %"
            for edge, rate in zip(self.game.edges.tolist(), rates.tolist(), strict=True)
        )
        rebate = None if view.last is None else round(float(view.last.rebate))
        told = [
            self.archetypes.texts[one],
            f"Every weekly hour that you work brings ${pay:,.0f} a year before tax. Marginal tax rates: {brackets}.",
            f"On full-time work {100 * share:.0f} % go in taxes. All revenue is paid back in equal shares"
            + ("." if rebate is None else f": ${rebate:,} for everybody last time."),
        ]
        if tried:
            listed = ", ".join(f"{hours} hours: {worth:,}" for hours, worth in tried.items())
            told.append(f"What a year was worth to people like you at these rates, effort counted: {listed}.")
        told.append(f"Choose one of {', '.join(f'{h:g}' for h in grid)} hours.")
        state = {
            "grid": grid,
            "pay": round(pay, 2),
            "rates": rates.tolist(),
            "tax_share": round(share, 3),
            "tried": tried,
        }
        return "\n".join([*told, "STATE " + json.dumps(state)])

    def state_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean.clone(),
            "count": self.count.clone(),
            "place": self.place.clone(),
            "content": self.content.clone(),
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("mean", "count", "place", "content"):
            setattr(self, name, state[name].clone())
        self.counts = Counter(state["counts"])


def _answer_model() -> Any:
    """The form of an answer; pydantic is imported here, since only model-played workers need it."""
    global _ANSWER
    if _ANSWER is None:
        try:
            from pydantic import BaseModel, Field
        except ModuleNotFoundError:
            raise UsageError("workers played by a model need pydantic: pip install 'pilotage[llm]'") from None

        class Answer(BaseModel):
            hours: float = Field(ge=0, le=168)
            satisfied: bool

        _ANSWER = Answer
    return _ANSWER


_ANSWER: Any = None


def play_worker(request: ChatRequest, seed: int) -> dict[str, Any]:
    """A scripted stand-in of a worker, from the same text: tries hours beside the best it knows, one time in four; is
    content where less than 40 % of full-time work go in taxes."""
    told = json.loads(request.messages[1].content.rpartition("STATE ")[2].partition("\n")[0])
    grid, tried = told["grid"], {float(hours): worth for hours, worth in told["tried"].items()}
    best = max(tried, key=lambda hours: tried[hours]) if tried else min(grid, key=lambda h: abs(h - FULL_TIME))
    at = grid.index(best)
    beside = [grid[place] for place in (at - 1, at + 1) if 0 <= place < len(grid)]
    untried = [hours for hours in beside if hours not in tried]
    if untried and (seed % 2 or not tried):
        best = untried[seed // 2 % len(untried)] if tried else best
    elif seed % 4 == 0:
        best = beside[seed // 4 % len(beside)]
    return {"hours": best, "satisfied": told["tax_share"] < 0.4}
