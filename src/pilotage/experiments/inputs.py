"""Hashes of the files that a configuration names: user functions, data files, folders of models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pilotage.core.configuration import config_to_dict
from pilotage.core.pieces import user_functions
from pilotage.core.references import is_of_session

_HASHED_WHOLE = 64 * 2**20
"""Bytes up to which a file's content is hashed; of larger ones size and time of change count."""


def inputs_hash(config: Any) -> str:
    """Return the SHA-256 (hex) over the files that a configuration names; empty when it names none.

    These are user functions (`my.py:advantage`, and `package.module:function` outside this library), data files and
    folders of models.
    """
    named = [path for reference in user_functions(config) for path in _file_of(reference)]
    named += [path for text in _strings(config_to_dict(config)) for path in _named_files(text)]
    lines = {_fingerprint(path) for path in named}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() if lines else ""


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Iterable):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


def _file_of(reference: str) -> Iterator[Path]:
    """Yield the file that defines a user function: none for those of this library and of a session."""
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        if Path(place).is_file():
            yield Path(place)
    elif place.partition(".")[0] != "pilotage" and not is_of_session(reference):
        spec = find_spec(place) if find_spec(place.partition(".")[0]) else None
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            yield Path(spec.origin)


def _named_files(text: str) -> Iterator[Path]:
    # A path is anything that exists; a name such as "add" is not mistaken for a folder of that name here.
    if ("/" in text or "." in text) and len(text) < 4096 and "\n" not in text and Path(text).exists():
        path = Path(text)
        yield from (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,)


def _fingerprint(path: Path) -> str:
    about = path.stat()
    if about.st_size <= _HASHED_WHOLE:
        return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"{path.name} {about.st_size} {about.st_mtime_ns}"
