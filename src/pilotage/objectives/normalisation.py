"""Advantages brought to mean 0 and deviation 1 over the global batch."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.core.pieces import declare
from pilotage.core.ranges import PositiveFloat
from pilotage.objectives.shapes import check_shapes, per_token


@declare(per_token=True)
def whiten(advantage: Tensor, mask: Tensor, *, center: bool = True, epsilon: PositiveFloat = 1e-8) -> Tensor:
    """Return (A − mean) / √(var + ε) over all tokens of the batch: advantage [N] or [N, T], mask [N, T] -> [N, T].

    The variance is unbiased; every token counts once, so long answers weigh more. `center=False` keeps the mean.
    Fewer than two tokens, or advantages that are all equal, give 0 (themselves without centring).
    Hu 2025, REINFORCE++ (arXiv 2501.03262).

    Args:
        center: whether the mean is taken off.
        epsilon: ε, added to the variance.
    """
    tokens = per_token(advantage, mask)
    count = mask.sum()
    mean = tokens.sum() / count.clamp(min=1)
    deviation = torch.where(mask, tokens - mean, 0.0)
    scale = (deviation.square().sum() / (count - 1).clamp(min=1) + epsilon).rsqrt()
    valid = tokens[mask]
    if valid.numel() < 2 or bool((valid == valid[0]).all()):
        return torch.zeros_like(tokens) if center else tokens
    return torch.where(mask, deviation if center else tokens, 0.0) * scale


@declare(per_answer=True)
def whiten_rows(advantage: Tensor, *, epsilon: PositiveFloat = 1e-4) -> Tensor:
    """Return (A_n − mean) / (σ + ε) over the answers of the batch, σ unbiased, every answer counting once: [N] -> [N].

    What TRL's RLOO does with `normalize_advantages`. All equal, or a single answer: 0.
    """
    check_shapes("N", advantage)
    if len(advantage) < 2 or bool((advantage == advantage[0]).all()):
        return torch.zeros_like(advantage)
    return (advantage - advantage.mean()) / (advantage.std() + epsilon)
