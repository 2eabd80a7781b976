"""Trajectory optimisation by gradient: controls that raise a score above a margin and stay within limits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pilotage.system import UsageError


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
    """Adam on mean ReLU(margin − score) + `excess_weight` · Σ over controls of mean ReLU(u² − limit²).

    controls [..., T, A] to begin with; score: from controls to [...], differentiable, such as a smooth robustness;
    limits [A]: largest absolute values, > 0; valid [...] bool: rows that count, None for all; steps, rate: of Adam.
    Returns controls [..., T, A], clipped to the limits; rows that have reached the margin stay where they are but for
    Adam's momentum. Raises UsageError for scores of another shape or that are not finite. Meng and Fan 2024, section on
    data augmentation: rate .005, 2000 steps; .03 and 300 are our defaults."""
    if steps < 0 or rate <= 0:
        raise UsageError(f"expected steps ≥ 0 and a rate above 0, got {steps} and {rate}")
    moving = controls.detach().clone().requires_grad_()
    counted = torch.ones(controls.shape[:-2], dtype=torch.bool) if valid is None else valid
    number = counted.sum().clamp(min=1)
    optimiser = torch.optim.Adam([moving], lr=rate)
    for _ in range(steps):
        value = score(moving)
        if value.shape != counted.shape or not value[counted].isfinite().all():
            raise UsageError(
                f"the score must be finite and {list(counted.shape)}, one per row of controls, got {list(value.shape)}"
            )
        missing = torch.where(counted, (margin - value).relu(), 0.0).sum() / number
        over = (moving.square() - limits.square()).relu().mean(tuple(range(moving.dim() - 1))).sum()
        optimiser.zero_grad()
        (missing + excess_weight * over).backward()
        optimiser.step()
    return torch.maximum(torch.minimum(moving.detach(), limits), -limits)
