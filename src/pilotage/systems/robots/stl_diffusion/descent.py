"""Trajectory optimisation by gradient: controls that raise a score above a margin and stay within limits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pilotage.core.errors import UsageError


def descend(
    controls: Tensor,
    score: Callable[[Tensor], Tensor],
    limits: Tensor,
    *,
    steps: int = 300,
    rate: float = 0.03,
    margin: float = 0.01,
    excess_weight: float = 10.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Raise a score of controls above a margin by Adam, within the limits of the controls.

    The loss is mean ReLU(margin − score) + `excess_weight` · Σ over controls of mean ReLU(u² − 1), where u are the
    controls in units of their limits: in their own units one rate would be large for a turn and small for a push. Meng
    and Fan 2024, who take controls in their own units, rate .005 and 2000 steps.

    Args:
        controls: to begin with, [..., step, control].
        score: from controls to [...], differentiable, such as a smooth robustness.
        limits: largest absolute values, [control], above 0.
        steps: of Adam.
        rate: of Adam, in units of the limits.
        margin: score that is asked for.
        excess_weight: weight of controls beyond their limits.
        valid: rows that count, [...] bool; None: all.

    Returns:
        Controls [..., step, control], clipped to the limits; rows that have reached the margin stay where they are but
        for Adam's momentum.

    Raises:
        UsageError: for scores of another shape or that are not finite.
    """
    if steps < 0 or rate <= 0:
        raise UsageError(f"expected steps ≥ 0 and a rate above 0, got {steps} and {rate}")
    if not (limits > 0).all():
        raise UsageError(f"the limits of the controls must be above 0, got {limits.tolist()}")
    moving = (controls.detach() / limits).requires_grad_()
    counted = torch.ones(controls.shape[:-2], dtype=torch.bool) if valid is None else valid
    number = counted.sum().clamp(min=1)
    optimiser = torch.optim.Adam([moving], lr=rate)
    for _ in range(steps):
        value = score(moving * limits)
        if value.shape != counted.shape or not value[counted].isfinite().all():
            raise UsageError(
                f"the score must be finite and {list(counted.shape)}, one per row of controls, got {list(value.shape)}"
            )
        missing = torch.where(counted, (margin - value).relu(), 0.0).sum() / number
        over = (moving.square() - 1).relu().mean(tuple(range(moving.dim() - 1))).sum()
        optimiser.zero_grad()
        (missing + excess_weight * over).backward()
        optimiser.step()
    return moving.detach().clamp(-1, 1) * limits
