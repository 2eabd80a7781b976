"""Entries of an action with two values only, such as a gripper that is open or closed.

A warm start breaks there: a guess of ±1, denoised from a low level, never becomes ∓1. Either the entry is shrunk to
±1/factor before training, so that a flip is a small move, or the guess alone is replaced by its sign times something
small. In both cases what is executed is one of the two values. Duan et al. 2025 (arXiv 2508.05396), section on discrete
actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.policies.control.execution.executors import RecedingHorizon


class SignedGuess:
    """`alter` of a ShiftedStart: `entries` of a guess [B, T, A] become their sign times `magnitude`."""

    def __init__(self, entries: Sequence[int], magnitude: float = 1.0) -> None:
        if not entries or magnitude <= 0:
            raise UsageError(f"entries={list(entries)}, magnitude={magnitude}: expected some entries, and more than 0")
        self.entries, self.magnitude = list(entries), magnitude

    def __call__(self, guess: Tensor) -> Tensor:
        """Return the guess with its binary dimensions set."""
        return with_sign(guess, self.entries, self.magnitude)


class BinaryDimsHorizon(RecedingHorizon):
    """A RecedingHorizon whose actions have their `entries` at ±`value` (normalised units), whichever is nearer."""

    def __init__(self, frames: int, horizon: int, executed: int, entries: Sequence[int], value: float = 1.0) -> None:
        super().__init__(frames, horizon, executed)
        if not entries or value <= 0:
            raise UsageError(f"entries={list(entries)}, value={value}: expected some entries, and a value above 0")
        self.entries, self.value = list(entries), value

    def next(self, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row."""
        return with_sign(super().next(rows), self.entries, self.value)


def with_sign(actions: Tensor, entries: Sequence[int], value: float) -> Tensor:
    """Return a copy of [..., A] with `entries` at +`value` (0 or more) or −`value`.

    Raises UsageError for an entry that there is not.
    """
    if any(not 0 <= entry < actions.shape[-1] for entry in entries):
        raise UsageError(f"entries {list(entries)} of an action with {actions.shape[-1]} numbers; count from 0")
    changed = actions.clone()
    at = list(entries)
    changed[..., at] = torch.where(actions[..., at] < 0, -value, value).to(actions.dtype)
    return changed
