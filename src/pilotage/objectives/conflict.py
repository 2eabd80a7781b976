"""GTPO: tokens that right and wrong answers share are protected, uncertain answers are filtered.

Simoni et al. 2025, «GTPO: Trajectory-Based Policy Optimization in Large Language Models» (arXiv 2508.03772). In a
group, P are the answers with reward above the group's mean, N those below; answers at the mean take no part.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from pilotage.core.errors import RunError
from pilotage.core.pieces import declare
from pilotage.core.ranges import NonNegativeFloat, Range
from pilotage.objectives.groups import group_index, group_mean, group_spread
from pilotage.objectives.shapes import answer_mean, check_shapes
from pilotage.types import FinishedStep

THRESHOLD = math.log(2)
"""Mean token entropy of an answer, in nats, above which the paper filters it."""
SILENT_STEPS = 20
"""Steps in a row in which the entropy filter leaves out every answer before the run is ended."""


class ConflictTokens(NamedTuple):
    """Bool masks [N, T]. raw: the token stands at the same position (from the start, or from the end) in P and in N.
    forward, backward: it also belongs to the unbroken run from that end, which is what counts.
    """

    raw_forward: Tensor
    raw_backward: Tensor
    forward: Tensor
    backward: Tensor


def reward_sign(reward: Tensor, group: Tensor) -> Tensor:
    """+1 for answers above their group's mean, −1 below, 0 at it (within rounding): reward [N], group [N] -> [N]."""
    check_shapes("N N", reward, group)
    centred = reward - group_mean(reward, group)
    # A millionth of the spread: the mean of floats may miss a reward that equals it.
    return torch.where(centred.abs() > 1e-6 * group_spread(reward, group), centred.sign(), 0.0)


def conflict_tokens(
    ids: Tensor, mask: Tensor, reward: Tensor, group: Tensor, truncated: Tensor, *, exclude_truncated: bool = True
) -> ConflictTokens:
    """Return where right and wrong answers of a group agree: ids, mask [N, T], reward, group, truncated [N].

    Positions count an answer's own tokens, so the side of the padding does not matter. `exclude_truncated`: answers
    cut at the limit have no end to align and stay out of the backward run.
    """
    check_shapes("N,T N,T N N N", ids, mask, reward, group, truncated)
    sign = reward_sign(reward, group)
    position = mask.cumsum(-1) - 1
    ended = mask & ~truncated[:, None] if exclude_truncated else mask
    raw_forward = _in_both(ids, position, mask, sign, group)
    raw_backward = _in_both(ids, mask.sum(-1, keepdim=True) - 1 - position, ended, sign, group)
    before = (mask & ~raw_forward).cumsum(-1)
    after = (mask & ~raw_backward).flip(-1).cumsum(-1).flip(-1)
    return ConflictTokens(raw_forward, raw_backward, raw_forward & (before == 0), raw_backward & (after == 0))


def conflict_weights(
    ids: Tensor,
    mask: Tensor,
    reward: Tensor,
    group: Tensor,
    truncated: Tensor,
    *,
    weight: Annotated[float, Range("[0, 1000]")] = 2.0,
    exclude_truncated: bool = True,
    divide_by_conflicts: bool = False,
) -> Tensor:
    """Return λ = λ_forward·λ_backward [N, T]: on a conflict token `weight` in P and 0 in N, else 1; 0 on masked slots.

    ids, mask [N, T], reward, group, truncated [N]. A token in both runs gets weight² (or 0). All rewards of a group
    equal: λ is the mask. `divide_by_conflicts` divides an answer's weights by its number of conflict tokens, as the
    authors' code does and the paper does not; a token in both runs counts once, an answer without any is not divided.

    Args:
        weight: weight of a conflict token in right answers.
        exclude_truncated: whether answers cut at the limit stay out of the backward run.
        divide_by_conflicts: whether an answer's weights are divided by its number of conflict tokens.
    """
    conflicts = conflict_tokens(ids, mask, reward, group, truncated, exclude_truncated=exclude_truncated)
    dtype = reward.dtype
    on_conflict = torch.where(reward_sign(reward, group) > 0, reward.new_tensor(weight), 0.0)[:, None]
    weights = mask.to(dtype)
    for run in (conflicts.forward, conflicts.backward):
        weights = weights * torch.where(run, on_conflict, 1.0)
    if divide_by_conflicts:
        weights = weights / (conflicts.forward | conflicts.backward).sum(-1, keepdim=True).clamp(min=1)
    return weights


def end_when_all_are_filtered(step: FinishedStep) -> None:
    """Raise RunError when the entropy filter has left out every answer for SILENT_STEPS steps in a row."""
    threshold = step.options.get("threshold", THRESHOLD)
    active = filters_entropy(
        step.initial_entropy, threshold=threshold, always_filter=step.options.get("always_filter", False)
    )
    entropy = answer_mean(step.rollouts.column("entropy"), step.rollouts.mask)
    silent = active and bool((entropy > threshold).all())
    step.memory["silent"] = step.memory.get("silent", 0) + 1 if silent else 0
    if step.memory["silent"] < SILENT_STEPS:
        return
    initial = "unknown" if step.initial_entropy is None else f"{step.initial_entropy:.3f} nats"
    raise RunError(
        f"for {SILENT_STEPS} steps every answer was above the entropy threshold of {threshold:.3f} nats "
        f"(the last batch's mean is {float(entropy.mean()):.3f}; before training it was {initial}), so nothing is "
        "learnt any more: lower --lr, or raise the threshold (--shaping entropy_shape:threshold=…)"
    )


@declare(per_answer=True, alarms=(end_when_all_are_filtered,))
def entropy_shape(
    advantage: Tensor,
    entropy: Tensor,
    mask: Tensor,
    initial_entropy: float | None = None,
    *,
    gamma: NonNegativeFloat = 0.1,
    threshold: NonNegativeFloat = THRESHOLD,
    always_filter: bool = False,
    shape_zero_advantage: bool = True,
) -> Tensor:
    """Return A − γ·H where H ≤ threshold, else 0: advantage [N], entropy, mask [N, T] -> [N].

    H is an answer's mean token entropy in nats, over the whole vocabulary and without gradient. If `initial_entropy`,
    the untrained policy's mean H, is above the threshold nothing is filtered (the paper); `always_filter` or None
    filters all the same, as the authors' code does with threshold 0.7. `shape_zero_advantage=False` leaves A = 0 at 0,
    so that ties stay silent.

    Args:
        gamma: γ, weight of the entropy.
        threshold: largest mean entropy of an answer that is kept, in nats.
        always_filter: whether answers are filtered however high the initial entropy is.
        shape_zero_advantage: whether an advantage of 0 is shaped, too.
    """
    check_shapes("N N,T N,T", advantage, entropy, mask)
    uncertainty = answer_mean(entropy.detach(), mask).to(advantage.dtype)
    shaped = advantage - gamma * uncertainty
    if filters_entropy(initial_entropy, threshold=threshold, always_filter=always_filter):
        shaped = torch.where(uncertainty <= threshold, shaped, 0.0)
    return shaped if shape_zero_advantage else torch.where(advantage == 0, 0.0, shaped)


def filters_entropy(initial_entropy: float | None, *, threshold: float, always_filter: bool) -> bool:
    """Return whether `entropy_shape` leaves out answers above `threshold`, in nats: see there."""
    return always_filter or initial_entropy is None or initial_entropy <= threshold


def _in_both(ids: Tensor, position: Tensor, there: Tensor, sign: Tensor, group: Tensor) -> Tensor:
    """[N, T]: the token of an answer in P or N occurs, in its group and at its position, in both P and N."""
    index, _ = group_index(group)
    there = there & (sign != 0)[:, None]
    ids, position = torch.where(there, ids, 0), torch.where(there, position, 0)
    vocabulary = int(ids.max()) + 1 if ids.numel() else 1
    key = (index[:, None] * max(ids.shape[1], 1) + position) * vocabulary + ids
    unique, slot = torch.unique(key[there], return_inverse=True)
    positive = (sign > 0)[:, None].expand_as(there)[there].to(torch.int64)
    seen = torch.zeros(2, len(unique), dtype=torch.int64, device=ids.device)
    seen[0].index_add_(0, slot, positive)
    seen[1].index_add_(0, slot, 1 - positive)
    both = torch.zeros_like(there)
    both[there] = (seen > 0).all(0)[slot]
    return both
