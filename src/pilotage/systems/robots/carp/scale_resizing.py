"""Signals of one length brought to another by a fixed matrix: area averages down, cubic interpolation up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def area_matrix(length: int, shorter: int) -> Tensor:
    """Row j averages the part of a signal of `length` that belongs to place j of `shorter`: [shorter, length]."""
    unit = torch.eye(length)[None]
    return functional.adaptive_avg_pool1d(unit, shorter)[0].T.contiguous()


def cubic_matrix(length: int, longer: int) -> Tensor:
    """Bicubic interpolation along one axis, corners not aligned: [longer, length]; the identity for equal lengths."""
    if length == longer:
        return torch.eye(length)
    unit = torch.eye(length)[None, :, :, None]
    return functional.interpolate(unit, (longer, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T.contiguous()


def resized(signal: Tensor, matrix: Tensor) -> Tensor:
    """signal [..., length, channels], matrix [other, length] -> [..., other, channels]."""
    return matrix.to(signal.dtype) @ signal


def cosine_basis(length: int) -> Tensor:
    """The orthonormal DCT-II: row k is the k-th cosine: [length, length]."""
    place = torch.arange(length, dtype=torch.float64)
    basis = torch.cos(torch.pi / length * (place[None] + 0.5) * place[:, None]) * (2 / length) ** 0.5
    basis[0] /= 2**0.5
    return basis
