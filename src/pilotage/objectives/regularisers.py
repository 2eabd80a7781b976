"""Token losses that are added to the surrogate: divergence from the reference, entropy."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from pilotage.core.ranges import PositiveFloat
from pilotage.objectives import divergences
from pilotage.objectives.shapes import check_shapes, masked


def kl(
    logp: Tensor,
    logp_ref: Tensor,
    mask: Tensor,
    *,
    kind: Literal["k2", "k3", "k3_plus"] = "k3",
    limit: PositiveFloat | None = 20.0,
) -> Tensor:
    """Return the KL estimator `kind` as a loss: logp (with gradient), logp_ref, mask [N, T] -> [N, T].

    k2 and k3_plus have the gradient of KL(π_θ‖π_ref), k3 that of the other direction; k1 has mean gradient 0 and is
    refused as a loss. `limit` clamps the log-ratio (verl: 20). Shao et al. 2024, GRPO, eq. 4 is k3 with factor 0.04.

    Args:
        kind: estimator: k2, k3 or k3_plus.
        limit: largest absolute log-ratio; none: not clamped.
    """
    if kind not in ("k2", "k3", "k3_plus"):
        raise ValueError(
            f"kind is {kind!r}, expected k2, k3 or k3_plus; k1 has no gradient as a loss: use --penalty kl"
        )
    return getattr(divergences, kind)(logp, logp_ref, mask, limit=limit)


def entropy_bonus(policy_entropy: Tensor, mask: Tensor) -> Tensor:
    """Return −H per token (minimising it raises entropy): policy_entropy with gradient, mask [N, T] -> [N, T]."""
    check_shapes("N,T N,T", policy_entropy, mask)
    return -masked(policy_entropy, mask)
