"""Learnable numbers that stay inside bounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError


def squashed(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return low + (high − low) · sigmoid(raw); all broadcast."""
    return low + (high - low) * raw.sigmoid()


def unsquashed(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the raw number of a value; a value at a bound is moved inside by a thousandth of the range."""
    share = ((value - low) / (high - low)).clamp(1e-3, 1 - 1e-3)
    return torch.logit(share)


class Bounded(nn.Module):
    """Learnable tensor of any shape whose entries stay between `low` and `high`.

    Args:
        start: first values [...].
        low: lower bound, a number or a tensor that broadcasts to `start`.
        high: upper bound, likewise.

    Raises:
        UsageError: unless low < high and low ≤ start ≤ high.
    """

    low: Tensor
    high: Tensor

    def __init__(self, start: Tensor, low: Tensor | float, high: Tensor | float) -> None:
        super().__init__()
        first = start.detach().float()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32).expand(first.shape).clone())
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32).expand(first.shape).clone())
        if not bool((self.low < self.high).all()):
            raise UsageError(f"expected low below high, got {low} and {high}")
        if not bool(((first >= self.low) & (first <= self.high)).all()):
            raise UsageError(f"first values {first.flatten()[:6].tolist()} are not inside of {low} … {high}")
        self.raw = nn.Parameter(unsquashed(first, self.low, self.high))

    def forward(self) -> Tensor:
        """Return the values [...]."""
        return squashed(self.raw, self.low, self.high)

    def fill(self, value: Tensor | float) -> None:
        """Set all entries to a value, or to values that broadcast, without a gradient."""
        with torch.no_grad():
            first = torch.as_tensor(value, dtype=torch.float32).expand(self.raw.shape)
            self.raw.copy_(unsquashed(first, self.low, self.high))
