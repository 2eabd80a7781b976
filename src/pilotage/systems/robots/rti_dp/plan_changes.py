"""How much a policy's plans agree with one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from pilotage.policies.control.execution.executors import Executor


class WatchedPlans:
    """An executor that compares every chunk with the one before in its row, where both speak of the same steps.

    `changes` holds the distances, root mean square of normalised units, in the order in which they came; `look(row,
    chunk [T, A])` is shown every chunk."""

    def __init__(self, executor: Executor, look: Callable[[int, Tensor], None] | None = None) -> None:
        self.executor, self.look = executor, look
        self.frames, self.horizon, self.executed = executor.frames, executor.horizon, executor.executed
        self.changes: list[float] = []
        self._last: dict[int, Tensor] = {}

    def reset(self, rows: Sequence[int]) -> None:
        self.executor.reset(rows)
        for row in rows:
            self._last.pop(row, None)

    def due(self, row: int) -> bool:
        return self.executor.due(row)

    def receive(self, rows: Sequence[int], chunks: Tensor) -> None:
        overlap = self.horizon - self.executed
        for row, chunk in zip(rows, chunks, strict=True):
            before = self._last.get(row)
            if before is not None and overlap > 0:
                change = chunk[:overlap] - before[self.executed :]
                self.changes.append(float(change.double().square().mean().sqrt()))
            self._last[row] = chunk
            if self.look is not None:
                self.look(row, chunk)
        self.executor.receive(rows, chunks)

    def next(self, rows: Sequence[int]) -> Tensor:
        return self.executor.next(rows)
