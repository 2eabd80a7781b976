"""Which actions of the predicted chunks are executed.

A chunk begins with the first frame of the observation window, so the action for the newest frame stands at index To−1;
executing from index 0 would act out the past. Executors keep their state by row (lane), so that rows may be reset and
asked in any subset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pilotage.core.errors import UsageError


class Executor(Protocol):
    """The interface. `executed`: actions between one decision and the next."""

    frames: int
    horizon: int
    executed: int

    def reset(self, rows: Sequence[int]) -> None:
        """Forgets the chunks of these rows."""
        ...

    def due(self, row: int) -> bool:
        """Return whether the row needs a new chunk before its next action."""
        ...

    def receive(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Takes in a chunk per row: [n, T, A]."""
        ...

    def next(self, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row, used up by this: [n, A]."""
        ...


class RecedingHorizon:
    """Executes `executed` actions of a chunk, from index To−1 on, then asks for the next. Chi et al. 2023, To/Tp/Ta.

    `executed` 1 with a `ShiftedStart` is RTI-DP: one action per decision, each chunk begun from the last one.
    """

    def __init__(self, frames: int, horizon: int, executed: int) -> None:
        self.frames, self.horizon, self.executed = frames, horizon, executed
        if frames < 1 or executed < 1 or frames - 1 + executed > horizon:
            raise UsageError(
                f"frames To={frames}, horizon Tp={horizon}, executed Ta={executed}: actions {frames - 1} to "
                f"{frames + executed - 2} are executed, so To−1+Ta must be at most Tp, and To and Ta at least 1"
            )
        self._chunks: dict[int, Tensor] = {}
        self._taken: dict[int, int] = {}

    def reset(self, rows: Sequence[int]) -> None:
        """Begin an episode."""
        for row in rows:
            self._chunks.pop(row, None)

    def due(self, row: int) -> bool:
        """Return whether the row needs a new decision."""
        return row not in self._chunks or self._taken[row] == self.executed

    def receive(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Take the chunks that were decided for these rows."""
        for row, chunk in zip(rows, chunks, strict=True):
            self._chunks[row], self._taken[row] = chunk, 0

    def next(self, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row."""
        actions = []
        for row in rows:
            if self.due(row):
                raise UsageError(f"row {row} has no action left; give it a chunk first")
            actions.append(self._chunks[row][self.frames - 1 + self._taken[row]])
            self._taken[row] += 1
        return torch.stack(actions)


class TemporalEnsembling:
    """A decision at every step; the action is the mean of what all chunks say of now, weighted exp(−`rate`·i).

    i = 0 is the oldest chunk that reaches so far. Zhao et al. 2023, ACT (arXiv 2304.13705), with rate 0.01.
    """

    executed = 1

    def __init__(self, frames: int, horizon: int, rate: float = 0.01) -> None:
        self.frames, self.horizon, self.rate = frames, horizon, rate
        if not 1 <= frames <= horizon:
            raise UsageError(f"frames To={frames} and horizon Tp={horizon}: To must be at least 1 and at most Tp")
        self._futures: dict[int, list[Tensor]] = {}
        self._fresh: set[int] = set()

    def reset(self, rows: Sequence[int]) -> None:
        """Begin an episode."""
        for row in rows:
            self._futures.pop(row, None)
            self._fresh.discard(row)

    def due(self, row: int) -> bool:
        """Return whether the row needs a new decision."""
        return row not in self._fresh

    def receive(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Take the chunks that were decided for these rows."""
        for row, chunk in zip(rows, chunks, strict=True):
            self._futures.setdefault(row, []).append(chunk[self.frames - 1 :])
            self._fresh.add(row)

    def next(self, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row."""
        actions = []
        for row in rows:
            if self.due(row):
                raise UsageError(f"row {row} has no chunk of this step; give it one first")
            futures = self._futures[row]
            says = torch.stack([future[0] for future in futures])
            weight = torch.exp(-self.rate * torch.arange(len(says), dtype=says.dtype, device=says.device))
            actions.append((weight[:, None] * says).sum(0) / weight.sum())
            self._futures[row] = [future[1:] for future in futures if len(future) > 1]
            self._fresh.discard(row)
        return torch.stack(actions)
