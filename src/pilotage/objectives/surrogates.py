"""Token losses [N, T], to be minimised, whose gradient is a policy gradient; 0 on masked slots.

`logp` is log π_θ of the sampled tokens, with gradient; `logp_old` that of the policy before the first update. The
advantage is per answer [N] or per token [N, T]. With unchanged weights all of them have the gradient −A·∇log π.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.core.ranges import NonNegativeFloat, PositiveFloat, Range, Share
from pilotage.objectives.shapes import answer_mean, check_shapes, masked, per_token

AboveOne = Annotated[float, Range("(1, inf)")]
Level = Literal["token", "sequence", "trajectory"]
"""What a ratio ρ spans. token: one token. sequence: the geometric mean over an answer (GSPO).
trajectory: the product over an answer (RLOO in TRL)."""


@declare(single_update=True)
def reinforce(logp: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Return −A·log π: logp, mask [N, T], advantage [N] or [N, T] -> [N, T].

    Williams 1992; GTPO's ρ ≡ 1 has this gradient.
    """
    check_shapes("N,T N,T", logp, mask)
    return -per_token(advantage, mask).detach() * masked(logp, mask)


def ratio(logp: Tensor, logp_old: Tensor, mask: Tensor, *, level: Level = "token") -> Tensor:
    """Return ρ of every token [N, T] (1 on masked slots), with the level's value and the gradient ρ·∇log π_t of its own
    token.

    sequence (Zheng et al. 2025, GSPO): sg(s_n)·exp(ℓ − sg ℓ) with s_n = exp(mean_t(ℓ − ℓ_old)); averaged
    over the answer that is exactly the gradient of s_n. trajectory: the same with s_n = exp(Σ_t(ℓ − ℓ_old)).
    """
    check_shapes("N,T N,T N,T", logp, logp_old, mask)
    logp, logp_old = masked(logp, mask), masked(logp_old, mask).detach()
    if level == "token":
        return (logp - logp_old).exp()
    difference = (logp - logp_old).detach()
    if level == "sequence":
        exponent = answer_mean(difference, mask)
    elif level == "trajectory":
        exponent = difference.sum(-1)
    else:
        raise ValueError(f"level is {level!r}; it must be 'token', 'sequence' or 'trajectory'")
    return torch.where(mask, exponent.exp()[:, None] * (logp - logp.detach()).exp(), 1.0)


def clip(
    logp: Tensor,
    logp_old: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    low: Share = 0.2,
    high: NonNegativeFloat = 0.2,
    dual: AboveOne | None = None,
    delta: AboveOne | None = None,
    level: Level = "token",
) -> Tensor:
    """Return PPO's clipped loss of each token, [N, T]: the negative of min(ρA, ρ̄A), where ρ̄ is ρ within 1−low … 1+high.

    logp, logp_old and mask are [N, T], advantage is [N] or [N, T].

    `dual` (c > 1): for A < 0 the loss is at most −cA (Ye et al. 2020; 3 in verl, 10 in DAPO's scripts). `delta`: ρ in
    the unclipped term is at most this (TRL). `level`: see Level. Schulman et al. 2017, PPO, eq. 7; DAPO raises `high`.
    With level="trajectory" an answer's loss is spread over its tokens: their *sum* is −min(sA, …), so that
    seq_mean_token_sum gives the mean over answers that RLOO minimises.

    Args:
        low: the ratio is clipped below at 1 − low.
        high: the ratio is clipped above at 1 + high.
        dual: c > 1: for negative advantages the loss is at most −cA; none: unbounded.
        delta: largest ratio in the unclipped term; none: unbounded.
        level: whether ratios are of tokens, of sequences or of trajectories.
    """
    if dual is not None and dual <= 1:
        raise ValueError(f"dual is {dual}; the bound c of the dual clip must be above 1")
    rho = ratio(logp, logp_old, mask, level=level)
    advantage = per_token(advantage, mask).detach()
    unclipped = rho if delta is None else rho.clamp(max=delta)
    loss = -torch.minimum(unclipped * advantage, rho.clamp(1 - low, 1 + high) * advantage)
    if dual is not None:
        loss = torch.where(advantage < 0, torch.minimum(loss, -dual * advantage), loss)
    if level == "trajectory":
        # The value of each token is its share 1/L; the gradient is that of the whole.
        loss = loss - loss.detach() + loss.detach() / mask.sum(-1, keepdim=True).clamp(min=1)
    return masked(loss, mask)


def clipped(
    logp: Tensor,
    logp_old: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    low: float = 0.2,
    high: float = 0.2,
    level: Level = "token",
) -> Tensor:
    """Return which tokens' gradient the clip removes: bool [N, T]. The clip fraction is its mean over the mask."""
    rho, advantage = ratio(logp, logp_old, mask, level=level).detach(), per_token(advantage, mask)
    return mask & (((rho < 1 - low) & (advantage < 0)) | ((rho > 1 + high) & (advantage > 0)))


def gspo(
    logp: Tensor, logp_old: Tensor, advantage: Tensor, mask: Tensor, *, low: Share = 3e-4, high: NonNegativeFloat = 4e-4
) -> Tensor:
    """Return the clipped loss at the level of the sequence, with the paper's narrow bounds.

    Zheng et al. 2025 (arXiv 2507.18071).

    Args:
        low: the ratio is clipped below at 1 − low.
        high: the ratio is clipped above at 1 + high.
    """
    return clip(logp, logp_old, advantage, mask, low=low, high=high, level="sequence")


def cispo(logp: Tensor, logp_old: Tensor, advantage: Tensor, mask: Tensor, *, high: PositiveFloat = 5.0) -> Tensor:
    """Return −sg(min(ρ, high))·A·log π: every token keeps a gradient, its weight is bounded. [N, T]; advantage [N] or
    [N, T].

    `high` bounds the ratio itself (TRL's epsilon_high). Chen et al. 2025, MiniMax-M1 (arXiv 2506.13585), eq. 4.

    Args:
        high: largest ratio (TRL's epsilon_high).
    """
    weight = ratio(logp, logp_old, mask).detach().clamp(max=high)
    return -weight * per_token(advantage, mask).detach() * masked(logp, mask)


def importance_weight(logp_old: Tensor, logp_sampled: Tensor, mask: Tensor, *, cap: PositiveFloat = 2.0) -> Tensor:
    """Return min(π_old / π_sampled, cap) per token, without gradient; 0 on masked slots: all [N, T] -> [N, T].

    A token weight for when the engine's probabilities differ from the trainer's. Yao et al. 2025, truncated importance
    sampling; Ionides 2008.

    Args:
        cap: largest weight.
    """
    check_shapes("N,T N,T N,T", logp_old, logp_sampled, mask)
    difference = masked(logp_old, mask) - masked(logp_sampled, mask)
    return masked(difference.exp().clamp(max=cap), mask).detach()
