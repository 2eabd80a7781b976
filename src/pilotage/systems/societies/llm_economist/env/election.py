"""Elections: some workers stand with a platform, everybody has one vote, most votes win, chance decides ties."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.llm_economist.env.replies import apply_delta
from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame
from pilotage.systems.societies.llm_economist.env.workers import Satisfaction

ABSTAIN = -1
CHANGES = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Points by which a platform may change a rate."""


@dataclass(frozen=True)
class Outcome:
    leader: int | None
    """Who leads now: a worker's number; None when nobody has led and nobody was voted for."""
    votes: Mapping[int, int]
    """Of each candidate."""
    abstained: int
    refused: int
    """Votes for somebody who does not stand. They do not count."""


def hold_election(
    candidates: Sequence[int], ballots: Tensor, generator: torch.Generator, *, leader: int | None = None
) -> Outcome:
    """Plurality. candidates: numbers of workers; ballots [N] int64: a worker's number each, or ABSTAIN; leader: who
    stays in office when no valid vote is cast.

    Draws from the generator only to break a tie. Raises UsageError for a candidate named twice or one who is no
    worker."""
    if len(set(candidates)) != len(candidates) or any(not 0 <= c < len(ballots) for c in candidates):
        raise UsageError(f"candidates are different workers 0 to {len(ballots) - 1}, got {list(candidates)}")
    votes = {candidate: int((ballots == candidate).sum()) for candidate in candidates}
    abstained = int((ballots == ABSTAIN).sum())
    refused = len(ballots) - abstained - sum(votes.values())
    most = max(votes.values(), default=0)
    if most == 0:
        return Outcome(leader, votes, abstained, refused)
    first = [candidate for candidate in candidates if votes[candidate] == most]
    chosen = first[int(torch.randint(0, len(first), (1,), generator=generator))] if len(first) > 1 else first[0]
    return Outcome(chosen, votes, abstained, refused)


def prospects(game: TaxGame, schedules: Tensor, satisfaction: Satisfaction | None = None) -> Tensor:
    """[K, N]: everybody's utility under each schedule [K, B] once all have responded; with a rule of satisfaction times
    its mean multiplier."""
    year = game.play(schedules)
    return year.utility if satisfaction is None else satisfaction.expected(year) * year.utility


def selfish_platform(game: TaxGame, rates: Tensor, worker: int, satisfaction: Satisfaction | None = None) -> Tensor:
    """The change of rates after which this worker is best off once all have responded: [B] points.

    Up to three brackets all 5^B changes are tried; above, bracket by bracket, two rounds. Of equally good ones the
    smallest change."""
    brackets = len(game.edges)

    def best(deltas: Tensor) -> Tensor:
        changed = torch.stack([apply_delta(rates, delta) for delta in deltas])
        utility = prospects(game, changed, satisfaction)[:, worker]
        good = deltas[utility >= utility.max() - 1e-9]
        return good[int(good.abs().sum(-1).argmin())]

    if brackets <= 3:
        return best(torch.tensor(list(product(CHANGES, repeat=brackets)), dtype=rates.dtype))
    chosen = torch.zeros(brackets, dtype=rates.dtype)
    for axis in list(range(brackets)) * 2:
        trials = chosen.repeat(len(CHANGES), 1)
        trials[:, axis] = torch.tensor(CHANGES, dtype=rates.dtype)
        chosen = best(trials)
    return chosen


def selfish_ballots(
    game: TaxGame, rates: Tensor, platforms: Mapping[int, Tensor], satisfaction: Satisfaction | None = None
) -> Tensor:
    """Everybody votes for the platform that leaves it best off; of equally good ones for the first; whoever does not
    care abstains. -> [N] int64: a candidate's number or ABSTAIN."""
    if not platforms:
        return torch.full((len(game),), ABSTAIN, dtype=torch.int64)
    changed = torch.stack([apply_delta(rates, platform) for platform in platforms.values()])
    utility = prospects(game, changed, satisfaction)
    names = torch.tensor(list(platforms), dtype=torch.int64)
    best = utility.max(0)
    alike = (best.values - utility.min(0).values <= 1e-9) & (len(platforms) > 1)
    return torch.where(alike, ABSTAIN, names[best.indices])


class ElectedPlanner:
    """A new leader every tax year, who then changes rates as promised. Scripted: candidates and voters compute what a
    platform would bring them when all respond."""

    scripted = True

    def __init__(
        self,
        game: TaxGame,
        generator: torch.Generator,
        *,
        candidates: int = 5,
        satisfaction: Satisfaction | None = None,
    ) -> None:
        """candidates: how many stand each year, drawn at random; satisfaction: multiplies what they expect."""
        if not 0 <= candidates <= len(game):
            raise UsageError(f"between 0 and {len(game)} workers can stand, got {candidates}")
        self.game, self.generator, self.candidates = game, generator, candidates
        self.satisfaction = satisfaction
        self.leader: int | None = None
        self.outcomes: list[Outcome] = []

    def reply(self, state: str) -> str:
        """Holds an election and answers with the leader's change of rates as JSON; without a leader with none."""
        rates = self.game.check(json.loads(state.rpartition("STATE ")[2])["rates"])
        standing = torch.randperm(len(self.game), generator=self.generator)[: self.candidates].tolist()
        platforms = {worker: selfish_platform(self.game, rates, worker, self.satisfaction) for worker in standing}
        ballots = selfish_ballots(self.game, rates, platforms, self.satisfaction)
        outcome = hold_election(standing, ballots, self.generator, leader=self.leader)
        self.outcomes.append(outcome)
        self.leader = outcome.leader
        if self.leader is None:
            return json.dumps({"DELTA": [0.0] * len(rates)})
        platform = platforms.get(self.leader)
        if platform is None:
            platform = selfish_platform(self.game, rates, self.leader, self.satisfaction)
        return json.dumps({"DELTA": platform.tolist()})

    def state_dict(self) -> dict[str, Any]:
        return {"leader": self.leader}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.leader = state["leader"]
