"""Elections: candidates announce a change of rates, every worker has one vote, and the plurality wins."""

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
"""Points by which a candidate may announce to change a rate."""


@dataclass(frozen=True)
class ElectionResult:
    """Result of an election."""

    leader: int | None
    """Number of the worker who leads now; None without a valid vote and without an earlier leader."""
    votes: Mapping[int, int]
    """Number of votes of each candidate."""
    abstained: int
    refused: int
    """Number of votes for workers who are no candidates; they do not count."""


def hold_election(
    candidates: Sequence[int], ballots: Tensor, generator: torch.Generator, *, leader: int | None = None
) -> ElectionResult:
    """Return the result of a plurality vote.

    Args:
        candidates: numbers of workers.
        ballots: number of a worker, or ABSTAIN, for each worker, int64 [worker].
        generator: breaks ties; it is used only then.
        leader: worker who stays in office when no valid vote is cast.

    Raises:
        UsageError: for a candidate named twice or one who is no worker.
    """
    if len(set(candidates)) != len(candidates) or any(not 0 <= c < len(ballots) for c in candidates):
        raise UsageError(f"candidates are different workers 0 to {len(ballots) - 1}, got {list(candidates)}")
    votes = {candidate: int((ballots == candidate).sum()) for candidate in candidates}
    abstained = int((ballots == ABSTAIN).sum())
    refused = len(ballots) - abstained - sum(votes.values())
    most = max(votes.values(), default=0)
    if most == 0:
        return ElectionResult(leader, votes, abstained, refused)
    first = [candidate for candidate in candidates if votes[candidate] == most]
    chosen = first[int(torch.randint(0, len(first), (1,), generator=generator))] if len(first) > 1 else first[0]
    return ElectionResult(chosen, votes, abstained, refused)


def prospects(game: TaxGame, schedules: Tensor, satisfaction: Satisfaction | None = None) -> Tensor:
    """Return each worker's utility [schedule, worker] under schedules [schedule, bracket] with best responses.

    With a rule of satisfaction, utilities are multiplied by its expected factor.
    """
    year = game.play(schedules)
    return year.utility if satisfaction is None else satisfaction.expected(year) * year.utility


def selfish_platform(game: TaxGame, rates: Tensor, worker: int, satisfaction: Satisfaction | None = None) -> Tensor:
    """Return the change of rates, [bracket] in points, that is best for one worker under best responses.

    Up to three brackets all combinations of changes are tried; above, one bracket at a time in two rounds. Among
    equally good changes the smallest is chosen.

    Args:
        game: the tax game.
        rates: present rates in percent, [bracket].
        worker: number of the worker.
        satisfaction: rule of satisfaction, which multiplies utilities.
    """
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
    """Return each worker's vote, int64 [worker], for the announced change that gives it the highest utility.

    Among equally good changes the first is chosen; a worker for whom all are equal abstains.

    Args:
        game: the tax game.
        rates: present rates in percent, [bracket].
        platforms: announced changes in points, [bracket], by candidate.
        satisfaction: rule of satisfaction, which multiplies utilities.
    """
    if not platforms:
        return torch.full((len(game),), ABSTAIN, dtype=torch.int64)
    changed = torch.stack([apply_delta(rates, platform) for platform in platforms.values()])
    utility = prospects(game, changed, satisfaction)
    names = torch.tensor(list(platforms), dtype=torch.int64)
    best = utility.max(0)
    alike = (best.values - utility.min(0).values <= 1e-9) & (len(platforms) > 1)
    return torch.where(alike, ABSTAIN, names[best.indices])


class ElectedPlanner:
    """Scripted planner that is elected every tax year and changes rates as announced.

    Candidates and voters compute their utilities under best responses.
    """

    scripted = True

    def __init__(
        self,
        game: TaxGame,
        generator: torch.Generator,
        *,
        candidates: int = 5,
        satisfaction: Satisfaction | None = None,
    ) -> None:
        """Create the planner.

        Args:
            game: the tax game.
            generator: draws candidates and breaks ties.
            candidates: number of candidates each year.
            satisfaction: rule of satisfaction, which multiplies expected utilities.
        """
        if not 0 <= candidates <= len(game):
            raise UsageError(f"between 0 and {len(game)} workers can stand, got {candidates}")
        self.game, self.generator, self.candidates = game, generator, candidates
        self.satisfaction = satisfaction
        self.leader: int | None = None

    def reply(self, state: str) -> str:
        """Hold an election and return the leader's change of rates as JSON, zeros without a leader."""
        rates = self.game.check(json.loads(state.rpartition("STATE ")[2])["rates"])
        standing = torch.randperm(len(self.game), generator=self.generator)[: self.candidates].tolist()
        platforms = {worker: selfish_platform(self.game, rates, worker, self.satisfaction) for worker in standing}
        ballots = selfish_ballots(self.game, rates, platforms, self.satisfaction)
        outcome = hold_election(standing, ballots, self.generator, leader=self.leader)
        self.leader = outcome.leader
        if self.leader is None:
            return json.dumps({"DELTA": [0.0] * len(rates)})
        platform = platforms.get(self.leader)
        if platform is None:
            platform = selfish_platform(self.game, rates, self.leader, self.satisfaction)
        return json.dumps({"DELTA": platform.tolist()})

    def state_dict(self) -> dict[str, Any]:
        """Return the leader."""
        return {"leader": self.leader}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the leader."""
        self.leader = state["leader"]
