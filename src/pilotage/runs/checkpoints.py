"""Checkpoints: a directory per step, complete or not there at all.

`checkpoints/step-00000120/` holds `tensors.safetensors`, `state.json` and `SHA256SUMS` (which `sha256sum -c` reads).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from pilotage.core.atomic_io import (
    disk_errors,
    read_file,
    remove_directory,
    replace_directory,
    sync,
)
from pilotage.core.atomic_io import refuse_other_kind as refuse_other_file
from pilotage.core.errors import RunError, UsageError
from pilotage.runs.state import as_os_error, join, save_tensors, split

FORMAT = 1
_FILES = ("tensors.safetensors", "state.json")
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_STEP = re.compile(r"step-(\d+)")


class BrokenCheckpoint(RunError):  # noqa: N818
    """A checkpoint that is incomplete or altered."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: the `step` it was taken after, the `state`, and the run's own `book` keeping."""

    step: int
    state: dict[str, Any]
    book: dict[str, Any]


def write(directory: Path, step: int, state: Mapping[str, Any], book: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the checkpoint of `step` into `directory`, then remove all but the newest `keep`.

    state: nest of dictionaries, lists, tensors, arrays, numbers and strings (see `pilotage.runs.state`); book: the
    same, for the run itself. Returns its path. Raises UsageError for a value that cannot be stored, DiskFull without
    room; in both cases the earlier checkpoints are untouched and nothing is left behind.
    """
    place = directory / f"step-{step:08d}"
    aside = directory / f".writing-{place.name}"
    # Taken apart in one go: tensors that state and book share are stored once.
    tree, tensors = split({"state": dict(state), "book": dict(book)})
    with disk_errors(place):
        directory.mkdir(exist_ok=True)
        try:
            _write_files(aside, {"format": FORMAT, "step": step, **tree}, tensors)
            replace_directory(aside, place)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    prune(directory, keep)
    return place


def prune(directory: Path, keep: int = 2) -> None:
    """Remove all checkpoints but the newest `keep`."""
    for _, old in listed(directory)[keep:]:
        remove_directory(old)


def refuse_other_kind(directory: Path) -> None:
    """Raise UsageError when something else than a folder lies where the checkpoints belong."""
    if os.path.lexists(directory) and not directory.is_dir():
        raise UsageError(f"{directory} is no folder, so that no checkpoint can be read or written; move it away")


def _write_files(aside: Path, document: dict[str, Any], tensors: dict[str, Any]) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    save_tensors(tensors, aside / _FILES[0])
    (aside / _FILES[1]).write_text(json.dumps(document, indent=1))
    sums = "".join(f"{_sha256(aside / name)}  {name}\n" for name in _FILES)
    (aside / "SHA256SUMS").write_text(sums)
    for name in (*_FILES, "SHA256SUMS"):
        sync(aside / name)
    sync(aside)


def _sha256(path: Path) -> str:
    refuse_other_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(directory: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints in `directory` as (step, path), newest first, complete or not."""
    if not directory.is_dir():
        return []
    found = ((_STEP.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def read(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises BrokenCheckpoint, with the reason, when a file is missing or altered. Other errors of the system, such as
    too many open files or too little memory, say nothing about the checkpoint and are raised as they are.
    """
    try:
        rows = (row.split("  ", 1) for row in read_file(path / "SHA256SUMS").decode().splitlines())
        sums = {name: sha for sha, name in rows}
        for name in _FILES:
            if sums.get(name) != _sha256(path / name):
                raise BrokenCheckpoint(f"{path / name} is not what was written (its SHA-256 differs)")
        document = json.loads(read_file(path / "state.json"))
        tensors = load_file(path / "tensors.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        system = as_os_error(error)
        if system is not None and system.errno not in _ABSENT:
            raise system from error
        raise BrokenCheckpoint(f"{path} cannot be read: {error}") from error
    if document["format"] != FORMAT:
        raise RunError(
            f"{path} has format {document['format']!r}; this version of pilotage reads {FORMAT}. Use the version that "
            "wrote it (run.json names it)"
        )
    return Checkpoint(document["step"], join(document["state"], tensors), join(document["book"], tensors))
