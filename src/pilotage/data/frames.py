"""Camera frames that are decoded when they are asked for, as columns of demonstrations beside arrays in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError


class Frames(ABC):
    """N camera frames, uint8 [N, H, W, C], red first. `frames[rows]` decodes those rows and no others.

    rows may be a whole number (gives [H, W, C]), a slice, or an array of whole numbers or of bool.
    """

    shape: tuple[int, ...]
    """(N, H, W, C)."""
    dtype = np.dtype(np.uint8)

    @abstractmethod
    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return in 0..N-1, in any order and perhaps repeated -> [n, H, W, C] uint8, [n] int64.

        Raises UsageError, naming file, episode and frame, for what cannot be decoded.
        """

    @property
    def ndim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self.read(np.arange(len(self))[rows : rows + 1 or None])[0]
        return self.read(np.arange(len(self))[rows])


class PickedFrames(Frames):
    """The frames at `rows` [n] of other frames."""

    def __init__(self, frames: Frames, rows: np.ndarray) -> None:
        self._frames, self._rows = frames, np.asarray(rows, dtype=np.int64)
        self.shape = (len(self._rows), *frames.shape[1:])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of these rows."""
        return self._frames.read(self._rows[rows])


class JoinedFrames(Frames):
    """The frames of several parts, one after the other. Raises UsageError when they differ in size."""

    def __init__(self, parts: Sequence[Column]) -> None:
        sizes = {part.shape[1:] for part in parts}
        if len(sizes) != 1:
            raise UsageError(f"frames of the sizes {sorted(sizes)} cannot be joined; bring them to one size first")
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self._ends[-1]), *sizes.pop())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of these rows."""
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        owner = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(owner):
            here = owner == number
            begin = self._ends[number - 1] if number else 0
            found[here] = self._parts[number][rows[here] - begin]
        return found


Column = np.ndarray | Frames
"""One observation over all steps: an array [N, ...] in memory, or frames."""


def take(column: Column, rows: np.ndarray) -> Column:
    """Return the column at `rows` [n] int64; frames stay undecoded."""
    return PickedFrames(column, rows) if isinstance(column, Frames) else column[rows]


def join(parts: Sequence[Column]) -> Column:
    """Columns one after the other; undecoded where one of them is."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    return np.concatenate(arrays) if len(arrays) == len(parts) else JoinedFrames(parts)


def in_memory(column: Column) -> np.ndarray:
    """Return the column as an array, every frame decoded."""
    return column[:] if isinstance(column, Frames) else column
