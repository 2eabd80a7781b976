"""The reverse process of DDPM with its last iterates kept, and guidance of the posterior mean.

`discrete_samplers.ddpm` gives the last plan alone and is guided on the clean estimate; Meng and Fan 2024 guide the mean
of the posterior and choose among the last iterates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.sampling.sampling import Denoise, clipped, level_rows

Nudge = Callable[[Tensor, int, float], Tensor]
"""(posterior mean [B, T, A], level, β of that level) -> the mean to draw around."""


def reverse_iterates(
    denoise: Denoise,
    x: Tensor,
    generator: Generators,
    *,
    path: VariancePreserving,
    keep: int = 1,
    clip: float | None = 1.0,
    nudge: Nudge | None = None,
) -> Tensor:
    """Return all levels of `path` from noise x [B, T, A]; the last `keep` iterates, the final one last: [keep, B, T,
    A].

    Posterior variance, none at level 0, as `ddpm`. nudge: changes the posterior mean before noise is added.
    """
    if not 1 <= keep <= path.steps:
        raise UsageError(f"keep={keep} iterates of {path.steps}; give 1 to {path.steps}")
    bars, betas = path.alpha_bars.tolist(), path.betas.tolist()
    kept: list[Tensor] = []
    for level in range(path.steps - 1, -1, -1):
        clean = clipped(denoise(x, level_rows(level, x)), clip)
        bar, beta, before = bars[level], betas[level], bars[level - 1] if level else 1.0
        x = (before**0.5 * beta / (1 - bar)) * clean + ((1 - beta) ** 0.5 * (1 - before) / (1 - bar)) * x
        if nudge is not None:
            x = nudge(x, level, beta)
        if level:
            x = x + (beta * (1 - before) / (1 - bar)) ** 0.5 * normal(x.shape, generator, like=x)
        if level < keep:
            kept.append(x)
    return torch.stack(kept)


def best_candidate(iterates: Tensor, robustness: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the iterate of the highest robustness: iterates [K, B, T, A], robustness [K, B] -> [B, T, A], [B].

    Of equals the later one, which is less noisy.
    """
    place = len(iterates) - 1 - robustness.flip(0).argmax(0)
    rows = torch.arange(iterates.shape[1])
    return iterates[place, rows], robustness[place, rows]


def rule_guidance(
    robustness: Callable[[Tensor], Tensor],
    *,
    below: int,
    rounds: int = 1,
    rate: float = 0.01,
    margin: float = 0.0005,
    clip: Literal["signed", "absolute", "none"] = "signed",
) -> Nudge:
    """`rounds` Adam steps on ReLU(margin − ρ) from the posterior mean, at levels under `below`; |change| ≤ β.

    robustness: plans [B, T, A] -> [B], differentiable. clip: "signed" bounds the change on both sides; "absolute" is
    what the code released with Meng and Fan 2024 does: it bounds |change|, so that every change is upwards; "none"
    leaves it (CTG).
    """
    if clip not in ("signed", "absolute", "none"):
        raise UsageError(f"clip={clip!r} is not known; choose signed, absolute or none")

    def nudge(mean: Tensor, level: int, beta: float) -> Tensor:
        if level >= below:
            return mean
        with torch.enable_grad():
            moving = mean.detach().clone().requires_grad_()
            optimiser = torch.optim.Adam([moving], lr=rate)
            for _ in range(rounds):
                optimiser.zero_grad()
                (margin - robustness(moving)).relu().sum().backward()
                optimiser.step()
        return mean + bounded(moving.detach() - mean, beta, clip)

    return nudge


def bounded(change: Tensor, limit: float, clip: str = "signed") -> Tensor:
    """Return a change within ±limit; "absolute": its size, within the limit; "none": as it is."""
    if clip == "none":
        return change
    return (change.abs() if clip == "absolute" else change).clamp(-limit, limit)
