"""Kullback-Leibler estimators on the policy's own samples, entropy, and the controller of a KL coefficient.

With d = log π_θ − log π_ref on sampled tokens: k1 = d (unbiased, signed), k2 = ½d² (biased, low variance, the right
gradient), k3 = exp(−d) + d − 1 (unbiased, ≥ 0, but its own gradient is that of the other direction). In a reward use
k1, as a loss k2 or k3_plus. Schulman 2020, «Approximating KL divergence».
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.objectives.shapes import check_shapes, masked


def k1(logp: Tensor, logp_ref: Tensor, mask: Tensor, *, limit: float | None = None) -> Tensor:
    """D = log π_θ − log π_ref: all [N, T] -> [N, T], 0 on masked slots. `limit` clamps d to ±limit (verl: 20)."""
    check_shapes("N,T N,T N,T", logp, logp_ref, mask)
    difference = masked(logp, mask) - masked(logp_ref, mask).detach()
    return difference if limit is None else difference.clamp(-limit, limit)


def k2(logp: Tensor, logp_ref: Tensor, mask: Tensor, *, limit: float | None = None) -> Tensor:
    """½d²: all [N, T] -> [N, T]. Its gradient on own samples is that of KL(π_θ‖π_ref)."""
    return 0.5 * k1(logp, logp_ref, mask, limit=limit).square()


def k3(
    logp: Tensor, logp_ref: Tensor, mask: Tensor, *, limit: float | None = None, ceiling: float | None = None
) -> Tensor:
    """exp(−d) + d − 1 ≥ 0: all [N, T] -> [N, T]. `ceiling` bounds the result from above (verl: 10). GRPO, eq. 4."""
    difference = k1(logp, logp_ref, mask, limit=limit)
    estimate = torch.expm1(-difference) + difference
    return estimate if ceiling is None else estimate.clamp(max=ceiling)


def k3_plus(
    logp: Tensor, logp_ref: Tensor, mask: Tensor, *, limit: float | None = None, ceiling: float | None = None
) -> Tensor:
    """Return the value of k3 with the gradient of k2 (straight through): all [N, T] -> [N, T]."""
    value = k3(logp, logp_ref, mask, limit=limit, ceiling=ceiling).detach()
    gradient = k2(logp, logp_ref, mask, limit=limit)
    return value + (gradient - gradient.detach())


def entropy_from_logits(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits) over the last dimension: [..., V] -> [...]. Logits of −inf are impossible."""
    logp = torch.log_softmax(logits, dim=-1)
    return -(logp.exp() * torch.where(logp > -torch.inf, logp, 0.0)).sum(-1)


class AdaptiveKL:
    """A KL coefficient that keeps the measured KL near a target. Ziegler et al. 2019 (arXiv 1909.08593).

    `coefficient`: where it starts; `target`: wanted KL per answer or token, as measured; `horizon`: samples over which
    the coefficient may change by a fifth.
    """

    def __init__(self, *, coefficient: float = 0.05, target: float = 0.1, horizon: float = 1e4) -> None:
        if min(coefficient, target, horizon) <= 0:
            raise ValueError(f"coefficient {coefficient}, target {target} and horizon {horizon} must all be above 0")
        self.coefficient, self.target, self.horizon = coefficient, target, horizon

    def update(self, kl: float, samples: int) -> float:
        """Return the coefficient after `samples` samples of mean divergence `kl`: times at most 1 ± 0.2·n/horizon."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coefficient *= 1 + error * min(samples / self.horizon, 1.0)
        return self.coefficient

    def state_dict(self) -> dict[str, Any]:
        """Return the coefficient as it stands."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        self.coefficient = float(state["coefficient"])
