"""Advantages: what was better than expected, per answer [N] or per token [N, T].

Argument names are columns of the roll-outs. A group is one prompt instance; a group of one has advantage 0 (never its
own reward), and so has a group whose rewards are all equal, exactly.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.core.ranges import PositiveFloat, Share
from pilotage.objectives.groups import group_mean, group_size, group_spread, group_std
from pilotage.objectives.shapes import check_shapes, masked


class AdvantageAndTarget(NamedTuple):
    """What a critic's estimate gives: both [N, T], 0 on masked slots."""

    advantage: Tensor
    value_target: Tensor


def raw_reward(reward: Tensor) -> Tensor:
    """Return the reward [N], without a baseline. Williams 1992, REINFORCE."""
    check_shapes("N", reward)
    return reward.clone()


def batch_center(reward: Tensor) -> Tensor:
    """R_n minus the mean over the batch: [N] -> [N]. Williams 1992, with the average reward as baseline."""
    check_shapes("N", reward)
    if bool((reward == reward[:1]).all()):
        return torch.zeros_like(reward)
    return reward - reward.mean()


@declare(needs_group=True)
def group_center(reward: Tensor, group: Tensor) -> Tensor:
    """R_n − μ_g: reward [N], group [N] -> [N]. Liu et al. 2025, «Understanding R1-Zero-Like Training» (Dr.GRPO)."""
    check_shapes("N N", reward, group)
    # The mean of n equal numbers need not be that number in floating point, hence the explicit zero for ties.
    return torch.where(group_spread(reward, group) > 0, reward - group_mean(reward, group), 0.0)


@declare(needs_group=True)
def group_zscore(
    reward: Tensor, group: Tensor, *, epsilon: PositiveFloat = 1e-6, scale: Literal["group", "batch"] = "group"
) -> Tensor:
    """Return (R_n − μ_g) / (σ + ε), σ unbiased: reward [N], group [N] -> [N].

    Shao et al. 2024, GRPO (arXiv 2402.03300).

    `scale`: σ over the row's group, or over the whole batch. ε is 1e-6 in verl, 1e-4 in TRL.

    Args:
        epsilon: ε, added to the deviation; 1e-6 in verl, 1e-4 in TRL.
        scale: whether σ is of the row's group or of the whole batch.
    """
    check_shapes("N N", reward, group)
    if scale not in ("group", "batch"):
        raise ValueError(f"scale is {scale!r}; it must be 'group' or 'batch'")
    one_group = torch.zeros_like(group)
    sigma = group_std(reward, group if scale == "group" else one_group)
    return group_center(reward, group) / (sigma + epsilon)


@declare(needs_group=True)
def leave_one_out(reward: Tensor, group: Tensor) -> Tensor:
    """R_n minus the mean of the other answers of its group = (R_n − μ_g)·G/(G−1): reward [N], group [N] -> [N].

    Ahmadian et al. 2024, RLOO (arXiv 2402.14740).
    """
    check_shapes("N N", reward, group)
    size = group_size(group).to(reward.dtype)
    return group_center(reward, group) * size / (size - 1).clamp(min=1)


def greedy_baseline(reward: Tensor, greedy_reward: Tensor) -> Tensor:
    """R_n minus the reward of the greedy answer to the same prompt: both [N] -> [N]. Li et al. 2023, ReMax."""
    check_shapes("N N", reward, greedy_reward)
    return reward - greedy_reward


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    ended: Tensor,
    *,
    discount: float = 1.0,
    gae_lambda: float = 1.0,
) -> Tensor:
    """Generalised advantage estimate over steps in order of time, several episodes one after another: all [B, T].

    `next_value`: value of the observation that follows step t *in its own episode* (the final observation where it was
    truncated); ignored where `terminated` (bool). `ended` (bool): the episode's last step, terminated or truncated.
    δ_t = r_t + γ·V(s_{t+1}) − V(s_t), A_t = δ_t + γλ·A_{t+1}. Schulman et al. 2016 (arXiv 1506.02438), eq. 16.
    """
    check_shapes("B,T B,T B,T B,T B,T", reward, value, next_value, terminated, ended)
    delta = reward + discount * torch.where(terminated, 0.0, next_value) - value
    carried = torch.zeros_like(delta[:, 0]) if delta.shape[1] else delta.new_zeros(len(delta))
    advantage = torch.empty_like(delta)
    for t in range(delta.shape[1] - 1, -1, -1):
        carried = delta[:, t] + discount * gae_lambda * torch.where(ended[:, t] | terminated[:, t], 0.0, carried)
        advantage[:, t] = carried
    return advantage


@declare(writes=("value_target",), per_token=True)
def generalised_advantage(
    token_reward: Tensor,
    value: Tensor,
    mask: Tensor,
    final_value: Tensor | None = None,
    *,
    discount: Share = 1.0,
    gae_lambda: Share = 1.0,
) -> AdvantageAndTarget:
    """Return GAE over the policy's tokens with a critic: token_reward, value, mask [N, T] -> advantage, value target
    [N, T].

    Masked slots, also between tokens, are passed over and cost no discount. An answer counts as terminated;
    `final_value` [N] (optional) is the value after its last token where it was truncated, 0 where not.
    Schulman et al. 2017, PPO; discount γ and gae_lambda λ in [0, 1], 1 for text.

    Args:
        discount: γ in [0, 1]; 1 for text.
        gae_lambda: λ in [0, 1]; 1 for text.
    """
    check_shapes("N,T N,T N,T N", token_reward, value, mask, final_value)
    reward, value = masked(token_reward, mask), masked(value, mask).detach()
    order = torch.argsort(~mask, dim=1, stable=True)  # policy tokens first, in order of time
    there = mask.gather(1, order)
    reward, value = reward.gather(1, order), value.gather(1, order)
    last = there & (torch.arange(mask.shape[1], device=mask.device) == mask.sum(1, keepdim=True) - 1)
    after = torch.zeros_like(value) if final_value is None else final_value.to(value.dtype)[:, None].expand_as(value)
    next_value = torch.where(last, after, value.roll(-1, dims=1))
    packed = gae(reward, value, next_value, ~there, last | ~there, discount=discount, gae_lambda=gae_lambda)
    advantage = torch.zeros_like(packed).scatter(1, order, packed)
    restored = torch.zeros_like(value).scatter(1, order, value)
    return AdvantageAndTarget(masked(advantage, mask), masked(advantage + restored, mask))


@declare(per_token=True)
def token_return(token_reward: Tensor, mask: Tensor, *, discount: Share = 1.0) -> Tensor:
    """Return Σ_k γ^k r_{t+k} over the policy's tokens: token_reward, mask [N, T] -> [N, T]. Hu 2025, REINFORCE++.

    It is the generalised advantage with value 0 and λ = 1.

    Args:
        discount: γ in [0, 1].
    """
    zeros = torch.zeros_like(token_reward)
    return generalised_advantage(token_reward, zeros, mask, discount=discount, gae_lambda=1.0).advantage
