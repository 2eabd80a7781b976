"""At which levels a sampler calls the network.

Schedules of σ all have the signature (count, sigma_min, sigma_max) and give `count` levels that fall strictly from
sigma_max (to sigma_min when there are two or more), then 0: [count + 1] float64. Schedules of integers give the
levels that are called; what follows the last one is the clean chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError


def exponential_levels(count: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Ln σ evenly spaced."""
    return _schedule(count, sigma_min, sigma_max, torch.log, torch.exp)


def linear_levels(count: int, sigma_min: float, sigma_max: float) -> Tensor:
    """σ evenly spaced."""
    return _schedule(count, sigma_min, sigma_max, lambda sigma: sigma, lambda sigma: sigma)


def karras_levels(count: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Tensor:
    """σ^{1/ρ} evenly spaced; ρ = 1 is linear. Karras et al. 2022 (arXiv 2206.00364), eq. 5."""
    if rho <= 0:
        raise UsageError(f"rho={rho} must be above 0")
    return _schedule(count, sigma_min, sigma_max, lambda sigma: sigma.pow(1 / rho), lambda root: root.pow(rho))


def vp_levels(
    count: int, sigma_min: float, sigma_max: float, *, beta_rate: float = 19.9, beta_min: float = 0.1
) -> Tensor:
    """T evenly spaced with σ² = exp(½·β_d·t² + β_min·t) − 1: the VP process as σ. Song et al. 2021; EDM, table 1."""

    def time(sigma: Tensor) -> Tensor:
        return ((beta_min**2 + 2 * beta_rate * sigma.square().log1p()).sqrt() - beta_min) / beta_rate

    return _schedule(
        count, sigma_min, sigma_max, time, lambda t: (0.5 * beta_rate * t.square() + beta_min * t).expm1().sqrt()
    )


def spaced_levels(steps: int, count: int, *, spacing: Literal["trailing", "leading"] = "trailing") -> Tensor:
    """`count` of the levels 0 … steps−1, falling: [count] int64.

    trailing begins at steps−1, where the chunk is noise; leading ends at 0 and, for a small `count`, begins where a
    chunk still is partly clean although the start is pure noise (the default of the diffusers library).
    """
    if not 1 <= count <= steps:
        raise UsageError(f"count={count} levels of a path with {steps} steps; give 1 to {steps}")
    if spacing == "trailing":
        return torch.arange(count, 0, -1, dtype=torch.float64).mul(steps / count).round().long() - 1
    if spacing == "leading":
        return torch.arange(count).flip(0) * (steps // count)
    raise UsageError(f"spacing={spacing!r} is not known; choose trailing or leading")


SCHEDULES: dict[str, Callable[..., Tensor]] = {
    "exponential": exponential_levels,
    "linear": linear_levels,
    "karras": karras_levels,
    "vp": vp_levels,
}
"""By name: (count, sigma_min, sigma_max) -> [count + 1]."""


def falling_to_zero(levels: Tensor | Sequence[float]) -> list[float]:
    """Return the levels as floats. Raises UsageError unless there are two or more, falling strictly, the last 0."""
    listed = [float(level) for level in levels]
    if len(listed) < 2 or listed[-1] != 0 or any(a <= b for a, b in pairwise(listed)):
        raise UsageError(f"levels {listed}: expected two or more that fall strictly and end with 0")
    return listed


def called_levels(levels: Tensor | Sequence[int], steps: int) -> list[int]:
    """Return integer levels as integers.

    Raises UsageError unless they fall strictly within 0 … steps−1; may be empty.
    """
    listed = [int(level) for level in levels]
    if any(a <= b for a, b in pairwise(listed)) or any(not 0 <= n < steps for n in listed):
        raise UsageError(f"levels {listed}: expected integers that fall strictly within 0 to {steps - 1}")
    return listed


def _schedule(
    count: int,
    sigma_min: float,
    sigma_max: float,
    to_even: Callable[[Tensor], Tensor],
    from_even: Callable[[Tensor], Tensor],
) -> Tensor:
    if count < 1 or not 0 < sigma_min < sigma_max:
        raise UsageError(
            f"count={count}, sigma_min={sigma_min}, sigma_max={sigma_max}: "
            "expected a count of at least 1 and 0 < sigma_min < sigma_max"
        )
    ends = to_even(torch.tensor([sigma_max, sigma_min], dtype=torch.float64))
    sigma = from_even(torch.lerp(ends[0], ends[1], torch.linspace(0, 1, count, dtype=torch.float64)))
    sigma[0] = sigma_max
    if count > 1:
        sigma[-1] = sigma_min
    return torch.cat([sigma, sigma.new_zeros(1)])
