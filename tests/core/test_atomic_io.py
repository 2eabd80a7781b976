"""Locks and atomic writes."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.atomic_io import Lock, write_atomically
from pilotage.core.errors import DiskFull


def test_a_forked_worker_that_outlives_the_owner_does_not_keep_the_lock(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    owner = os.fork()
    if owner == 0:
        lock = Lock(tmp_path / "lock")
        taken = lock.take()
        worker = os.fork()
        if worker == 0:
            signal.pause()
        os.write(writing, f"{int(taken)} {worker}".encode())
        signal.pause()
    taken, worker = (int(part) for part in os.read(reading, 100).split())
    try:
        assert taken
        lock = Lock(tmp_path / "lock")
        assert not lock.take()
        assert lock.owner() == f"process {owner}"
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
        assert lock.take()
        lock.release()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_a_forked_child_does_not_free_the_lock_of_its_parent(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert lock.take()
    child = os.fork()
    if child == 0:
        os._exit(int(lock.held))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not Lock(tmp_path / "lock").take()
    lock.release()
    lock.release()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, b"old")

    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match=r"run\.json"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"]
