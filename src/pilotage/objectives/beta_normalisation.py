"""BNPO: the advantage divided by a Beta density that follows the distribution of pass rates.

Xiao et al. 2025, «BNPO: Beta Normalization Policy Optimization» (arXiv 2506.02864). p̂ is a group's mean reward, a and
b the Beta distribution of p̂ over the prompts of a batch, α and β the exponents of the density that is divided by.
(TRL's loss_type="bnpo" is something else: an aggregation, see there.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.core.ranges import PositiveFloat, Range
from pilotage.objectives.advantages import group_center
from pilotage.objectives.decomposition import decompose
from pilotage.objectives.groups import group_mean, per_group_mean
from pilotage.objectives.shapes import check_shapes
from pilotage.types import FinishedStep

LARGEST_WEIGHT = 1e6
"""1/f is never above this (a guard against overflow, as in the authors' code)."""
LEAST_PROMPTS = 4
"""Prompts in a batch from which a Beta distribution is fitted to their pass rates."""


Exponent = Annotated[float, Range("(0, 1000]")]
Decay = Annotated[float, Range("[0, 1)")]


class BetaFit(NamedTuple):
    """What a batch says about pass rates. `reason` is empty, or why α = β = 1 was fallen back to."""

    a: float
    b: float
    alpha: float
    beta: float
    mean: float
    variance: float
    reason: str = ""


def beta_moments(pass_rate: Tensor) -> tuple[float, float]:
    """Return (a, b) of the Beta distribution with the mean and unbiased variance of `pass_rate` [Q], each in [0, 1].

    κ = m(1−m)/v − 1, a = κm, b = κ(1−m); negative when the rates are more bimodal than any Beta (v > m(1−m)).
    Raises ValueError for fewer than two rates or rates that are all equal.
    """
    check_shapes("Q", pass_rate)
    rates = pass_rate.detach().double()
    if len(rates) < 2 or bool((rates == rates[0]).all()):
        raise ValueError(f"a Beta distribution cannot be fitted to {len(rates)} rates without spread")
    mean, variance = rates.mean().item(), rates.var().item()
    kappa = mean * (1 - mean) / variance - 1
    return kappa * mean, kappa * (1 - mean)


def bnpo_exponents(a: float, b: float, *, least: float = 1.0) -> tuple[float, float]:
    """Return (α, β) = (1 + a/3, 1 + b/3), where the variance of the gradient is least; not below `least`.

    With it the variance below has its stationary point: α = a + 3 − 2α, β = b + 3 − 2β.
    """
    return max(1 + a / 3, least), max(1 + b / 3, least)


def beta_density(p: Tensor, alpha: float, beta: float) -> Tensor:
    """Density of Beta(α, β) at `p` in [0, 1], any shape: p^{α−1}(1−p)^{β−1}/B(α, β)."""
    exponents = torch.special.xlogy(alpha - 1, p) + torch.special.xlog1py(beta - 1, -p)
    return (exponents - _log_beta(alpha, beta)).exp()


def bnpo_variance(a: float, b: float, alpha: float, beta: float) -> float:
    """E_{p~Beta(a,b)}[p(1−p)/f(p; α, β)²] = B(α,β)²·B(a+3−2α, b+3−2β)/B(a,b), which BNPO minimises over (α, β).

    a, b > 0. Infinite outside α < (a+3)/2, β < (b+3)/2.
    """
    if a + 3 - 2 * alpha <= 0 or b + 3 - 2 * beta <= 0 or alpha <= 0 or beta <= 0:
        return math.inf
    return math.exp(2 * _log_beta(alpha, beta) - _log_beta(a, b) + _log_beta(a + 3 - 2 * alpha, b + 3 - 2 * beta))


def beta_fit(
    reward: Tensor, group: Tensor, *, low: float = 0.0, high: float = 1.0, minimum_prompts: int = LEAST_PROMPTS
) -> BetaFit:
    """Return (a, b) and (α, β) of a whole batch: reward [N] in [low, high], group [N].

    Falls back to α = β = 1 (REINFORCE with the group's mean), and says why in `reason`, when there are fewer prompts
    than `minimum_prompts`, when all pass rates are equal, and when they are too bimodal for a Beta distribution.
    """
    rates = per_group_mean(_to_unit(reward, low, high), group)
    mean = rates.mean().item()
    variance = rates.var().item() if len(rates) > 1 else 0.0
    if len(rates) < minimum_prompts:
        return BetaFit(0.0, 0.0, 1.0, 1.0, mean, variance, f"fewer than {minimum_prompts} prompts")
    if bool((rates - rates[0]).abs().max() <= 1e-6):
        return BetaFit(0.0, 0.0, 1.0, 1.0, mean, 0.0, "all pass rates equal")
    a, b = beta_moments(rates)
    if a <= 0 or b <= 0:
        return BetaFit(a, b, 1.0, 1.0, mean, variance, "pass rates too bimodal")
    return BetaFit(a, b, *bnpo_exponents(a, b), mean, variance)


def warn_of_few_prompts(step: FinishedStep) -> tuple[str, str] | None:
    """Return an event when a batch has too few prompts for a Beta distribution to be fitted to their pass rates."""
    prompts = len(step.rollouts.group.unique())
    if "alpha" in step.options or prompts >= LEAST_PROMPTS:
        return None
    return (
        "few prompts",
        f"a batch of {prompts} prompts is too small to fit a Beta distribution to their pass rates, so α = β = 1: "
        f"this is REINFORCE with the group's mean; expected at least {LEAST_PROMPTS} (--prompts-per-step)",
    )


def _check_density(*, low: float, high: float, alpha: float | None = None, beta: float | None = None, **_: Any) -> None:
    if (alpha is None) != (beta is None):
        raise UsageError(f"alpha={alpha} and beta={beta}: give both, or neither to let them follow the batch")
    if not low < high:
        raise UsageError(f"low={low} is not below high={high}; give the reward's smallest and largest value")


@declare(needs_group=True, bounded="reward", check=_check_density, alarms=(warn_of_few_prompts,))
def beta_norm(
    reward: Tensor,
    group: Tensor,
    *,
    alpha: Exponent | None = None,
    beta: Exponent | None = None,
    low: float = 0.0,
    high: float = 1.0,
    max_weight: PositiveFloat | None = None,
) -> Tensor:
    """Return (R − p̂)/f(p̂; α, β): reward [N] in [low, high], group [N] -> [N].

    Rewards are mapped to [0, 1] first. Without `alpha` and `beta` they follow the batch (`beta_fit`); (1, 1) is
    group_center, (3/2, 3/2) GRPO's z-score times π/8 for 0/1 rewards. `max_weight` caps 1/f; groups that are all
    right or all wrong get exactly 0. Raises UsageError for a reward outside [low, high].

    Args:
        alpha: α of the Beta density; none: fitted to the batch.
        beta: β of the Beta density; none: fitted to the batch.
        low: lowest reward.
        high: highest reward.
        max_weight: largest 1/f.
    """
    check_shapes("N N", reward, group)
    _check_density(alpha=alpha, beta=beta, low=low, high=high)
    if alpha is None or beta is None:
        fit = beta_fit(reward, group, low=low, high=high)
        alpha, beta = fit.alpha, fit.beta
    unit = _to_unit(reward, low, high)
    rate = group_mean(unit, group).clamp(0, 1)
    weight = beta_density(rate, alpha, beta).reciprocal()
    weight = weight.clamp(max=LARGEST_WEIGHT if max_weight is None else min(max_weight, LARGEST_WEIGHT))
    return group_center(unit, group) * weight


@declare(needs_group=True, bounded="reward")
class SmoothedBetaNorm:
    """beta_norm whose (α, β) follow a running mean of the batches' mean and variance of pass rates, for small batches:
    an addition of this library, not of the paper.

    `decay`: what remains of the running mean at each batch, in [0, 1); 0 is beta_norm itself. `low`, `high`,
    `max_weight`: as there. A batch counts itself; `update(reward, group)` after the step keeps what it added.

    Args:
        decay: what remains of the running mean at each batch, in [0, 1).
        low: lowest reward.
        high: highest reward.
        max_weight: largest 1/f.
    """

    def __init__(
        self, *, decay: Decay = 0.9, low: float = 0.0, high: float = 1.0, max_weight: PositiveFloat | None = None
    ) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"decay is {decay}; what remains of the running mean must be in [0, 1)")
        _check_density(low=low, high=high)
        self.decay, self.low, self.high, self.max_weight = decay, low, high, max_weight
        self.moments: list[float] | None = None

    def __call__(self, reward: Tensor, group: Tensor) -> Tensor:
        """Reward [N] in [low, high], group [N] -> [N]; changes no state."""
        mean, variance = self._with(reward, group)
        alpha = beta = 1.0
        if 0 < variance < mean * (1 - mean):
            kappa = mean * (1 - mean) / variance - 1
            alpha, beta = bnpo_exponents(kappa * mean, kappa * (1 - mean))
        options: dict[str, Any] = {"low": self.low, "high": self.high, "max_weight": self.max_weight}
        return beta_norm(reward, group, alpha=alpha, beta=beta, **options)

    def update(self, reward: Tensor, group: Tensor) -> None:
        """Keep what this batch added to the running mean."""
        self.moments = self._with(reward, group)

    def _with(self, reward: Tensor, group: Tensor) -> list[float]:
        rates = per_group_mean(_to_unit(reward, self.low, self.high), group).double()
        found = [rates.mean().item(), rates.var().item() if len(rates) > 1 else 0.0]
        if self.moments is None:
            return found
        return [self.decay * old + (1 - self.decay) * new for old, new in zip(self.moments, found, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the running mean and variance, or None before the first batch."""
        return {"moments": self.moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        self.moments = None if state["moments"] is None else [float(value) for value in state["moments"]]


@declare(needs_group=True, bounded="scores", check=_check_density, alarms=(warn_of_few_prompts,))
def decomposed_beta_norm(
    scores: Tensor, group: Tensor, *, low: float = 0.0, high: float = 1.0, max_weight: PositiveFloat | None = None
) -> Tensor:
    """Return beta_norm of every reward component by itself, then the mean: scores [N, K] in [low, high], group [N] ->
    [N].

    Args:
        low: lowest reward.
        high: highest reward.
        max_weight: largest 1/f.
    """
    return decompose(beta_norm, scores, group, low=low, high=high, max_weight=max_weight)


def _to_unit(reward: Tensor, low: float, high: float) -> Tensor:
    """The affine map of [low, high] onto [0, 1]."""
    _check_density(low=low, high=high)
    outside = reward[~((reward >= low) & (reward <= high))]
    if len(outside):
        raise UsageError(
            f"a reward of {outside[0].item()} is outside [{low}, {high}]; beta_norm needs bounded rewards: "
            "set low and high to the reward's range"
        )
    return (reward - low) / (high - low)


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
