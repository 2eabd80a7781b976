"""From which level a warm start should be denoised, and how fast denoising forgets what was wrong with it.

A guess for the next chunk is denoised from a low level K' without noise being added to it. Duan et al. 2025, Real-Time
Iteration Scheme for Diffusion Policy (arXiv 2508.05396).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.objectives.shapes import check_shapes


class ShiftErrors(NamedTuple):
    """How far guesses are from what forward diffusion would have made, at every level of a path."""

    error: Tensor
    """[K] float64: median over rows of ‖G − √ᾱ_k·A‖/√(T·A), in normalised units."""
    by_entry: Tensor
    """[K, A] float64: the same for each entry of the action alone, over √T."""
    noise: Tensor
    """[K] float64: √(1 − ᾱ_k), the size of what forward diffusion adds."""

    def first_level(self, entry: int | None = None) -> int | None:
        """Return the first level at which a guess is no farther from the target than a forward sample: the estimate of
        K'.

        entry: of one entry of the action alone. None: at no level.
        """
        error = self.error if entry is None else self.by_entry[:, entry]
        within = torch.nonzero(error <= self.noise).flatten()
        return int(within[0]) if len(within) else None


def shift_errors(guess: Tensor, target: Tensor, path: VariancePreserving) -> ShiftErrors:
    """Guesses [N, T, A] against the chunks [N, T, A] that full denoising gives in their place.

    The median over rows is taken because two full processes in one situation may choose different modes, which says
    nothing about the size of a change within one.
    """
    check_shapes("N,T,A N,T,A", guess, target)
    scale = path.alpha_bars.sqrt()
    squares = (guess.double() - scale[:, None, None, None] * target.double()).square().mean(2)  # [K, N, A]
    return ShiftErrors(
        error=squares.mean(-1).sqrt().median(1).values,
        by_entry=squares.sqrt().median(1).values,
        noise=(1 - path.alpha_bars).sqrt(),
    )


def contraction(first: Tensor, second: Tensor, first_start: Tensor, second_start: Tensor) -> Tensor:
    """Return ‖out − out'‖/‖start − start'‖ of each row: all [B, T, A] -> [B].

    Below one: denoising forgets the difference.

    Both must have been denoised with the same noise.
    """
    check_shapes("B,T,A B,T,A B,T,A B,T,A", first, second, first_start, second_start)
    return (first - second).flatten(1).norm(dim=1) / (first_start - second_start).flatten(1).norm(dim=1)


def gaussian_contraction(path: VariancePreserving, std: float) -> Tensor:
    """By what each DDPM update multiplies a difference when actions are N(W·o, std²): [K] float64.

    The clean estimate is then W·o + g·(x − √ᾱ·W·o) with g = √ᾱ·std²/(ᾱ·std² + 1 − ᾱ), so the update of level k is
    linear in x, with slope √ᾱ_{k−1}·β/(1 − ᾱ)·g + √α·(1 − ᾱ_{k−1})/(1 − ᾱ). The factor of a list of levels is their
    product; at level 0 it is g alone.
    """
    bars, betas = path.alpha_bars, path.betas
    before = torch.cat([torch.ones_like(bars[:1]), bars[:-1]])
    gain = bars.sqrt() * std**2 / (bars * std**2 + 1 - bars)
    return before.sqrt() * betas / (1 - bars) * gain + (1 - betas).sqrt() * (1 - before) / (1 - bars)
