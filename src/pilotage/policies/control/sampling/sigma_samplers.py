"""Samplers on a path whose level is the noise's standard deviation σ (EDM).

All have the signature (denoise, levels, x, generator, **options); `levels` fall strictly and end with 0, and `x`
[B, ...] is the chunk at the first of them. The probability-flow ODE is dx/dσ = (x − D)/σ. Only churn and ancestral
steps draw from `generator`; the others may be given None. Karras et al. 2022 (arXiv 2206.00364), «EDM»; Lu et al. 2022
(arXiv 2211.01095), «DPM-Solver++».
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.levels import falling_to_zero
from pilotage.objectives.noise_paths import Karras
from pilotage.policies.control.sampling.sampling import Denoise, level_rows

Levels = Tensor | Sequence[float]


@declare(path=Karras)
def euler(
    denoise: Denoise,
    levels: Levels,
    x: Tensor,
    generator: Generators | None = None,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Tensor:
    """X' = x + (σ' − σ)(x − D)/σ; one call per level. `churn` is S_churn of EDM's algorithm 2, the rest its bounds."""
    listed = falling_to_zero(levels)
    gamma = _churn(churn, len(listed) - 1)
    for now, then in pairwise(listed):
        sigma, x = _stirred(now, x, generator, gamma if churn_min <= now <= churn_max else 0.0, churn_noise)
        x = x + (then - sigma) * _slope(denoise, x, sigma)
    return x


@declare(path=Karras)
def heun(
    denoise: Denoise,
    levels: Levels,
    x: Tensor,
    generator: Generators | None = None,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Tensor:
    """Euler's step, then again with the mean of the slopes at both ends: two calls per level, one at the last.

    Algorithm 2 of EDM.
    """
    listed = falling_to_zero(levels)
    gamma = _churn(churn, len(listed) - 1)
    for now, then in pairwise(listed):
        sigma, x = _stirred(now, x, generator, gamma if churn_min <= now <= churn_max else 0.0, churn_noise)
        slope = _slope(denoise, x, sigma)
        ahead = x + (then - sigma) * slope
        if then > 0:
            ahead = x + (then - sigma) * 0.5 * (slope + _slope(denoise, ahead, then))
        x = ahead
    return x


def ancestral_step(sigma: float, following: float, eta: float = 1.0) -> tuple[float, float]:
    """Return (σ_down, σ_up) with σ_down² + σ_up² = σ'²: how far to denoise, and how much noise to add back."""
    up = min(following, eta * (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5)
    return (following**2 - up**2) ** 0.5, up


@declare(path=Karras)
def euler_ancestral(
    denoise: Denoise, levels: Levels, x: Tensor, generator: Generators | None, *, eta: float = 1.0, noise: float = 1.0
) -> Tensor:
    """Euler to σ_down, then σ_up·`noise` of fresh noise; `eta` 0 is Euler. Nothing is added at the last level."""
    for now, then in pairwise(falling_to_zero(levels)):
        down, up = ancestral_step(now, then, eta)
        x = x + (down - now) * _slope(denoise, x, now)
        if up > 0:
            x = x + up * noise * normal(x.shape, _needed(generator), like=x)
    return x


@declare(path=Karras)
def ddim_sigma(denoise: Denoise, levels: Levels, x: Tensor, generator: Generators | None = None) -> Tensor:  # noqa: ARG001
    """X' = (σ'/σ)·x − (e^{−h} − 1)·D, h = ln σ − ln σ': DDIM, which is DPM-Solver++(1); the last step returns D."""
    for now, then in pairwise(falling_to_zero(levels)):
        x = _exponential_step(x, denoise(x, level_rows(now, x)), now, then)
    return x


@declare(path=Karras)
def dpm_solver_2s(denoise: Denoise, levels: Levels, x: Tensor, generator: Generators | None = None) -> Tensor:  # noqa: ARG001
    """DPM-Solver++(2S): the estimate is taken at the middle of the step in ln σ; two calls per level, one at the last.

    Algorithm 1.
    """
    for now, then in pairwise(falling_to_zero(levels)):
        clean = denoise(x, level_rows(now, x))
        if then > 0:
            middle = (now * then) ** 0.5
            clean = denoise(_exponential_step(x, clean, now, middle), level_rows(middle, x))
        x = _exponential_step(x, clean, now, then)
    return x


@declare(path=Karras)
def dpm_solver_2m(denoise: Denoise, levels: Levels, x: Tensor, generator: Generators | None = None) -> Tensor:  # noqa: ARG001
    """DPM-Solver++(2M): the estimate is extrapolated from the last two; one call per level. Algorithm 2."""
    previous: Tensor | None = None
    last_step = 0.0
    for now, then in pairwise(falling_to_zero(levels)):
        clean = denoise(x, level_rows(now, x))
        used = clean
        if then > 0:
            step = math.log(now / then)
            if previous is not None:
                share = 0.5 * step / last_step
                used = (1 + share) * clean - share * previous
            last_step = step
        x = _exponential_step(x, used, now, then)
        previous = clean
    return x


def _exponential_step(x: Tensor, clean: Tensor, now: float, then: float) -> Tensor:
    """The exact solution of the ODE from σ to σ' when D stays what it is."""
    return then / now * x + (1 - then / now) * clean


def _slope(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    return (x - denoise(x, level_rows(sigma, x))) / sigma


def _churn(churn: float, steps: int) -> float:
    if churn < 0:
        raise UsageError(f"churn={churn} must not be negative")
    return min(churn / steps, math.sqrt(2) - 1)


def _stirred(sigma: float, x: Tensor, generator: Generators | None, gamma: float, noise: float) -> tuple[float, Tensor]:
    """The level raised by a share γ, with the noise that belongs to it."""
    if gamma == 0:
        return sigma, x
    raised = sigma * (1 + gamma)
    return raised, x + noise * (raised**2 - sigma**2) ** 0.5 * normal(x.shape, _needed(generator), like=x)


def _needed(generator: Generators | None) -> Generators:
    if generator is None:
        raise UsageError("this sampler draws noise; give a generator, or one per row")
    return generator
