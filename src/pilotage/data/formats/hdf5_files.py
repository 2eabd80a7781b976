"""HDF5 files: opened, and read array by array, with errors that say where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.formats.access import existing, package
from pilotage.data.frames import Frames


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An h5py.File for reading. Raises UsageError for a file that is missing, damaged or cut, also while it is read."""
    h5py = package("h5py", "an HDF5 file")
    path = existing(path, "file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UsageError(f"{path} cannot be opened as HDF5 ({error}); it is damaged or cut, copy it again") from error
    with file:
        try:
            yield file
        except UsageError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
            raise UsageError(f"{path} cannot be read ({error}); it is damaged or cut, copy it again") from error


def array(group: Any, name: str, where: str) -> np.ndarray:
    """Return the whole array `name` of a group. Raises UsageError that says where it is missing or damaged."""
    if name not in group or not hasattr(group[name], "shape"):
        raise UsageError(f"{where} has no array {name!r}; there are {', '.join(sorted(group)) or 'none'}")
    try:
        return np.asarray(group[name][()])
    except OSError as error:
        raise UsageError(f"{where}: array {name!r} cannot be read ({error}); the file is damaged, copy it again") from (
            error
        )


class HDF5Frames(Frames):
    """Camera frames that lie as uint8 [T, H, W, C] in one array per episode. The file is opened for each reading.

    path: of the file. names: of the arrays, one per episode; shape: (N, H, W, C) of all together; ends: [E] the step
    after each episode's last.
    """

    def __init__(self, path: Path, names: Sequence[str], shape: tuple[int, ...], ends: np.ndarray) -> None:
        self._path, self._names, self._ends = path, list(names), ends
        self.shape = shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of these rows."""
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        owner = np.searchsorted(self._ends, rows, side="right")
        with opened(self._path) as file:
            for number in np.unique(owner):
                here = owner == number
                # h5py takes rising positions without repetition only.
                steps, back = np.unique(rows[here] - (self._ends[number - 1] if number else 0), return_inverse=True)
                try:
                    found[here] = file[self._names[number]][steps][back]
                except (OSError, KeyError) as error:
                    raise UsageError(
                        f"{self._path}, {self._names[number]}, episode {number}: frames {steps[0]} to {steps[-1]} "
                        f"cannot be read ({error}); the file is damaged, copy it again"
                    ) from error
        return found
