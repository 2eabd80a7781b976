"""Workers of a tax game that a language model plays; it is asked once per archetype, not once per person.

Needs the extra `llm`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import tax
from pilotage.llm import ChatAnswer, ChatRequest, Service, say, structured
from pilotage.systems.societies.llm_economist.env.archetypes import WorkerArchetypes
from pilotage.systems.societies.llm_economist.env.population import FULL_TIME
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame, Year
from pilotage.systems.societies.llm_economist.env.workers import WorkerObservation
from pilotage.systems.societies.llm_economist.prompts import WORKER

try:
    from pydantic import BaseModel, ConfigDict, Field
except ModuleNotFoundError as error:
    raise UsageError("a language model as a service needs the extra llm: pip install 'pilotage[llm]'") from error

ExchangeLogger = Callable[[Mapping[str, Any]], None]
"""Receives an exchange with a language model, for a transcript."""
DISCONTENT = 0.5
"""Factor r of the paper on the utility of a worker who is not content."""


class _WorkerReply(BaseModel):  # without a docstring, which would become part of the requests
    model_config = ConfigDict(title="Answer")
    hours: float = Field(ge=0, le=168)
    satisfied: bool


class ServiceWorkers:
    """Workers played by a language model, which gives hours and satisfaction of each archetype at every step.

    `draws` answers per archetype are spread over its workers at random. The prompt of an archetype holds what its hours
    brought under the rates in force. It is a `SatisfactionModel`, too: `draw` returns what was answered last.
    """

    def __init__(
        self,
        game: TaxGame,
        archetypes: WorkerArchetypes,
        service: Service,
        generator: torch.Generator,
        *,
        seed: int = 0,
        draws: int = 4,
        temperature: float | None = 0.7,
        max_tokens: int = 300,
        log: ExchangeLogger | None = None,
    ) -> None:
        """Create the workers.

        Args:
            game: the tax game.
            archetypes: who is asked for whom.
            service: the language model.
            generator: spreads answers over workers.
            seed: part of every request, so that runs of different seeds do not share answers.
            draws: number of answers per archetype and step.
            temperature: sampling temperature.
            max_tokens: largest number of tokens of an answer.
            log: receives the first exchange with each archetype under new rates.
        """
        if len(archetypes.of_worker) != len(game):
            raise UsageError(f"expected an archetype for each of {len(game)} workers, got {len(archetypes.of_worker)}")
        self.game, self.archetypes, self.service, self.generator = game, archetypes, service, generator
        self.seed, self.draws, self.temperature, self.max_tokens = seed, draws, temperature, max_tokens
        self.log = log
        self.scripted = service.provider.source == "scripted"
        shape = (len(archetypes), len(game.hours))
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self.count = torch.zeros(shape, dtype=torch.int64)
        self.place = torch.full((len(game),), int((game.hours - FULL_TIME).abs().argmin()))
        self.content = torch.ones(len(game), dtype=torch.float64)
        self.counts = Counter[str]()

    def choose(self, view: WorkerObservation) -> Tensor:
        """Return each worker's place in the grid of hours, [worker].

        Raises BudgetReached when the budget is used up; replies that are under way are kept.
        """
        if view.new_rates:
            self.mean, self.count = torch.zeros_like(self.mean), torch.zeros_like(self.count)
        sizes = self.archetypes.size()
        asked = [(one, draw) for one, size in enumerate(sizes) for draw in range(min(self.draws, size))]
        prompts = [self._prompt(one, view) for one in range(len(sizes))]
        requests = [
            ChatRequest(
                say(prompts[one], WORKER),
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                seed=self.seed,
                draw=draw,
            )
            for one, draw in asked
        ]
        answers = structured(self.service, requests, _WorkerReply, self._fallback)
        hours: dict[tuple[int, int], tuple[int, float]] = {}
        for key, found in zip(asked, answers, strict=True):
            self.counts[f"workers/{found.how}"] += 1
            hours[key] = self._taken(found)
            if self.log is not None and view.new_rates and key[1] == 0:
                said = found.answer.record() if isinstance(found.answer, ChatAnswer) else {"completion": found.reason}
                self.log({"agent": "worker", "prompt": prompts[key[0]], "how": found.how, **said})
        lots = torch.randint(0, 2**31, (len(self.game),), generator=self.generator).tolist()
        whose = self.archetypes.of_worker.tolist()
        chosen = [hours[one, lot % min(self.draws, sizes[one])] for one, lot in zip(whose, lots, strict=True)]
        # A fallback stays with the hours that the person had.
        self.place = torch.tensor(
            [old if p < 0 else p for (p, _), old in zip(chosen, self.place.tolist(), strict=True)]
        )
        self.content = torch.tensor([content for _, content in chosen], dtype=torch.float64)
        return self.place

    def learn(self, year: Year, satisfaction: Tensor) -> None:
        """Add the step's utilities to the archetypes' means."""
        shape = self.mean.shape
        cell = self.archetypes.of_worker * shape[1] + year.choice
        number = torch.bincount(cell, minlength=shape.numel()).reshape(shape)
        brought = torch.bincount(cell, (satisfaction * year.utility).double(), minlength=shape.numel()).reshape(shape)
        total = self.count + number
        self.mean = torch.where(number > 0, (self.mean * self.count + brought) / total.clamp(min=1), self.mean)
        self.count = total

    def draw(self, year: Year, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - the protocol's
        """Return 1 for workers who answered that they are content, otherwise r, [worker]."""
        return self.content

    def _taken(self, found: Any) -> tuple[int, float]:
        """Return the place in the grid, −1 for none, and the factor on utility."""
        if found.how == "fallback":
            return -1, 1.0
        gaps = (self.game.hours - float(found.value.hours)).abs()
        place = int(gaps.argmin())
        self.counts["workers/rounded"] += int(float(gaps[place]) > 1e-9)
        return place, 1.0 if found.value.satisfied else DISCONTENT

    @staticmethod
    def _fallback(request: ChatRequest, reason: str) -> Any:
        del request, reason
        return _WorkerReply(hours=0, satisfied=True)

    def _prompt(self, one: int, view: WorkerObservation) -> str:
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
        """Return the archetypes' memory, the last answers and the counts."""
        return {
            "mean": self.mean.clone(),
            "count": self.count.clone(),
            "place": self.place.clone(),
            "content": self.content.clone(),
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in ("mean", "count", "place", "content"):
            setattr(self, name, state[name].clone())
        self.counts = Counter(state["counts"])


def scripted_worker_reply(request: ChatRequest, seed: int) -> dict[str, Any]:
    """Answer as the scripted stand-in of a worker, from the same prompt.

    It tries hours beside the best it knows, one time in four, and is content where taxes take less than 40 % of the
    income of full-time work.
    """
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
