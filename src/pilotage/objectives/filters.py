"""Which answers a batch is trained on."""

from __future__ import annotations

from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.objectives.groups import group_spread
from pilotage.objectives.shapes import check_shapes


@declare(needs_group=True)
def keep_informative(reward: Tensor, group: Tensor) -> Tensor:
    """Return rows of groups whose rewards differ: reward, group [N] -> bool [N].

    Yu et al. 2025, DAPO, dynamic sampling.

    For 0/1 rewards these are the groups with 0 < number right < G: the others have no group-relative gradient.
    """
    check_shapes("N N", reward, group)
    return group_spread(reward, group) > 0
