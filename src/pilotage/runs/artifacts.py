"""Artifacts: what is made once and used by many runs (warmed-up models, tokenisers, expert data)."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import Lock, disk_errors, read_file, replace_directory, share, sync
from pilotage.core.errors import RunError, UsageError
from pilotage.core.paths import home
from pilotage.core.serialisation import digest, to_json

FORMAT = 1
_ABOUT = "artifact.json"
_REMIND = 30.0
"""Seconds between two messages of a process that waits."""


def artifact_root() -> Path:
    """Return where artifacts lie: `$PILOTAGE_HOME/artifacts`, by default `~/.cache/pilotage/artifacts`."""
    return home() / "artifacts"


def artifact(
    maker: Callable[..., None],
    config: Mapping[str, Any],
    inputs: Sequence[Path | str] = (),
    *,
    name: str,
    code: str | None = None,
    root: Path | str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Return the directory that `maker(directory, config, *inputs)` fills, made by the first process that asks for it.

    The same name, maker, code, configuration and contents of inputs give the same directory. maker: a function of a
    module; it writes files into `directory`, and nothing counts if it raises or is killed. config: what JSON holds.
    inputs: other artifacts, files, or directories such as a run's. name: letters, digits, "-", "_", ".". code: the
    text on which the result depends; by default the maker's own source. progress: is given messages (that it is being
    made; that another process makes it and we wait), by default printed to standard error.
    Raises UsageError for a maker without a name and for a missing input, RunError for an artifact that was altered,
    DiskFull without room.
    """
    tell = progress or _print
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"{name!r} cannot name an artifact; use letters, digits, '-', '_' and '.'")
    root = artifact_root() if root is None else Path(root)
    parts = {
        "name": name,
        "maker": _qualified_name(maker),
        "code": hashlib.sha256((_source(maker) if code is None else code).encode()).hexdigest(),
        "config": to_json(config),
        "inputs": [_input_hash(Path(path)) for path in inputs],
    }
    key = digest(parts)
    place = root / f"{name}-{key[:16]}"
    if (place / _ABOUT).exists():
        return _checked(place)
    with disk_errors(place), _alone(root, place, tell):
        if not (place / _ABOUT).exists():
            tell(f"making {name} in {place}")
            seconds = _make(maker, config, [Path(path) for path in inputs], place, {"key": key, **parts})
            tell(f"made {name} in {seconds:.1f} s")
            return place
    return _checked(place)


def _checked(place: Path) -> Path:
    """Return the place of an artifact whose files are those that were made, and note that it was used."""
    verify_artifact(place)
    with contextlib.suppress(OSError):  # a shared folder in which we may not write
        os.utime(place)
    return place


def _make(
    maker: Callable[..., None], config: Mapping[str, Any], inputs: list[Path], place: Path, about: Mapping[str, Any]
) -> float:
    aside = place.with_name(f".writing-{place.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    begun = time.monotonic()
    try:
        maker(aside, config, *inputs)
        seconds = time.monotonic() - begun
        document = {
            "format": FORMAT,
            **about,
            "contents": contents_hash(aside),
            "seconds": round(seconds, 3),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (aside / _ABOUT).write_text(json.dumps(document, indent=2) + "\n")
        for path in [*sorted(aside.rglob("*")), aside]:
            share(path)
            sync(path)
        replace_directory(aside, place)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return seconds


@contextmanager
def _alone(root: Path, place: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of one artifact, waiting for its owner, and saying so, when another process has it."""
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = Lock(locks / place.name)
    last = -_REMIND
    while not lock.take():
        if time.monotonic() - last >= _REMIND:
            last = time.monotonic()
            tell(f"waiting for {lock.owner()}, which makes {place}")
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()


def read_artifact(path: Path | str) -> dict[str, Any]:
    """Return what artifact.json holds: name, maker, config, inputs, key, contents (hash), seconds, created.

    Raises UsageError when `path` is no artifact or of another format.
    """
    place = Path(path) / _ABOUT
    if not place.exists():
        raise UsageError(f"{path} is not an artifact: it has no {_ABOUT}")
    about = json.loads(read_file(place))
    if about.get("format") != FORMAT:
        raise UsageError(
            f"{place} has format {about.get('format')!r}; this version of pilotage reads {FORMAT}. Remove the artifact "
            "to have it made anew"
        )
    return about


def artifact_cost(path: Path | str) -> float:
    """Return the seconds that it took to make the artifact at `path`."""
    return float(read_artifact(path)["seconds"])


def verify_artifact(path: Path | str) -> None:
    """Raise RunError when the files of an artifact are not those that were made."""
    stored, found = read_artifact(path)["contents"], contents_hash(Path(path))
    if stored != found:
        raise RunError(
            f"{path} was altered since it was made (the SHA-256 of its files was {stored[:16]}, is {found[:16]}); "
            "remove that folder and start the same command again, which makes it anew"
        )


def contents_hash(path: Path) -> str:
    """Return the SHA-256 over the names and contents of the files in `path` (without artifact.json), or of one file."""
    if path.is_file():
        return _file_hash(path)
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return digest([[name, _file_hash(path / name)] for name in files if name != _ABOUT])


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _input_hash(path: Path) -> str:
    if (path / _ABOUT).exists():
        verify_artifact(path)
        return str(read_artifact(path)["contents"])
    if not path.exists():
        raise UsageError(f"the input {path} does not exist; make it first, or correct its path")
    return contents_hash(path)


def _qualified_name(maker: Callable[..., None]) -> str:
    name = getattr(maker, "__qualname__", "<none>")
    if ("<" in name and "<locals>" not in name) or "<lambda>" in name:
        raise UsageError(f"the maker {maker!r} has no name to know it by again; give a function defined with def")
    return f"{maker.__module__}:{name}"


def _source(maker: Callable[..., None]) -> str:
    try:
        return inspect.getsource(maker)
    except (OSError, TypeError) as error:
        raise UsageError(f"the source of {maker!r} cannot be found; pass code=, the text it depends on") from error


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
