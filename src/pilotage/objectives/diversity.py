"""Determinantal point processes: how many different good items a set holds, as a number with a gradient.

L = Q S Q with S_ij = exp(−‖u_i − u_j‖) and qualities Q; the expected size of a sample is trace(I − (L + I)⁻¹). Kulesza
and Taskar 2012 (arXiv 1207.6083); as a loss for trajectories that keep a rule: Meng and Fan 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.objectives.shapes import check_shapes


def rule_quality(robustness: Tensor, *, ceiling: float = 5.0) -> Tensor:
    """exp(ρ) where ρ > 0, else 0: any shape -> the same.

    ceiling: ρ above it counts as it, since exp(ρ) overflows long before a larger margin means anything.
    """
    return torch.where(robustness > 0, robustness.clamp(max=ceiling).exp(), torch.zeros_like(robustness))


def similarity(items: Tensor) -> Tensor:
    """S: items [B, N, D] -> [B, N, N], exp of minus the Euclidean distance, 1 on the diagonal.

    Equal items have similarity 1 and push each other nowhere (a distance has no gradient at 0, and NaN is none).
    """
    check_shapes("B,N,D", items)
    squared = (items[:, :, None] - items[:, None]).square().sum(-1)
    apart = squared > 0
    distance = torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)
    return torch.exp(-distance)


def expected_size(items: Tensor, quality: Tensor) -> Tensor:
    """Expected number of items in a sample of the process: items [B, N, D], quality [B, N] ≥ 0 -> [B] in [0, N].

    With large qualities it counts the different items among those of quality above 0. In float64: L holds squares of
    exponentials beside the identity.
    """
    check_shapes("B,N,D B,N", items, quality)
    weight = quality.double()
    kernel = weight[:, :, None] * similarity(items.double()) * weight[:, None]
    identity = torch.eye(items.shape[1], dtype=torch.float64, device=items.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel + identity))
    return (identity - inverse).diagonal(dim1=-2, dim2=-1).sum(-1).to(items.dtype)


def diversity_loss(items: Tensor, robustness: Tensor, *, ceiling: float = 5.0) -> Tensor:
    """Minus the expected size with `rule_quality` as quality: items [B, N, D], robustness [B, N] -> [B].

    items: what must differ, such as the controls of N trajectories divided by their limits. Gradients flow through
    the items and through the robustness of those above 0.
    """
    return -expected_size(items, rule_quality(robustness, ceiling=ceiling))
