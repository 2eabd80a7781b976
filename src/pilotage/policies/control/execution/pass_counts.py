"""Counting what a network is asked to do: forwards, backwards, and backwards through a gradient, row by row.

A denoiser's step is one forward; a step down an energy is a forward and a backward, and training through such steps
differentiates the backward as well. Counting «steps» alone would call these equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class PassCount:
    """Row passes since the last `pop`: one for each row of each call, so that a row which left costs nothing."""

    forward: int = 0
    backward: int = 0
    """Times a derivative with respect to the chunk came back, those of training included."""
    second: int = 0
    """Times that derivative was itself differentiated."""

    def of(self, chunk: Tensor) -> Tensor:
        """`chunk` [B, ...] as it is; what then flows forwards and backwards through it is counted."""
        counted: Tensor = _Counted.apply(chunk, self)
        return counted

    def pop(self) -> PassCount:
        """Return the counts so far; counting begins anew."""
        done = PassCount(self.forward, self.backward, self.second)
        self.forward = self.backward = self.second = 0
        return done


class _Counted(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, chunk: Tensor, count: PassCount) -> Tensor:
        count.forward += len(chunk)
        context.count = count
        return chunk.view_as(chunk)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        context.count.backward += len(gradient)
        return _CountedGradient.apply(gradient, context.count), None


class _CountedGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, gradient: Tensor, count: PassCount) -> Tensor:
        context.count = count
        return gradient.view_as(gradient)

    @staticmethod
    def backward(context: Any, second: Tensor) -> tuple[Tensor, None]:
        context.count.second += len(second)
        return second, None


def flops_of(work: Any) -> int:
    """Floating-point operations of the matrix products that `work()` performs, backwards included.

    Counted by torch's own counter on what is really executed, not by a formula.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
