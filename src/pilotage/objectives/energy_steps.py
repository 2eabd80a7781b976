"""The arithmetic of a step down an energy: how long it is, what noise goes with it, where it is taken."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.objectives.draws import Generators, uniform
from pilotage.objectives.shapes import check_shapes


def energy_scaled(
    energy: Tensor, step_size: Tensor | float, *, temperature: float = 1.0, limit: float = 10.0
) -> Tensor:
    """α·exp(E)/τ per row, so that steps shrink as the energy falls: energy [B] -> [B].

    The energy is held within ±`limit`, where its gradient is 0 beyond, so that exp cannot overflow early in training.
    EBT-Policy (arXiv 2510.27545).
    """
    check_shapes("B", energy)
    return step_size * energy.clamp(-limit, limit).exp() / temperature


def falling_noise(first: float, last: float, count: int) -> list[float]:
    """`count` standard deviations that fall linearly from `first` to `last`, both included; one alone is `first`."""
    if count < 1 or first < last or last < 0:
        raise ValueError(f"noise from {first} to {last} in {count} steps; expected first >= last >= 0 and a step")
    if count == 1:
        return [float(first)]
    return [first + (last - first) * step / (count - 1) for step in range(count)]


def unit_scale(chunk: Tensor, *, least: float = 1e-6) -> Tensor:
    """Return each row divided by the root mean square of all its numbers: [B, T, A] -> [B, T, A]."""
    check_shapes("B,T,A", chunk)
    return chunk / chunk.square().mean((1, 2), keepdim=True).add(least).sqrt()


def spread_factor(count: int, spread: float, generator: Generators, *, like: Tensor) -> Tensor | None:
    """Factors of step sizes, uniform in [1/spread, spread]: [count]; None for a spread of 1."""
    if spread < 1:
        raise ValueError(f"a spread of {spread}; it must be at least 1")
    if spread == 1:
        return None
    return 1 / spread + (spread - 1 / spread) * uniform([count], generator, like=like)


def noised_start(chunk: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """√s·chunk + √(1−s)·noise with the share s of the data, [B] in [0, 1]: [B, T, A] -> [B, T, A]."""
    check_shapes("B,T,A B,T,A B", chunk, noise, share)
    kept = share.clamp(0, 1)[:, None, None]
    return kept.sqrt() * chunk + (1 - kept).sqrt() * noise


def norm_by_row(values: Tensor) -> Tensor:
    """Euclidean norm over all but the first dimension: [B, ...] -> [B]."""
    return torch.linalg.vector_norm(values.flatten(1), dim=1)
