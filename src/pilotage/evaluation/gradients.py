"""How much of a stochastic gradient is noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def noise_share(gradients: ArrayLike) -> float:
    """Share of noise in the second moment of a gradient, tr Cov(g) / E‖g‖², from independent draws [draw, weight].

    0: every draw is the expected gradient; 1: its expectation is zero. It does not depend on the gradient's scale.
    NaN where all draws are zero. The estimate may pass 1 by chance, since tr Cov is estimated without bias."""
    table = np.asarray(gradients, dtype=float)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"noise_share needs at least two draws [draw, weight], given an array of shape {table.shape}")
    second = float((table**2).sum(1).mean())
    return float(table.var(0, ddof=1).sum()) / second if second > 0 else math.nan
