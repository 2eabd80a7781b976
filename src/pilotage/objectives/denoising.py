"""Errors over chunks with padding, and the padding itself. Losses are per row [B]; the caller averages.

A chunk is [B, T, A], its mask [B, T] bool, True on actions that were really demonstrated. The mask is never optional:
a chunk at the edge of an episode is padded, and a forgotten mask would train on the padding without a sign.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pilotage.objectives.shapes import check_shapes


def needed_mask(mask: Tensor | None, chunk: Tensor) -> Tensor:
    """Return the mask [B, T] of `chunk` [B, T, A], checked.

    Raises ValueError when it is missing, not bool or misshapen.
    """
    if mask is None:
        raise ValueError(
            f"a chunk {list(chunk.shape)} came without its mask [batch, time], True on real actions; "
            "for chunks without padding pass torch.ones(batch, time, dtype=torch.bool)"
        )
    check_shapes("B,T,A B,T", chunk, mask)
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask must be bool, got {mask.dtype}")
    return mask


def fill_padding(chunk: Tensor, mask: Tensor | None) -> Tensor:
    """Padded actions replaced by the nearest real one before, or the first: [B, T, A], mask [B, T] -> [B, T, A].

    So nothing that stands in the padding, NaN included, reaches a network; a row without a real action becomes 0.
    """
    mask = needed_mask(mask, chunk)
    if bool(mask.all()):
        return chunk
    position = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    before = torch.where(mask, position, -1).cummax(1).values
    source = torch.where(before < 0, mask.long().argmax(1, keepdim=True), before)
    filled = chunk.gather(1, source[..., None].expand_as(chunk))
    return torch.where(mask.any(1)[:, None, None], filled, torch.zeros_like(filled))


def step_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over each row's real steps: [B, T], [B, T] -> [B]; 0 for a row without any."""
    check_shapes("B,T B,T", values, mask)
    return torch.where(mask, values, torch.zeros_like(values)).sum(1) / mask.sum(1).clamp(min=1)


def chunk_error(
    output: Tensor, target: Tensor, mask: Tensor | None, *, kind: Literal["squared", "absolute"] = "squared"
) -> Tensor:
    """Return the mean squared or absolute error over each row's real actions: output, target [B, T, A], mask [B, T] ->
    [B].
    """
    check_shapes("B,T,A B,T,A", output, target)
    mask = needed_mask(mask, output)
    if kind not in ("squared", "absolute"):
        raise ValueError(f"kind is {kind!r}; it must be 'squared' or 'absolute'")
    # Zeroed before the subtraction, for 0·NaN is NaN in the gradient.
    real = mask[..., None]
    difference = torch.where(real, output, torch.zeros_like(output)) - torch.where(
        real, target, torch.zeros_like(target)
    )
    error = difference.square() if kind == "squared" else difference.abs()
    return step_mean(error.mean(-1), mask)


def weighted_rows(loss: Tensor, weight: Tensor) -> Tensor:
    """Row losses [B] times a weight per row [B], in the losses' type."""
    check_shapes("B B", loss, weight)
    return loss * weight.to(loss.device, loss.dtype)


def valid_mean(loss: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of row losses [B] over the rows where `valid` [B] bool; 0 without a gradient where there is none.

    What a row that is not valid holds, NaN included, reaches neither the value nor the gradient.
    """
    check_shapes("B B", loss, valid)
    if valid.dtype != torch.bool:
        raise ValueError(f"valid must be bool, got {valid.dtype}")
    return torch.where(valid, loss, torch.zeros_like(loss)).sum() / valid.sum().clamp(min=1)
