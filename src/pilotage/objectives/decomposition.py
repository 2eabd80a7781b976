"""Several rewards at once: an advantage for each component by itself, then their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.core.ranges import PositiveFloat
from pilotage.objectives.advantages import group_zscore
from pilotage.objectives.shapes import check_shapes


def decompose(advantage: Callable[..., Tensor], scores: Tensor, group: Tensor, **options: Any) -> Tensor:
    """Return the mean over K reward components of `advantage(component, group, **options)`.

    scores [N, K], group [N] -> [N]. A component that is constant over the batch adds 0 and counts in the mean, so that
    the factor of the others is 1/K in every batch. A component that abstains on a row (NaN) counts neither in the
    groups nor in the mean of that row; a row without a score has 0. BNPO's «advantage decomposition».

    Args:
        advantage: advantage of one reward, called with its scores and groups, such as `beta_norm`.
        scores: reward components [N, K]; NaN where a component abstains.
        group: number of the prompt instance of each row, [N].
        options: hyper-parameters of `advantage`.
    """
    check_shapes("N,K N", scores, group)
    total = torch.zeros_like(scores[:, 0])
    for component in scores.unbind(1):
        rows = ~component.isnan()
        given = component[rows]
        if len(given) and not bool((given == given[0]).all()):
            total[rows] += advantage(given, group[rows], **options)
    return total / (~scores.isnan()).sum(1).clamp(min=1)


@declare(needs_group=True)
def decoupled_zscore(scores: Tensor, group: Tensor, *, epsilon: PositiveFloat = 1e-4) -> Tensor:
    """Return group_zscore of every reward component by itself, then their mean: scores [N, K], group [N] -> [N].

    TRL's normalize_then_sum, before its standardisation over the batch; GDPO's first step.

    Args:
        epsilon: ε, added to the deviation.
    """
    return decompose(group_zscore, scores, group, epsilon=epsilon)
