"""Random tensors from one generator, or from one generator per row.

A method that takes `generator` accepts either. With a sequence of B generators, row i of every draw comes from
generator i alone, so what a row gets does not depend on how many other rows stand beside it; with one generator all
rows are drawn together and a row's values do depend on the batch. Draws are made on the generator's own device and
moved, so that a CPU generator gives the same numbers on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]


def normal(shape: Sequence[int], generator: Generators, *, like: Tensor | None = None) -> Tensor:
    """Standard normal numbers of `shape` [B, ...], with the type and device of `like` (default float32, CPU)."""
    return _draw(torch.randn, shape, generator, like)


def uniform(shape: Sequence[int], generator: Generators, *, like: Tensor | None = None) -> Tensor:
    """Uniform numbers in [0, 1) of `shape` [B, ...], with the type and device of `like` (default float32, CPU)."""
    return _draw(torch.rand, shape, generator, like)


def categorical(probability: Tensor, generator: Generators, count: int | None = None) -> Tensor:
    """Return indices drawn from the last dimension of `probability` [B, ..., K]: [B, ...], or [B, ..., count]."""
    cumulative = probability.double().cumsum(-1)
    size = [*probability.shape[:-1], 1 if count is None else count]
    # Below the last cumulative value, which rounding may leave short of one.
    at = uniform(size, generator, like=cumulative) * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, at, right=True).clamp(max=probability.shape[-1] - 1)
    return index[..., 0] if count is None else index


def _draw(draw: Callable[..., Tensor], shape: Sequence[int], generator: Generators, like: Tensor | None) -> Tensor:
    dtype = torch.float32 if like is None else like.dtype
    if isinstance(generator, torch.Generator):
        drawn = draw(tuple(shape), generator=generator, dtype=dtype, device=generator.device)
    else:
        if len(generator) != shape[0]:
            raise ValueError(f"{len(generator)} generators for {shape[0]} rows; give one, or one per row")
        rows = [draw(tuple(shape[1:]), generator=one, dtype=dtype, device=one.device) for one in generator]
        drawn = torch.stack(rows) if rows else torch.empty(tuple(shape), dtype=dtype)
    return drawn if like is None else drawn.to(like.device)
