"""The shapes that an objective accepts, stated in the first line of its body."""

from __future__ import annotations

import torch
from torch import Tensor


def check_shapes(spec: str, *tensors: Tensor | None) -> None:
    """Check that the tensors have the shapes of `spec`, which has one word per tensor.

    For example `check_shapes("N N N,T", reward, group, mask)`. A letter means the same size wherever it stands, a
    number that size; None (an optional tensor) is passed over. Raises ValueError with what was given and what was
    expected.
    """
    words = spec.split()
    if len(words) != len(tensors):
        raise ValueError(f"{len(tensors)} tensors for the {len(words)} shapes of {spec!r}")
    sizes: dict[str, int] = {}
    for word, tensor in zip(words, tensors, strict=True):
        if tensor is None:
            continue
        names = word.split(",")
        fits = tensor.dim() == len(names) and all(
            size == (int(name) if name.isdigit() else sizes.setdefault(name, size))
            for name, size in zip(names, tensor.shape, strict=True)
        )
        if not fits:
            given = ", ".join("none" if t is None else str(list(t.shape)) for t in tensors)
            raise ValueError(f"expected tensors of shapes {spec!r}, got {given}")


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """`values` [N, T] with 0 wherever `mask` [N, T] is False, whatever stands there (NaN too), also in the gradient."""
    check_shapes("N,T N,T", values, mask)
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask must be bool, got {mask.dtype}")
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))


def per_token(advantage: Tensor, mask: Tensor) -> Tensor:
    """Return an advantage per answer [N] or per token [N, T] as [N, T], 0 where `mask` [N, T] is False."""
    if advantage.dim() == 1:
        check_shapes("N N,T", advantage, mask)
        advantage = advantage[:, None].expand(mask.shape)
    return masked(advantage, mask)


def answer_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over each answer's own tokens: [N, T] -> [N]; 0 for an answer without tokens."""
    return masked(values, mask).sum(-1) / mask.sum(-1).clamp(min=1)
