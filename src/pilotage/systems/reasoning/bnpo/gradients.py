"""How noisy a gradient estimate is, from independent estimates at one and the same policy."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def gram_matrix(gradients: Tensor) -> NDArray[np.float64]:
    """Inner products of gradient estimates, gradients [batch, parameter] -> [batch, batch], summed in float64.

    It holds all that the variance needs, in far less room than the gradients.
    """
    if gradients.dim() != 2:
        raise ValueError(f"expected gradients [batch, parameter], given the shape {tuple(gradients.shape)}")
    total = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for columns in gradients.split(65536, dim=1):
        wide = columns.double()
        total += wide @ wide.T
    return total.numpy()


def scale_free_variance(gram: ArrayLike) -> float:
    """Tr Cov(g) / |E g|² of independent estimates, from their Gram matrix [batch, batch]; NaN when E g is not seen.

    Both parts are unbiased: the trace with n − 1, and |E g|² as the mean inner product of two *different* estimates,
    because |mean|² holds a share of the noise. A constant factor of the gradient changes nothing. NaN when the noise
    makes the estimate of |E g|² zero or negative. Raises ValueError for fewer than two estimates.
    """
    inner = np.asarray(gram, dtype=np.float64)
    count = len(inner)
    if count < 2 or inner.shape != (count, count):
        raise ValueError(f"expected a Gram matrix of at least two estimates, given the shape {inner.shape}")
    own, all_pairs = float(np.trace(inner)), float(inner.sum())
    signal = (all_pairs - own) / (count * (count - 1))
    noise = own / count - signal
    return noise / signal if signal > 0 else math.nan
