"""The loss of a critic."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.objectives.shapes import check_shapes, masked


def value_loss(
    value: Tensor, value_old: Tensor, value_target: Tensor, mask: Tensor, *, clip: float | None = 0.2
) -> Tensor:
    """½·max((V − R)², (V_clip − R)²), V_clip = V_old ± clip: all [N, T] -> [N, T] to be minimised, 0 on masked slots.

    `value` has the gradient; `value_old` is the critic before the first update, `value_target` R is A + V_old.
    `clip=None` is the plain squared error. PPO2 of Dhariwal et al. 2017, as in verl and TRL.
    """
    check_shapes("N,T N,T N,T N,T", value, value_old, value_target, mask)
    value, old, target = masked(value, mask), masked(value_old, mask).detach(), masked(value_target, mask).detach()
    plain = (value - target).square()
    if clip is None:
        return 0.5 * plain
    bounded = torch.maximum(torch.minimum(value, old + clip), old - clip)
    return 0.5 * torch.maximum(plain, (bounded - target).square())
