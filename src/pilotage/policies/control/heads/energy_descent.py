"""Steps down an energy with lengths that the energy itself sets, for training through them and for acting by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.energy_steps import energy_scaled, norm_by_row, unit_scale
from pilotage.policies.control.sampling.descent import Energy

EnergyOfRows = Callable[[Tensor, Tensor], Tensor]
"""(chunks [n, T, A], their rows [n] int64) -> energies [n]; low is good."""


@dataclass(frozen=True)
class Descent:
    """The law of a step: v ← μv − α·exp(E)/τ·∂E/∂x at x + μv, then x ← x + v."""

    step_size: float = 0.1
    """α."""
    momentum: float = 0.0
    """μ of Nesterov's look-ahead; 0: plain steps."""
    scaled: bool = False
    """Whether steps are multiplied by exp(E)."""
    temperature: float = 1.0
    """τ."""
    energy_limit: float = 10.0
    """Bound of the energy within exp."""
    gradient_clip: float | None = None
    """Bound of every entry of α·∂E/∂x."""
    normalise_last: bool = False
    """Whether the chunk is brought to a root mean square of 1 before the last step."""

    def __post_init__(self) -> None:
        if self.step_size <= 0 or self.temperature <= 0 or self.energy_limit <= 0 or not 0 <= self.momentum < 1:
            raise UsageError(
                f"step_size={self.step_size}, temperature={self.temperature}, energy_limit={self.energy_limit} must be "
                f"above 0 and momentum={self.momentum} at least 0 and below 1"
            )


class DescentStep(NamedTuple):
    """After a step: chunk and speed [B, T, A]; the slope ‖∂E/∂x‖ [B] and the energy [B] where it was taken."""

    chunk: Tensor
    speed: Tensor
    slope: Tensor
    energy: Tensor


def energy_step(
    energy: Energy,
    x: Tensor,
    speed: Tensor,
    law: Descent,
    *,
    size: Tensor | float | None = None,
    factor: Tensor | None = None,
    graph: bool = False,
    detach: bool = True,
) -> DescentStep:
    """Return one step from `x` [B, T, A] with `speed` [B, T, A].

    Args:
        energy: chunks [B, T, A] -> [B].
        size: α in place of the law's, such as a learnt one.
        factor: multiplies the step of each row, [B].
        graph: whether the result can be differentiated, through the gradient, with respect to the energy's weights.
        detach: whether derivatives end at `x`, so that a step answers for itself alone.

    Works within `no_grad`. Raises UsageError when energy or gradient are not finite.
    """
    with torch.enable_grad():
        at = x + law.momentum * speed
        if detach or not at.requires_grad:
            at = at.detach().requires_grad_()
        value = energy(at)
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=graph)
    if not bool(gradient.isfinite().all() & value.isfinite().all()):
        raise UsageError("the energy or its gradient is not finite; lower the learning rate or the step size")
    with torch.set_grad_enabled(graph):
        alpha = law.step_size if size is None else size
        moved = alpha * gradient
        if law.gradient_clip is not None:
            moved = moved.clamp(-law.gradient_clip, law.gradient_clip)
        of_row = torch.ones_like(value) if factor is None else factor
        if law.scaled:
            of_row = of_row * energy_scaled(value, 1.0, temperature=law.temperature, limit=law.energy_limit)
        speed = law.momentum * (speed.detach() if detach else speed) - of_row[:, None, None] * moved
        chunk = (x.detach() if detach else x) + speed
    return DescentStep(chunk, speed, norm_by_row(gradient.detach()), value.detach())


class Settled(NamedTuple):
    """Where rows came to rest. chunk [B, T, A]; steps [B] int64, gradients taken; slope [B], the last ‖∂E/∂x‖ before
    a normalised step; energy [B], where the last gradient was taken; early [B] bool, whether the slope ended it.
    """

    chunk: Tensor
    steps: Tensor
    slope: Tensor
    energy: Tensor
    early: Tensor


def settle(
    energy: EnergyOfRows,
    x: Tensor,
    generator: Generators | None,
    law: Descent,
    *,
    steps: int,
    size: Tensor | float | None = None,
    least_slope: float = 0.0,
    noise: Sequence[float] = (),
) -> Settled:
    """Return steps from `x` [B, T, A] until the slope of a row is below `least_slope`, `steps` gradients at most.

    A row that rests leaves the batch: it costs nothing more, and what becomes of it does not depend on the others.
    With `law.normalise_last` the last of the steps is taken from the chunk at unit scale, by resting rows too.
    noise: standard deviations added before each step; empty: none. Works within `no_grad`, leaves no graph.
    """
    if steps < 1:
        raise UsageError(f"steps={steps}; at least one is needed")
    x = x.detach().clone()
    speed, slope = torch.zeros_like(x), x.new_full((len(x),), torch.inf)
    found, taken = torch.zeros_like(slope), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    early = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    rows = torch.arange(len(x), device=x.device)
    free = steps - 1 if law.normalise_last else steps
    for number in range(free):
        std = noise[number] if number < len(noise) else 0.0
        if std:
            x[rows] += std * _noise(x[rows], rows, generator)
        step = energy_step(lambda chunk: energy(chunk, rows), x[rows], speed[rows], law, size=size)  # noqa: B023
        slope[rows], found[rows] = step.slope, step.energy
        taken[rows] += 1
        moving = step.slope >= least_slope
        early[rows[~moving]] = True
        rows = rows[moving]
        if not len(rows):
            break
        x[rows], speed[rows] = step.chunk[moving], step.speed[moving]
    if law.normalise_last:
        every = torch.arange(len(x), device=x.device)
        step = energy_step(lambda chunk: energy(chunk, every), unit_scale(x), speed, law, size=size)
        x, found = step.chunk, step.energy
        slope = step.slope if steps == 1 else slope  # at unit scale it says nothing of rest
        taken += 1
    return Settled(x, taken, slope, found, early)


def _noise(x: Tensor, rows: Tensor, generator: Generators | None) -> Tensor:
    if generator is None:
        raise UsageError("noise is to be added in the descent; give a generator, or one per row")
    own = generator if isinstance(generator, torch.Generator) else [generator[int(row)] for row in rows]
    return normal(x.shape, own, like=x)
