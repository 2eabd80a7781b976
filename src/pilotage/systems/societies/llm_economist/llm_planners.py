"""Planners of a tax game who are played by a language model: one who decides alone, and elected ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pilotage.llm import ChatAnswer, ChatRequest, Service, say
from pilotage.systems.societies.llm_economist.env.election import ABSTAIN, Outcome, hold_election
from pilotage.systems.societies.llm_economist.env.replies import Refused, parse_delta, parse_vote
from pilotage.systems.societies.llm_economist.llm_workers import Archetypes, Note, play_worker
from pilotage.systems.societies.llm_economist.scripted_planners import PatternPlanner, read_state

SYSTEM = (
    "You set marginal income-tax rates once a year, so that social welfare becomes as high as it can. People react to "
    "them by working more or less; all revenue is paid back in equal shares. Try changes while you may, learn from "
    "what they did, then settle on the best rates. Answer with one JSON object at the end: "
    '{"DELTA": [10, 0, -20]}, the points by which each rate is to change.'
)
CANDIDATE = (
    "You are one person who stands for election. Whoever wins changes the marginal income-tax rates this year, and may "
    'choose what serves it best. Answer with one JSON object at the end: {"DELTA": [10, 0, -20]}, the points by which '
    "you would change each rate."
)
VOTER = (
    "You are one person in an election. The winner changes the marginal income-tax rates as announced. Answer with one "
    'JSON object at the end: {"LEADER": 7}, the number of the candidate you vote for, or {"LEADER": null} to abstain.'
)


class ServicePlanner:
    """A language model that reads the state of the year and answers with a change of rates. What it says is parsed by
    the loop, which asks again when it cannot be used."""

    def __init__(self, service: Service, *, seed: int = 0, temperature: float = 0.7, max_tokens: int = 300) -> None:
        self.service, self.seed, self.temperature, self.max_tokens = service, seed, temperature, max_tokens
        self.scripted = service.provider.source == "scripted"
        self.name = service.provider.name
        self._asked = Counter[str]()

    def reply(self, state: str) -> str:
        """Raises BudgetReached. Without an answer a text that says why, which the loop refuses and counts."""
        # The same text again is a second try of the same year: another draw, or the kept answer would come back.
        draw = self._asked[state]
        self._asked[state] += 1
        request = ChatRequest(
            say(state, SYSTEM),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            draw=draw,
        )
        (answer,) = self.service.ask([request])
        return answer.text if isinstance(answer, ChatAnswer) else f"no answer: {answer.reason}"


class ElectedByService:
    """Every year some workers stand, say what they would change, everybody votes, and the winner's change is made. A
    model plays candidates and voters, one answer per archetype and draw."""

    def __init__(
        self,
        archetypes: Archetypes,
        service: Service,
        generator: torch.Generator,
        *,
        candidates: int = 5,
        seed: int = 0,
        draws: int = 4,
        temperature: float = 0.7,
        max_tokens: int = 300,
        note: Note | None = None,
    ) -> None:
        self.archetypes, self.service, self.generator = archetypes, service, generator
        self.candidates, self.seed, self.draws = candidates, seed, draws
        self.temperature, self.max_tokens, self.note = temperature, max_tokens, note
        self.scripted = service.provider.source == "scripted"
        self.name = service.provider.name
        self.leader: int | None = None
        self.last: Outcome | None = None
        self.counts = Counter[str]()
        """What became of platforms and votes: platforms/…, votes/…; see `parse_delta` and `parse_vote`."""

    def reply(self, state: str) -> str:
        """The winner's change as JSON; nothing changes while nobody leads. Raises BudgetReached."""
        brackets = len(read_state(state)["rates"])
        standing = torch.randperm(len(self.archetypes.of), generator=self.generator)[: self.candidates].tolist()
        platforms = self._platforms(standing, state, brackets)
        outcome = hold_election(standing, self._ballots(platforms, state), self.generator, leader=self.leader)
        self.last, self.leader = outcome, outcome.leader
        if outcome.leader is None:
            return json.dumps({"DELTA": [0.0] * brackets})
        won = platforms.get(outcome.leader)
        won = self._platforms([outcome.leader], state, brackets)[outcome.leader] if won is None else won
        return json.dumps({"DELTA": won.tolist()})

    def _platforms(self, standing: Sequence[int], state: str, brackets: int) -> dict[int, Tensor]:
        """What each would change; nothing where that cannot be read."""
        whose = self.archetypes.of[torch.tensor(standing, dtype=torch.int64)].tolist()
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
            if self.note is not None and isinstance(answer, ChatAnswer):
                self.note({"agent": f"candidate {worker}", "prompt": prompt, **answer.record()})
        self.counts.update({f"platforms/{name}": number for name, number in tally.items()})
        return found

    def _ballots(self, platforms: Mapping[int, Tensor], state: str) -> Tensor:
        """[N]: everybody's vote, by the answers of its archetype; what cannot be read abstains, and is counted."""
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
            if self.note is not None and key[1] == 0 and isinstance(answer, ChatAnswer):
                self.note({"agent": "voter", "prompt": request.messages[1].content, **answer.record()})
        self.counts.update({f"votes/{name}": number for name, number in tally.items()})
        lots = torch.randint(0, 2**31, (len(self.archetypes.of),), generator=self.generator).tolist()
        cast = [
            votes[one, lot % min(self.draws, sizes[one])]
            for one, lot in zip(self.archetypes.of.tolist(), lots, strict=True)
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
        return {"leader": self.leader, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.leader, self.counts = state["leader"], Counter(state["counts"])


def _words(delta: Tensor) -> str:
    return ", ".join(f"{change:+g}" for change in delta.tolist())


def play_anybody(request: ChatRequest, seed: int) -> dict[str, Any] | str:
    """The scripted stand-in for all of them, from the same texts: pattern search as planner; a candidate wants higher
    rates where its text wants equality and lower ones where it wants low taxes; a voter likewise."""
    system, text = request.messages[0].content, request.messages[1].content
    if system == SYSTEM:
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
    return play_worker(request, seed)
