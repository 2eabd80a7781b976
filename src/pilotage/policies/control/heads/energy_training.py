"""Training an energy through the descent that acts by it: EBT-Policy's loss, a piece of the slot `energy_loss`.

EBT-Policy (arXiv 2510.27545) after Energy-Based Transformers (arXiv 2507.02092). From a start that knows nothing of the
demonstrated chunk the least squared error is reached by going to the conditional mean from everywhere, so this loss
cannot hold two modes, however the energy is made; `start="noised"` and equilibrium matching can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.objectives.denoising import chunk_error, step_mean
from pilotage.objectives.draws import Generators, normal, uniform
from pilotage.objectives.energy_steps import falling_noise, noised_start, spread_factor, unit_scale
from pilotage.policies.control.heads.energy_descent import Descent, energy_step
from pilotage.policies.control.sampling.descent import Energy


@dataclass(frozen=True)
class ThroughDescent:
    """How training descends."""

    least_steps: int = 3
    """Fewest steps."""
    more_steps: int = 4
    """Up to so many more, drawn anew for every batch."""
    start: Literal["noise", "noised"] = "noise"
    """From N(0, 1), as the paper; or from the demonstrated chunk with a random share of noise."""
    noise_first: float = 0.0
    """Standard deviation of the noise added before the first step."""
    noise_last: float = 0.0
    """The same before the last step; linear between."""
    truncate: bool = False
    """Whether only the error after the last step counts, not the mean over all."""
    detach: bool = True
    """Whether derivatives end between steps."""
    spread: float = 1.0
    """s of random step sizes: a factor uniform in [1/s, s] for each row."""
    smooth: bool = False
    """Huber's loss in place of the squared error."""

    def __post_init__(self) -> None:
        if self.least_steps < 1 or self.more_steps < 0:
            raise UsageError(f"least_steps={self.least_steps} must be at least 1, more_steps={self.more_steps} 0")
        if self.start not in ("noise", "noised"):
            raise UsageError(f"start={self.start!r} is not known; choose noise or noised")
        if not self.noise_first >= self.noise_last >= 0 or self.spread < 1:
            raise UsageError(
                f"noise_first={self.noise_first} must be at least noise_last={self.noise_last}, both 0 or more, and "
                f"spread={self.spread} at least 1"
            )


def through_descent(
    energy: Energy,
    chunk: Tensor,
    mask: Tensor,
    generator: Generators,
    *,
    descent: Descent | None = None,
    training: ThroughDescent | None = None,
    size: Tensor | float | None = None,
) -> Tensor:
    """Return the mean over the steps of a descent from noise of the squared error to the demonstrated chunk: -> [B].

    energy: chunks [B, T, A] -> [B]; chunk [B, T, A], padding filled, within [−1, 1]; mask [B, T].
    descent: the law of a step, by default plain steps of .1; size: its α, where that is learnt.
    Each step's gradient is itself differentiated: as many double backwards as steps.
    """
    law, how = descent or Descent(), training or ThroughDescent()
    x = normal(chunk.shape, generator, like=chunk)
    if how.start == "noised":
        x = noised_start(chunk, x, uniform([len(chunk)], generator, like=chunk))
    extra = uniform([len(chunk)], generator)[0] if how.more_steps else torch.zeros(())
    count = how.least_steps + int(extra * (how.more_steps + 1))
    factor = spread_factor(len(chunk), how.spread, generator, like=chunk)
    speed, losses = torch.zeros_like(x), []
    for number, std in enumerate(falling_noise(how.noise_first, how.noise_last, count)):
        if law.normalise_last and number == count - 1:
            x = unit_scale(x)
        if std:
            x = x + std * normal(x.shape, generator, like=x)
        step = energy_step(energy, x, speed, law, size=size, factor=factor, graph=True, detach=how.detach)
        x, speed = step.chunk, step.speed
        losses.append(_error(x, chunk, mask, how.smooth))
    return losses[-1] if how.truncate else torch.stack(losses).mean(0)


def _error(x: Tensor, chunk: Tensor, mask: Tensor, smooth: bool) -> Tensor:
    if smooth:
        return step_mean(functional.smooth_l1_loss(x, chunk, reduction="none").mean(-1), mask)
    return chunk_error(x, chunk, mask)
