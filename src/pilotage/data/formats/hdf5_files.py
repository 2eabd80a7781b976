"""HDF5 files: opened, and read array by array, with errors that say where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.formats.access import existing, expect_room, package
from pilotage.data.frames import Frames

HDF5 = (".hdf5", ".h5", ".hdf")
"""Suffixes of such files."""


@contextmanager
def opened(path: str | Path, *, look: bool = True) -> Iterator[Any]:
    """Open an h5py.File for reading.

    Args:
        path: of the file.
        look: whether to look first for parts that lie in other files; once per file is enough.

    Raises:
        UsageError: for a file that is missing, damaged or cut, also while it is read; and for one that takes numbers
            from other files, which could be any of this machine.
    """
    h5py = package("h5py", "an HDF5 file")
    path = existing(path, "file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UsageError(f"{path} cannot be opened as HDF5 ({error}); it is damaged or cut, copy it again") from error
    with file:
        try:
            if look:
                _expect_whole(h5py, file, path)
            yield file
        except UsageError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
            raise UsageError(f"{path} cannot be read ({error}); it is damaged or cut, copy it again") from error


def _expect_whole(h5py: Any, group: Any, path: Path, seen: set[int] | None = None) -> None:
    """Raise UsageError when a part of the file lies elsewhere: external links, raw storage, virtual arrays."""
    seen = set() if seen is None else seen
    for name in group:
        link, outside = group.get(name, getlink=True), ""
        if isinstance(link, h5py.ExternalLink):
            outside = f"is a link into the file {link.filename}"
        elif isinstance(link, h5py.HardLink):
            part = group[name]
            address = h5py.h5o.get_info(part.id).addr
            if isinstance(part, h5py.Dataset) and part.external:
                outside = f"takes its numbers from the file {part.external[0][0]}"
            elif isinstance(part, h5py.Dataset) and part.is_virtual:
                others = [source.file_name for source in part.virtual_sources() if source.file_name != "."]
                outside = f"takes its numbers from the file {others[0]}" if others else ""
            elif isinstance(part, h5py.Group) and address not in seen:
                seen.add(address)
                _expect_whole(h5py, part, path, seen)
        if outside:
            raise UsageError(
                f"{path}: {group.name.rstrip('/')}/{name} {outside}; what lies outside of the file is never read: "
                "write the data into it (h5py's copy with expand_external=True)"
            )


def array(group: Any, name: str, where: str) -> np.ndarray:
    """Return the whole array `name` of a group. Raises UsageError that says where it is missing or damaged."""
    if name not in group or not hasattr(group[name], "shape"):
        raise UsageError(f"{where} has no array {name!r}; there are {', '.join(sorted(group)) or 'none'}")
    expect_room(group[name].nbytes, f"{where}: array {name!r}")
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
        with opened(self._path, look=False) as file:
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
