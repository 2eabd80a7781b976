"""The types that samplers, guidance and heads share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(noisy chunk [B, T, A], level [B]) -> estimate of the clean chunk [B, T, A]."""
Guide = Callable[[Denoise], Denoise]
"""Changes a denoiser into a guided one."""


class InitialSample(NamedTuple):
    """Where sampling begins, when it does not begin from noise."""

    chunk: Tensor
    """[B, T, A], normalised; already noised if it should be."""
    levels: Sequence[int] | Sequence[float] | Tensor | None = None
    """Levels to walk from there instead of the head's own."""
    sampler: str | None = None
    """Sampler to walk them with, by name and without options, instead of the head's own."""


def level_rows(level: float, x: Tensor) -> Tensor:
    """`level` for every row of `x` [B, ...]: [B], int64 for an int, else float64."""
    dtype = torch.int64 if isinstance(level, int) else torch.float64
    return torch.full((len(x),), level, dtype=dtype, device=x.device)


def clipped(clean: Tensor, limit: float | None) -> Tensor:
    """`clean` within ±limit, or as it is without a limit."""
    return clean if limit is None else clean.clamp(-limit, limit)
