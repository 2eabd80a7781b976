"""Samplers on a path with integer levels (DDPM, DDIM).

`levels` are those at which the network is called, falling; after the last comes the clean chunk. [99, …, 0] is the
whole process, [3, 1, 0] a short one from a warm start, and without levels `x` is returned as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.levels import called_levels
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.sampling.sampling import Denoise, clipped, level_rows


@declare(path=VariancePreserving, limit="clip")
def ddpm(
    denoise: Denoise,
    levels: Tensor | Sequence[int],
    x: Tensor,
    generator: Generators,
    *,
    path: VariancePreserving,
    clip: float | None = 1.0,
) -> Tensor:
    """Ancestral sampling with the posterior's variance («fixed_small»), none at level 0: x [B, ...] -> [B, ...].

    Every update has the coefficients of one level (t to t−1), also where `levels` skips some: a short list then skips
    calls, not noise, as in RTI-DP (arXiv 2508.05396); `ddim` moves between the listed levels instead. `clip` bounds
    the clean estimate. Ho et al. 2020, eqs. 6-7. Raises UsageError for levels that do not end at 0.
    """
    listed = called_levels(levels, path.steps)
    if listed and listed[-1] != 0:
        raise UsageError(f"levels {listed} end at {listed[-1]}, where the chunk is still noisy; end them with 0")
    bars, betas = path.alpha_bars.tolist(), path.betas.tolist()
    for level in listed:
        clean = clipped(denoise(x, level_rows(level, x)), clip)
        bar, beta, before = bars[level], betas[level], bars[level - 1] if level else 1.0
        x = (before**0.5 * beta / (1 - bar)) * clean + ((1 - beta) ** 0.5 * (1 - before) / (1 - bar)) * x
        if level:
            variance = beta * (1 - before) / (1 - bar)
            x = x + variance**0.5 * normal(x.shape, generator, like=x)
    return x


@declare(path=VariancePreserving, limit="clip")
def ddim(
    denoise: Denoise,
    levels: Tensor | Sequence[int],
    x: Tensor,
    generator: Generators | None = None,
    *,
    path: VariancePreserving,
    eta: float = 0.0,
    clip: float | None = 1.0,
    noise_of_clipped: bool = False,
) -> Tensor:
    """X' = √ᾱ'·D + √(1 − ᾱ' − s²)·ε + s·n between the listed levels: x [B, ...] -> [B, ...]. Song et al. 2021, eq. 12.

    s is `eta` times the posterior's standard deviation; eta 0 is deterministic and needs no generator. ε belongs to the
    estimate before it is clipped, or with `noise_of_clipped` to the clipped one.
    """
    listed = called_levels(levels, path.steps)
    if eta and generator is None:
        raise UsageError(f"eta={eta} draws noise; give a generator")
    bars = path.alpha_bars.tolist()
    for position, level in enumerate(listed):
        bar, after = bars[level], bars[listed[position + 1]] if position + 1 < len(listed) else 1.0
        raw = denoise(x, level_rows(level, x))
        clean = clipped(raw, clip)
        noise = (x - bar**0.5 * (clean if noise_of_clipped else raw)) / (1 - bar) ** 0.5
        std = eta * ((1 - after) / (1 - bar) * (1 - bar / after)) ** 0.5
        x = after**0.5 * clean + max(1 - after - std**2, 0.0) ** 0.5 * noise
        if std:
            assert generator is not None
            x = x + std * normal(x.shape, generator, like=x)
    return x
