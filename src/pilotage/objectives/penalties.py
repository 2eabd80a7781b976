"""What is taken off a reward before the advantage: divergence from the reference, length."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.core.ranges import NonNegativeFloat
from pilotage.objectives.divergences import k1
from pilotage.objectives.shapes import check_shapes, masked


def score_on_last_token(reward: Tensor, mask: Tensor) -> Tensor:
    """Return the reward on the last token that the policy wrote, 0 elsewhere: reward [N], mask [N, T] -> [N, T]."""
    check_shapes("N N,T", reward, mask)
    last = mask & (mask.flip(-1).cumsum(-1).flip(-1) == 1)
    return torch.where(last, reward[:, None], 0.0)


@declare(writes=("token_reward",))
def kl_in_reward(
    reward: Tensor, logp_old: Tensor, logp_ref: Tensor, mask: Tensor, *, coefficient: NonNegativeFloat = 0.001
) -> Tensor:
    """Return −β·k1 on every token, the reward on the last: reward [N], the others [N, T] -> token_reward [N, T].

    `coefficient`: the paper's β, ≥ 0. Ouyang et al. 2022, InstructGPT; Hu 2025, REINFORCE++.

    Args:
        coefficient: β, 0 or more.
    """
    check_shapes("N N,T N,T N,T", reward, logp_old, logp_ref, mask)
    divergence = masked(k1(logp_old, logp_ref, mask), mask).detach().to(reward.dtype)
    return score_on_last_token(reward, mask) - coefficient * divergence


def kl_in_score(
    reward: Tensor, logp_old: Tensor, logp_ref: Tensor, mask: Tensor, *, coefficient: float = 0.05
) -> Tensor:
    """R_n − β·Σ_t k1, one number per answer: reward [N], the others [N, T] -> [N]. Ahmadian et al. 2024, RLOO."""
    return kl_in_reward(reward, logp_old, logp_ref, mask, coefficient=coefficient).sum(-1)


def overlong(length: Tensor, *, maximum: int, buffer: int, factor: float = 1.0) -> Tensor:
    """0 up to `maximum` − `buffer` tokens, falling to −`factor` at `maximum` and beyond: length [N] -> [N] float32.

    Yu et al. 2025, DAPO (arXiv 2503.14476), eq. 13: maximum 20480, buffer 4096.
    """
    check_shapes("N", length)
    if not 0 < buffer <= maximum:
        raise ValueError(f"buffer is {buffer} and maximum {maximum}; expected 0 < buffer ≤ maximum, in tokens")
    excess = length.to(torch.float32) - (maximum - buffer)
    return -factor * (excess / buffer).clamp(0.0, 1.0)
