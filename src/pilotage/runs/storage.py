"""Stored jobs of comparisons and artifacts below `$PILOTAGE_HOME`: their sizes, last use, and removal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pilotage.core.atomic_io import Lock, remove_directory
from pilotage.core.errors import UsageError

Kind = Literal["job", "artifact", "left-over"]
_HIDDEN = (".removed-", ".writing-")


@dataclass(frozen=True)
class StoredFolder:
    """A folder that can be made again: a job of a comparison, an artifact, or what a killed process left."""

    kind: Kind
    path: Path
    bytes: int
    """Bytes of its files on the disk; what links point to does not count."""
    last_used: float
    """Time of its last change or use, in seconds since 1970."""


def stored_folders(home: Path) -> list[StoredFolder]:
    """Return what is stored below `home`, the longest unused first. Nothing outside of `home` is looked at."""
    found = []
    kinds: tuple[tuple[str, Kind], ...] = (("jobs", "job"), ("artifacts", "artifact"))
    for folder, kind in kinds:
        if not (home / folder).is_dir() or not (home / folder).resolve().is_relative_to(home.resolve()):
            continue
        for path in (home / folder).iterdir():
            left = path.name.startswith(_HIDDEN)
            if path.is_dir() and not path.is_symlink() and (left or not path.name.startswith(".")):
                found.append(StoredFolder("left-over" if left else kind, path, *_measure(path)))
    return sorted(found, key=lambda one: (one.last_used, one.path))


def _measure(folder: Path) -> tuple[int, float]:
    size, used = 0, folder.stat().st_mtime
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                about = (Path(place) / name).lstat()
            except FileNotFoundError:  # a process at work has just removed it
                continue
            size += about.st_blocks * 512
            used = max(used, about.st_mtime)
    return size, used


def select(
    folders: Sequence[StoredFolder], *, older_than: float = 0.0, larger_than: int = 0, keep: int = 0
) -> list[StoredFolder]:
    """Return the folders that fulfil all conditions.

    Args:
        folders: as `stored_folders` returns them.
        older_than: seconds without use, at least.
        larger_than: bytes, at least.
        keep: number of folders of each kind, those that were used last, that are left out.
    """
    now = time.time()
    chosen: set[StoredFolder] = set()
    for kind in ("job", "artifact", "left-over"):
        alike = sorted((one for one in folders if one.kind == kind), key=lambda one: one.last_used, reverse=True)
        chosen |= set(alike[keep:])
    return [one for one in folders if one in chosen and now - one.last_used >= older_than and one.bytes >= larger_than]


def remove_stored(folder: StoredFolder) -> bool:
    """Remove a stored folder unless a process uses it; return whether it was removed."""
    with _locked(folder) as free:
        if free:
            remove_directory(folder.path)
        return free


@contextmanager
def _locked(folder: StoredFolder) -> Iterator[bool]:
    """Take the locks of a folder and of the runs in it, for the block; gives whether all were free."""
    if folder.kind == "artifact":
        paths = [folder.path.parent / ".locks" / folder.path.name]
    elif folder.kind == "left-over":
        name = folder.path.name.removeprefix(".removed-").removeprefix(".writing-")
        paths = [folder.path.parent / ".locks" / name, *folder.path.rglob("lock")]
    else:
        paths = sorted(folder.path.rglob("lock"))
    with ExitStack() as stack:
        for path in paths:
            if not path.parent.is_dir():
                continue
            lock = Lock(path)
            try:
                taken = lock.take()
            except UsageError:  # not an ordinary file, so no process holds it
                continue
            if not taken:
                yield False
                return
            stack.callback(lock.release)
        yield True
