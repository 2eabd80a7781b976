"""Sampling from an energy: descent along its gradient, and search without gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators, categorical, normal

Energy = Callable[[Tensor], Tensor]
"""Chunks [B, ..., T, A] -> energies [B, ...]; low is good."""


class Descended(NamedTuple):
    """Where a descent ended. chunk [B, T, A]; steps [B] int64, taken by each row; slope [B], the last ‖gradient‖."""

    chunk: Tensor
    steps: Tensor
    slope: Tensor


def descend(
    energy: Energy,
    noise: Sequence[float],
    x: Tensor,
    generator: Generators | None,
    *,
    step_size: float,
    momentum: float = 0.0,
    gradient_clip: float | None = None,
    least_slope: float = 0.0,
) -> Descended:
    """len(`noise`) steps from `x` [B, T, A]: x ← x + noise_k·n, then x ← x − step_size·∂E/∂x; zeros: plain descent.

    With `momentum` the gradient is taken at the look-ahead x + momentum·v (Nesterov). `gradient_clip` bounds every
    entry of the gradient. A row whose ‖∂E/∂x‖ is below `least_slope` stays where it is while others move, so the
    result of a row does not depend on the batch. For Langevin dynamics at temperature 1 the noise is √(2·step_size).
    Works within `no_grad` and leaves no graph. Raises UsageError when the gradient is not finite.
    """
    x = x.detach()
    speed, slope = torch.zeros_like(x), x.new_full((len(x),), float("inf"))
    moving = torch.ones(len(x), dtype=torch.bool, device=x.device)
    steps = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for std in noise:
        if std:
            if generator is None:
                raise UsageError(f"noise of {std} is to be added; give a generator, or one per row")
            disturbed = x + std * normal(x.shape, generator, like=x)
            x = torch.where(moving[:, None, None], disturbed, x)
        gradient = energy_gradient(energy, x + momentum * speed)
        slope = torch.where(moving, gradient.flatten(1).norm(dim=1), slope)
        moving = moving & (slope >= least_slope)
        if not bool(moving.any()):
            break
        if gradient_clip is not None:
            gradient = gradient.clamp(-gradient_clip, gradient_clip)
        speed = momentum * speed - step_size * gradient
        x = torch.where(moving[:, None, None], x + speed, x)
        steps = steps + moving
    return Descended(x, steps, slope)


def energy_gradient(energy: Energy, x: Tensor) -> Tensor:
    """Return ∂E/∂x of each row at `x` [B, T, A], detached, also within `no_grad`. Raises UsageError when not finite."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(at).sum(), at)
    if not bool(gradient.isfinite().all()):
        raise UsageError("the energy's gradient is not finite; lower the step size or the energy's scale")
    return gradient


def derivative_free(
    energy: Energy,
    candidates: Tensor,
    generator: Generators,
    *,
    rounds: int = 5,
    std: float = 0.03,
    shrink: float = 1.0,
    low: float = -1.0,
    high: float = 1.0,
    choose: str = "draw",
) -> Tensor:
    """Return one chunk per row out of `candidates` [B, n, T, A]: [B, T, A].

    Florence et al. 2021 (arXiv 2109.00137), algorithm 1.

    In each round candidates are drawn anew by softmax(−energy), disturbed by N(0, std²) (times `shrink` per round) and
    kept in [low, high]; then one is drawn by the same softmax (`choose`="draw") or the lowest is taken ("lowest").
    """
    if choose not in ("draw", "lowest"):
        raise UsageError(f"choose={choose!r} is not known; choose draw or lowest")
    count = candidates.shape[1]
    for _ in range(rounds):
        index = categorical((-energy(candidates)).softmax(-1), generator, count)
        candidates = _taken(candidates, index)
        candidates = (candidates + std * normal(candidates.shape, generator, like=candidates)).clamp(low, high)
        std *= shrink
    final = energy(candidates)
    index = final.argmin(-1) if choose == "lowest" else categorical((-final).softmax(-1), generator)
    return _taken(candidates, index[:, None])[:, 0]


def _taken(candidates: Tensor, index: Tensor) -> Tensor:
    """Candidates [B, n, T, A] at `index` [B, m]: [B, m, T, A]."""
    return candidates.gather(1, index[..., None, None].expand(-1, -1, *candidates.shape[2:]))
