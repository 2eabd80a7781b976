"""Writing that survives a kill: files put in place in one rename, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotage.core.errors import DiskFull, RunError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UMASK = os.umask(0o022)
os.umask(_UMASK)
_FEW_FILES = {errno.EMFILE, errno.ENFILE}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system in the block into errors that say what to do.

    These are `DiskFull`, which names `path` and the free space, UsageError where reading or writing is not allowed, and
    RunError where this process may open no further file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path, free_space(path), error.strerror or str(error)) from error
        if error.errno in _FORBIDDEN:
            where = error.filename2 or error.filename or path
            raise UsageError(
                f"{where} cannot be read and written ({error.strerror}); give a folder of your own, or correct its "
                "permissions"
            ) from error
        if error.errno in _FEW_FILES:
            raise RunError(
                f"this process may open no further file ({error.strerror}); raise the limit (`ulimit -n 4096`) and "
                "start the same command again. What was saved before is untouched"
            ) from error
        raise


def refuse_other_kind(path: Path, *, link: bool = True) -> None:
    """Raise UsageError when something lies at `path` that is no ordinary file; `link`: whether a link to one may be."""
    try:
        mode = (path.stat() if link else path.lstat()).st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return
        mode = stat.S_IFLNK
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise UsageError(f"{path} is {kind}, expected an ordinary file; move it away, or give another folder")


def read_file(path: Path) -> bytes:
    """Return the content of an ordinary file. Raises UsageError for a pipe, which would wait for ever, and the like."""
    refuse_other_kind(path)
    return path.read_bytes()


def open_to_append(path: Path) -> int:
    """Open an ordinary file for reading and appending, made if need be, and return its descriptor.

    Raises UsageError for a link, a folder, a pipe and the like at `path`.
    """
    refuse_other_kind(path, link=False)
    with disk_errors(path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)


def free_space(path: Path) -> int:
    """Return the bytes free for this user on the file system of `path` or of its nearest existing parent."""
    path = path.absolute()
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


def share(path: Path) -> None:
    """Give a file the mode of any new file (by the umask), where a library has made it for its owner alone."""
    if path.is_file() and not path.is_symlink():
        path.chmod(0o666 & ~_UMASK)


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
            share(aside)
            sync(aside)
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON to `path` atomically, making its folder. Raises DiskFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def replace_directory(aside: Path, place: Path) -> None:
    """Move a finished directory to its place in one rename; one that is there already makes way first."""
    if os.path.lexists(place):
        remove_directory(place)
    os.rename(aside, place)
    sync(place.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory so that a kill half-way never leaves a half-empty one under its name.

    Of a link, or a file in its place, only the link or the file is removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    doomed = path.with_name(f".removed-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_stale_files(directory: Path) -> None:
    """Remove what killed processes left behind in `directory`. The caller must hold its lock."""
    for pattern in (".writing-*", ".removed-*"):
        for left in directory.glob(pattern):
            if left.is_dir() and not left.is_symlink():
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

        The file then holds our process number. Raises UsageError when something else than an ordinary file lies there.
        """
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is locked by this very object already")
        refuse_other_kind(self.path, link=False)
        with disk_errors(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
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
        text = self.path.read_text(encoding="utf-8", errors="replace").strip() if self.path.exists() else ""
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


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on the file at `path`; the file stays as it is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
