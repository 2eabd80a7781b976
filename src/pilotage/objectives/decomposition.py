"""Several rewards at once: an advantage for each component by itself, then their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.objectives.advantages import group_zscore
from pilotage.objectives.shapes import check_shapes


def decompose(advantage: Callable[..., Tensor], scores: Tensor, group: Tensor, **options: Any) -> Tensor:
    """Return the mean over reward components of `advantage(component, group, **options)`: scores [N, K], group [N] ->
    [N].

    A component that is constant over the batch is passed over, and where a component abstains (NaN) it neither counts
    in its group nor in the row's mean; a row without a score has 0. BNPO's «advantage decomposition».
    """
    check_shapes("N,K N", scores, group)
    total, speakers = torch.zeros_like(scores[:, 0]), torch.zeros_like(scores[:, 0])
    for component in scores.unbind(1):
        rows = ~component.isnan()
        judged = component[rows]
        if len(judged) == 0 or bool((judged == judged[0]).all()):
            continue
        total[rows] += advantage(judged, group[rows], **options)
        speakers[rows] += 1
    return total / speakers.clamp(min=1)


@declare(needs_group=True)
def decoupled_zscore(scores: Tensor, group: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Return group_zscore of every reward component by itself, then their mean: scores [N, K], group [N] -> [N].

    TRL's normalize_then_sum, before its standardisation over the batch; GDPO's first step.

    Args:
        epsilon: ε, added to the deviation.
    """
    return decompose(group_zscore, scores, group, epsilon=epsilon)
