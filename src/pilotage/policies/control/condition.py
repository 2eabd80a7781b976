"""What an action head knows of the situation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Condition(NamedTuple):
    """An encoded batch of observation windows; in the order in which networks over chunks take it."""

    vector: Tensor
    """[B, d], everything in one vector."""
    tokens: Tensor | None = None
    """[B, To, S], one token per observed frame."""
    goal: Tensor | None = None
    """[B, n, G], goal tokens."""

    def repeated(self, count: int) -> Condition:
        """Return every row `count` times in a row: [B, ...] -> [B·count, ...]."""
        return self.map(lambda part: part.repeat_interleave(count, 0))

    def map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """`change` applied to every part that is there."""
        tokens, goal = self.tokens, self.goal
        return Condition(
            change(self.vector), None if tokens is None else change(tokens), None if goal is None else change(goal)
        )
