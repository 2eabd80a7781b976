"""Planners of a tax game that a language model plays: a single planner, and elected ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pilotage.llm import ChatAnswer, ChatRequest, Service, say
from pilotage.systems.societies.llm_economist.env.archetypes import WorkerArchetypes
from pilotage.systems.societies.llm_economist.env.election import ABSTAIN, hold_election
from pilotage.systems.societies.llm_economist.env.replies import Refused, parse_delta, parse_vote
from pilotage.systems.societies.llm_economist.llm_workers import ExchangeLogger, scripted_worker_reply
from pilotage.systems.societies.llm_economist.prompts import CANDIDATE, PLANNER, VOTER
from pilotage.systems.societies.llm_economist.scripted_planners import PatternPlanner, read_state


class ServicePlanner:
    """Language model as planner, which reads the state of the year and answers with a change of rates.

    The answer is parsed by `TaxYears`, which asks again when it cannot be used.
    """

    def __init__(
        self, service: Service, *, seed: int = 0, temperature: float | None = 0.7, max_tokens: int = 300
    ) -> None:
        self.service, self.seed, self.temperature, self.max_tokens = service, seed, temperature, max_tokens
        self.scripted = service.provider.source == "scripted"
        self.name = service.provider.name
        self._asked = Counter[str]()

    def reply(self, state: str) -> str:
        """Return the model's answer, or the reason why there is none, which `TaxYears` refuses and counts.

        Raises BudgetReached when the budget is used up.
        """
        # The same text again is a second try of the same year: another draw, or the kept answer would come back.
        draw = self._asked[state]
        self._asked[state] += 1
        request = ChatRequest(
            say(state, PLANNER),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            draw=draw,
        )
        (answer,) = self.service.ask([request])
        return answer.text if isinstance(answer, ChatAnswer) else f"no answer: {answer.reason}"


class ElectedByService:
    """Planner elected every year, with candidates and voters played by a language model.

    Candidates announce a change of rates, all workers vote, and the winner's change is made. The model gives one answer
    per archetype and draw.
    """

    def __init__(
        self,
        archetypes: WorkerArchetypes,
        service: Service,
        generator: torch.Generator,
        *,
        candidates: int = 5,
        seed: int = 0,
        draws: int = 4,
        temperature: float | None = 0.7,
        max_tokens: int = 300,
        log: ExchangeLogger | None = None,
    ) -> None:
        """Create the planner.

        Args:
            archetypes: who is asked for whom.
            service: the language model.
            generator: draws candidates, ballots and ties.
            candidates: number of candidates each year.
            seed: part of every request, so that runs of different seeds do not share answers.
            draws: number of votes per archetype, spread over its workers.
            temperature: sampling temperature.
            max_tokens: largest number of tokens of an answer.
            log: receives the exchanges with candidates, and the first with each archetype as voter.
        """
        self.archetypes, self.service, self.generator = archetypes, service, generator
        self.candidates, self.seed, self.draws = candidates, seed, draws
        self.temperature, self.max_tokens, self.log = temperature, max_tokens, log
        self.scripted = service.provider.source == "scripted"
        self.name = service.provider.name
        self.leader: int | None = None
        self.counts = Counter[str]()
        """Number of answers by what became of them: platforms/…, votes/…; see `parse_delta` and `parse_vote`."""

    def reply(self, state: str) -> str:
        """Return the winner's change as JSON, zeros while there is no leader. Raises BudgetReached."""
        brackets = len(read_state(state)["rates"])
        standing = torch.randperm(len(self.archetypes.of_worker), generator=self.generator)[: self.candidates].tolist()
        platforms = self._platforms(standing, state, brackets)
        outcome = hold_election(standing, self._ballots(platforms, state), self.generator, leader=self.leader)
        self.leader = outcome.leader
        if outcome.leader is None:
            return json.dumps({"DELTA": [0.0] * brackets})
        won = platforms.get(outcome.leader)
        won = self._platforms([outcome.leader], state, brackets)[outcome.leader] if won is None else won
        return json.dumps({"DELTA": won.tolist()})

    def _platforms(self, standing: Sequence[int], state: str, brackets: int) -> dict[int, Tensor]:
        """Return the change that each candidate announces; zeros where the answer cannot be read."""
        whose = self.archetypes.of_worker[torch.tensor(standing, dtype=torch.int64)].tolist()
        prompts = [f"{self.archetypes.texts[one]}\n{state}" for one in whose]
        # Two candidates of one archetype may differ.
        requests = [
            self._request(p, CANDIDATE, whose[:place].count(one))
            for place, (p, one) in enumerate(zip(prompts, whose, strict=True))
        ]
        tally, found = Counter[str](), {}
        for worker, prompt, answer in zip(standing, prompts, self.service.ask(requests), strict=True):
            text = answer.text if isinstance(answer, ChatAnswer) else answer.reason
            delta = parse_delta(text, brackets, tally)
            found[worker] = torch.zeros(brackets, dtype=torch.float64) if isinstance(delta, Refused) else delta
            if self.log is not None and isinstance(answer, ChatAnswer):
                self.log({"agent": f"candidate {worker}", "prompt": prompt, **answer.record()})
        self.counts.update({f"platforms/{name}": number for name, number in tally.items()})
        return found

    def _ballots(self, platforms: Mapping[int, Tensor], state: str) -> Tensor:
        """Return each worker's vote, [worker], by the answers of its archetype; unreadable answers abstain."""
        sizes, tally = self.archetypes.size(), Counter[str]()
        listed = "; ".join(f"candidate {c}: {_words(delta)}" for c, delta in platforms.items())
        numbers = {str(c): delta.tolist() for c, delta in platforms.items()}
        told = f"{state}\nThe candidates announce these changes, in points from the first bracket on: {listed}.\n"
        asked = [(one, draw) for one, size in enumerate(sizes) for draw in range(min(self.draws, size))]
        requests = [
            self._request(f"{self.archetypes.texts[one]}\n{told}BALLOT {json.dumps(numbers)}", VOTER, draw)
            for one, draw in asked
        ]
        votes = {}
        for key, request, answer in zip(asked, requests, self.service.ask(requests), strict=True):
            text = answer.text if isinstance(answer, ChatAnswer) else answer.reason
            vote = parse_vote(text, list(platforms), tally)
            votes[key] = vote if isinstance(vote, int) else ABSTAIN
            if self.log is not None and key[1] == 0 and isinstance(answer, ChatAnswer):
                self.log({"agent": "voter", "prompt": request.messages[1].content, **answer.record()})
        self.counts.update({f"votes/{name}": number for name, number in tally.items()})
        lots = torch.randint(0, 2**31, (len(self.archetypes.of_worker),), generator=self.generator).tolist()
        cast = [
            votes[one, lot % min(self.draws, sizes[one])]
            for one, lot in zip(self.archetypes.of_worker.tolist(), lots, strict=True)
        ]
        return torch.tensor(cast, dtype=torch.int64)

    def _request(self, prompt: str, system: str, draw: int) -> ChatRequest:
        return ChatRequest(
            say(prompt, system),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            draw=draw,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return leader and counts."""
        return {"leader": self.leader, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore leader and counts."""
        self.leader, self.counts = state["leader"], Counter(state["counts"])


def _words(delta: Tensor) -> str:
    return ", ".join(f"{change:+g}" for change in delta.tolist())


def scripted_reply(request: ChatRequest, seed: int) -> dict[str, Any] | str:
    """Answer as the scripted stand-in for planner, candidates, voters and workers, from the same prompts.

    The planner uses pattern search. Candidates and voters want higher rates where their prompt asks for equality, and
    lower ones where it asks for low taxes.
    """
    system, text = request.messages[0].content, request.messages[1].content
    if system == PLANNER:
        return PatternPlanner().reply(text)
    taste = 1 if "more equality" in text else -1 if "should be low" in text else 0
    if system == CANDIDATE:
        rates = read_state(text)["rates"]
        step = (10.0, 20.0)[seed % 2]
        return {"DELTA": [taste * step for _ in rates]}
    if system == VOTER:
        ballot = {int(c): sum(delta) for c, delta in json.loads(text.rpartition("BALLOT ")[2]).items()}
        if not ballot or not taste:
            return {"LEADER": None}
        return {"LEADER": max(ballot, key=lambda c: taste * ballot[c])}
    return scripted_worker_reply(request, seed)
