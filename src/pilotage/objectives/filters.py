"""Which answers a batch is trained on."""

from __future__ import annotations

from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.objectives.groups import group_spread
from pilotage.objectives.shapes import check_shapes


@declare(needs_group=True)
def keep_informative(correctness: Tensor, group: Tensor) -> Tensor:
    """Return the rows of groups that are neither all right nor all wrong: correctness, group [N] -> bool [N].

    Yu et al. 2025, DAPO, dynamic sampling.

    correctness is the score of `exact` where the reward has it: a group that is all right goes even when other parts of
    the reward, such as the penalty of overlong answers, differ within it.
    """
    check_shapes("N N", correctness, group)
    return group_spread(correctness, group) > 0
