"""Greatest values over windows of time, exact or smooth, for all steps at once; the least is −greatest(−x).

Smooth: max_τ(x) = log Σ exp(τx) / τ, at least the exact value and at most log(n)/τ above it for n values.

Of a window that reaches past the end of a trajectory, what lies past the end is left out; where nothing is left, the
window takes the last step. For exact values both are what a trajectory gives that stays at its last step for ever. So
no window is empty, and no value is ever infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class Extremes:
    """Ways to take the greatest of several values; the smooth one works on values already multiplied by τ."""

    pair: Callable[[Tensor, Tensor], Tensor]
    along: Callable[[Tensor], Tensor]
    """[..., n] -> [..., 1]"""
    running: Callable[[Tensor], Tensor]
    """[..., n] -> [..., n]: entry i is the greatest of entries 0 to i."""


_EXACT = Extremes(torch.maximum, lambda x: x.amax(-1, keepdim=True), lambda x: torch.cummax(x, -1).values)
_SMOOTH = Extremes(torch.logaddexp, lambda x: torch.logsumexp(x, -1, keepdim=True), lambda x: torch.logcumsumexp(x, -1))


def checked_temperature(tau: float | None) -> float | None:
    """Return τ if it is above 0 and finite, or None for exact values; raise UsageError otherwise."""
    if tau is not None and not 0 < tau < float("inf"):
        raise UsageError(f"the temperature tau must be above 0 and finite, got {tau}; None gives exact values")
    return tau


def greatest(first: Tensor, second: Tensor, tau: float | None) -> Tensor:
    """Return the greater of two values, element by element; shapes broadcast."""
    if tau is None:
        return torch.maximum(first, second)
    return torch.logaddexp(first * tau, second * tau) / tau


def greatest_of_window(values: Tensor, lower: int, upper: int | None, steps: int, tau: float | None) -> Tensor:
    """Return the greatest of values[t+lower … t+upper] for t = 0 … steps−1, [..., steps].

    Costs O(T log width) or, to the end, O(T) for T steps.

    Args:
        values: [..., step].
        lower: first step of the window.
        upper: last step of the window; None: the end of the trajectory.
        steps: number of windows.
        tau: temperature of the smooth value; None: exact.
    """
    extremes, scaled = (_EXACT, values) if tau is None else (_SMOOTH, values * tau)
    scaled = scaled[..., min(lower, values.shape[-1] - 1) :]
    remaining = scaled.shape[-1]
    count = min(steps, remaining)
    width = remaining if upper is None else min(upper - lower + 1, remaining)
    if count == 1:
        result = extremes.along(scaled[..., :width])
    elif width == remaining:
        result = extremes.running(scaled.flip(-1)).flip(-1)[..., :count]
    else:
        result = _sliding(scaled, width, count, extremes)
    if count < steps:
        result = torch.cat([result, result[..., -1:].expand(*result.shape[:-1], steps - count)], -1)
    return result if tau is None else result / tau


def _sliding(values: Tensor, width: int, count: int, extremes: Extremes) -> Tensor:
    """Return the greatest of windows of `width` from `count` starts.

    Each is put together from windows whose widths are powers of two, each made of two of half its width; none overlap,
    so that the smooth value counts every step once.
    """
    missing = count + width - 1 - values.shape[-1]
    level = pad(values, (0, missing), value=floor(values)) if missing > 0 else values[..., : count + width - 1]
    result, start, span = None, 0, 1
    while True:
        if width & span:
            piece = level[..., start : start + count]
            result = piece if result is None else extremes.pair(result, piece)
            start += span
        if 2 * span > width:
            assert result is not None
            return result
        level = extremes.pair(level[..., :-span], level[..., span:])
        span *= 2


def until(left: Tensor, right: Tensor, lower: int, upper: int | None, steps: int, tau: float | None) -> Tensor:
    """Return, for t = 0 … steps−1, the greatest over k of the least of right[t+k] and left[t … t+k−1], [..., steps].

    Holds steps × (longest k + 1) values per row at once.

    Args:
        left: [..., step].
        right: [..., step].
        lower: least k.
        upper: greatest k; None: the end of the trajectory.
        steps: number of values.
        tau: temperature of the smooth value; None: exact.
    """
    extremes, factor = (_EXACT, 1.0) if tau is None else (_SMOOTH, tau)
    left, right = torch.broadcast_tensors(left, right)
    end = right.shape[-1] - 1
    lower = min(lower, end + 1)
    longest = max(end, lower) if upper is None else min(upper, max(end, lower))
    ahead = torch.arange(longest + 1, device=right.device)
    step = torch.arange(steps, device=right.device)[:, None] + ahead
    place = step.clamp(max=end)
    low = floor(right)
    # Minus the least is the greatest of minus; what is left out gets the lowest value.
    against = torch.where(step[:, :-1] <= end, -factor * left[..., place[:, :-1]], low)
    against = pad(extremes.running(against), (1, 0), value=low) if longest else torch.full_like(right[..., place], low)
    held = -extremes.pair(-factor * right[..., place], against)
    chosen = (ahead >= lower) & ((step <= end) | (ahead == lower))
    return extremes.along(torch.where(chosen, held, low))[..., 0] / factor


def floor(values: Tensor) -> float:
    """Return a finite number far below all values of this type: infinities would give NaN as gradients."""
    return torch.finfo(values.dtype).min / 4
