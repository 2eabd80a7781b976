"""What a warm start does, tried on recorded situations instead of in a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pilotage.objectives.draws import normal
from pilotage.objectives.warm_start import contraction
from pilotage.policies.control.policy import ActionPolicy, evaluating
from pilotage.policies.control.sampling.sampling import Start


def row_generators(count: int, seed: int) -> list[torch.Generator]:
    """One generator per row, the same for equal seeds."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + row) for row in range(count)]


@torch.no_grad()
def planned(policy: ActionPolicy, observations: Mapping[str, Tensor], seed: int, start: Start | None = None) -> Tensor:
    """The chunks [n, T, A], normalised, that a policy plans for normalised windows "state" [n, To, S] and others.

    start: where denoising begins; None: in full, from noise. The same seed gives every row the same noise."""
    with evaluating(policy.encoder, policy.head):
        condition = policy.encoder(observations)
        return policy.head.sample(condition, row_generators(len(condition.vector), seed), start)


def contraction_by_list(
    policy: ActionPolicy,
    observations: Mapping[str, Tensor],
    guess: Tensor,
    lists: Sequence[Sequence[int]],
    *,
    sampler: str | None = None,
    delta: float = 0.1,
    seed: int = 0,
) -> list[float]:
    """For each list of levels the median over rows of ‖out − out'‖/‖δ‖, when a guess [n, T, A] is disturbed by δ.

    delta: standard deviation of δ in normalised units. Below one: errors of the guess shrink."""
    disturbed = guess + delta * normal(guess.shape, row_generators(len(guess), seed + 1), like=guess)
    factors = []
    for levels in lists:
        plain, other = (planned(policy, observations, seed, Start(x, levels, sampler)) for x in (guess, disturbed))
        factors.append(float(contraction(plain, other, guess, disturbed).median()))
    return factors
