"""Writing that survives a kill: files put in place in one rename, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotage.core.errors import DiskFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no room" errors of the block into `DiskFull`, which names `path` and the free space."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(path, free_space(path), error.strerror or str(error)) from error


def free_space(path: Path) -> int:
    """Return the bytes free for this user on the file system of `path` or of its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def sync(path: Path) -> None:
    """Force the content of a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Call `os.write` until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`: a reader, or a kill at any moment, finds the old file or the new one. Raises DiskFull."""
    with written_aside(path) as aside:
        aside.write_bytes(data)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give the block a place beside `path` to write a file to, which is put at `path` when the block ends well."""
    aside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    with disk_errors(path):
        try:
            yield aside
            sync(aside)
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON to `path` atomically, making its folder. Raises DiskFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def replace_directory(aside: Path, place: Path) -> None:
    """Move a finished directory to its place in one rename; one that is there already makes way first."""
    if place.exists():
        remove_directory(place)
    os.rename(aside, place)
    sync(place.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory so that a kill half-way never leaves a half-empty one under its name."""
    doomed = path.with_name(f".removed-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_stale_files(directory: Path) -> None:
    """Remove what killed processes left behind in `directory`. The caller must hold its lock."""
    for pattern in (".writing-*", ".removed-*"):
        for left in directory.glob(pattern):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


class Lock:
    """A lock between processes on a file (flock): released by `release` and by the death of the process.

    Children made by fork close their copy of the file, so that a worker that outlives a killed run does not keep it
    locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Try to take the lock, without waiting; return whether that succeeded.

        The file then holds our process number.
        """
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is locked by this very object already")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return True

    def owner(self) -> str:
        """Return who holds the lock, in words: "process 4711"."""
        text = self.path.read_text().strip() if self.path.exists() else ""
        return f"process {text}" if text else "another process"

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)

    @property
    def held(self) -> bool:
        """Return whether this object holds the lock."""
        return self._descriptor is not None


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
