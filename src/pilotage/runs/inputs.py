"""Hashes of the files that a run reads, by which a resumed run notices that they changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pilotage.core.configuration import option
from pilotage.core.errors import UsageError

WHOLE = 2**30
"""Bytes of a folder that are hashed whole, in the order of names; of files after that size, beginning and end count."""
_END = 2**20


def input_hashes(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 (hex) of the files and folders that options name, by option.

    A file counts by its whole content. A folder counts by the names, sizes and contents of the files in it, in which
    links to files are followed; the content of the first GiB counts whole, of later files the first and
    the last MiB. Times and modes do not count. Raises UsageError for what cannot be read, or not twice, such as a pipe.
    """
    return {name: input_hash(path, option(name)) for name, path in inputs.items()}


def input_hash(path: Path, name: str) -> str:
    """Return the SHA-256 of one file or folder, see `input_hashes`; `name` stands in errors."""
    try:
        if not path.is_dir():
            if not stat.S_ISREG(path.stat().st_mode):
                raise UsageError(
                    f"{name}: {path} is a pipe or a device, which cannot be read again when the run resumes; write it "
                    "to a file first"
                )
            return _sha256(path)
        whole, lines = WHOLE, []
        for file in sorted(_files(path)):
            size = file.stat().st_size
            content = _sha256(file) if size <= whole else _ends(file, size)
            whole -= min(size, whole)
            lines.append(f"{file.relative_to(path).as_posix()}\0{size}\0{content}")
    except OSError as error:
        raise UsageError(
            f"{name}: {error.filename or path} cannot be read ({error.strerror}); correct the path or its permissions"
        ) from error
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        yield from (file for name in names if (file := Path(place) / name).is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ends(path: Path, size: int) -> str:
    with path.open("rb") as file:
        first = file.read(_END)
        file.seek(max(_END, size - _END))
        return hashlib.sha256(first + file.read(_END)).hexdigest()
