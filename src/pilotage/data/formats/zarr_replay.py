"""Zarr replay buffers of diffusion_policy (arXiv 2303.04137): `data/*` [N, ...] and `meta/episode_ends` [E]."""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import (
    camera,
    existing,
    expect_room,
    joined_actions,
    no_action,
    package,
    plain_files,
    wanted,
)
from pilotage.data.frames import Column, Frames

_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, SystemError, zipfile.BadZipFile)
"""What zarr, its codecs and its JSON raise for damaged files."""


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr group (version 2 or 3), or a file a zip of one by its name."""
    return path.name.endswith(".zarr.zip") or any((path / name).is_file() for name in (".zgroup", "zarr.json"))


@declare(recognises=lambda path: is_zarr(path) or (path.suffix == ".zip" and path.is_file()))
def read_zarr(
    path: str | Path, *, action: Sequence[str] = (), names: Collection[str] | None = None, skip_bad: bool = False
) -> Demonstrations:
    """Return the episodes of a buffer: a folder, or a .zip of one; zarr versions 2 and 3.

    `data/action` are the actions; every other array under `data` is the observation of its name, pictures
    [N, H, W, C] of values 0..255 as "image/NAME", undecoded. Codecs beyond those of zarr and numcodecs are refused for
    arrays that are read. Chunks that are absent read as zeros, which is how zarr stores zeros; a warning counts them.

    Args:
        path: the folder, or the .zip of one.
        action: names below `data` of the arrays that make up the action; none: "action".
        names: observations to read; None: all.
        skip_bad: whether episodes with numbers that are not finite are left out.

    Raises:
        UsageError: that names array, and episode or step; for a codec that runs code, before anything is opened.
    """
    zarr = package("zarr", "a zarr buffer")
    path = existing(path, "zarr buffer")
    _expect_safe(path)
    stored, unknown, last = _stored(zarr, path)
    ends = _values(path, "meta/episode_ends", last)
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
        raise UsageError(f"{path}: meta/episode_ends is {ends.dtype} {list(ends.shape)}; expected whole numbers [E]")
    chosen = list(action) or ["action"]
    for name, error in unknown.items():
        if name in chosen or wanted(name, names) or wanted(camera(name), names):
            raise UsageError(f"{path}: data/{name} cannot be read ({error}); rewrite it with a codec of numcodecs")
    if not set(chosen) <= set(stored):
        raise no_action(f"{path}, data", [n for n in chosen if n not in stored], stored, named=bool(action))
    ours = {name: camera(name) if _is_camera(values) else name for name, values in sorted(stored.items())}
    unread = [ours[name] for name in ours if name not in chosen and not wanted(ours[name], names)]
    unread = sorted([*unread, *unknown])
    for name in ours:
        if ours[name] not in unread:
            _expect_whole_chunks(path, name, stored[name])
            _warn_of_absent_chunks(path, name, stored[name])
    observations: dict[str, Column] = {}
    for name, called in ours.items():
        if name in chosen or called in unread:
            continue
        if _is_camera(stored[name]):
            observations[called] = _ZarrFrames(path, f"data/{name}", stored[name])
        else:
            observations[called] = _values(path, f"data/{name}", stored[name])
    return Demonstrations.usable(
        skip_bad=skip_bad,
        observations=observations,
        actions=joined_actions((_values(path, f"data/{name}", stored[name]) for name in chosen), chosen, str(path)),
        episode_ends=ends.astype(np.int64),
        meta={"source": str(path), "format": "zarr", **({"unread": unread} if unread else {})},
    )


def _is_camera(values: Any) -> bool:
    return bool(values.ndim == 4 and values.shape[-1] in (1, 3, 4))


def _expect_safe(path: Path) -> None:
    """Raise UsageError for metadata that names a codec which runs code, and for files that never end."""
    for name, text in _metadata(path):
        try:
            found = _codecs(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} cannot be opened as zarr: {name} is not JSON ({error}); copy it again") from error
        if "pickle" in found:
            raise UsageError(
                f"{path}: {name} names the codec 'pickle', which runs whatever the data says; it is never opened. "
                "Rewrite the array with a codec of numbers, such as Blosc"
            )


def _metadata(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file of metadata in a folder or zip."""
    kinds = (".zarray", ".zmetadata", "zarr.json")
    if path.is_dir():
        for place in plain_files(path):
            if place.name in kinds:
                yield str(place.relative_to(path)), place.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.rpartition("/")[2] in kinds:
                    expect_room(entry.file_size, f"{path}, {entry.filename}")
                    yield entry.filename, archive.read(entry)
    except _FAULTS as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} cannot be opened as zarr: {error}; copy it again") from error


def _names_below(path: Path, folder: str) -> list[str]:
    """Return the names of what has metadata directly below a folder of the group."""
    parts = [Path(name).parts for name, _ in _metadata(path)]
    return sorted({part[1] for part in parts if len(part) == 3 and part[0] == folder})


def _codecs(metadata: Any) -> set[str]:
    """Return the last part of every codec's id or name that metadata mentions, at any depth."""
    if isinstance(metadata, list):
        return {name for inner in metadata for name in _codecs(inner)}
    if not isinstance(metadata, dict):
        return set()
    own = {str(metadata[key]).rpartition(".")[2].lower() for key in ("id", "name") if key in metadata}
    return own | {name for inner in metadata.values() for name in _codecs(inner)}


def _stored(zarr: Any, path: Path) -> tuple[dict[str, Any], dict[str, str], Any]:
    """Return arrays below data by name, what is wrong with others there, and meta/episode_ends; none is read yet."""
    try:
        store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path)
        root = zarr.open_group(store, mode="r")
        if "data" not in root or "meta" not in root or "episode_ends" not in root["meta"]:
            there = ", ".join(sorted(root)) or "nothing"
            raise UsageError(f"{path} holds {there}; expected data/* and meta/episode_ends")
        stored, unknown = {}, {}
        for name in _names_below(path, "data"):
            try:
                if hasattr(found := root["data"][name], "chunks"):
                    stored[name] = found
            except _FAULTS as error:  # a codec that is not here matters only where the array is read
                unknown[name] = f"{type(error).__name__}: {error}"
        return stored, unknown, root["meta"]["episode_ends"]
    except UsageError:
        raise
    except _FAULTS as error:
        raise UsageError(f"{path} cannot be opened as zarr: {type(error).__name__}: {error}; copy it again") from error


def _values(path: Path, name: str, values: Any, rows: Any = ()) -> np.ndarray:
    if isinstance(rows, tuple):
        expect_room(values.nbytes, f"{path}: {name}")
    try:
        return np.asarray(values[rows] if isinstance(rows, tuple) else values.oindex[rows])
    except _FAULTS as error:
        raise UsageError(
            f"{path}: {name} cannot be read ({type(error).__name__}: {error}); a chunk is damaged, or its codec is not "
            "one of zarr and numcodecs: copy it again, or rewrite it"
        ) from error


def _expect_whole_chunks(path: Path, name: str, values: Any) -> None:
    """Refuse chunks that were cut: Blosc decodes them to whatever stood in memory behind them, without an error.

    A Blosc buffer tells its own size in bytes 12 to 15 of its header.
    """
    blosc = any("Blosc" in type(codec).__name__ for codec in values.compressors)
    if path.is_file() or not blosc or values.shards is not None:
        return
    for chunk in sorted((path / "data" / name).rglob("*")):
        if chunk.is_dir() or chunk.name.startswith(".") or chunk.name == "zarr.json":
            continue
        size = chunk.stat().st_size
        with chunk.open("rb") as file:
            header = file.read(16)
        if len(header) < 16 or struct.unpack("<I", header[12:])[0] != size:
            raise UsageError(f"{chunk} has {size} bytes, not those that its header tells; it was cut, copy it again")


def _warn_of_absent_chunks(path: Path, name: str, values: Any) -> None:
    absent = values.nchunks - values.nchunks_initialized
    if absent:
        warnings.warn(
            f"{path}: {absent} of {values.nchunks} chunks of data/{name} are absent and read as {values.fill_value}; "
            "right if those steps hold nothing else, otherwise the copy is incomplete",
            stacklevel=3,
        )


class _ZarrFrames(Frames):
    def __init__(self, path: Path, name: str, values: Any) -> None:
        self._path, self._name, self._values = path, name, values
        self.shape = tuple(values.shape)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = _values(self._path, self._name, self._values, rows)
        if found.dtype == np.uint8:
            return found
        if not np.isfinite(found).all() or found.min() < 0 or found.max() > 255 or 0 < found.max() <= 1:
            raise UsageError(
                f"{self._path}: pictures {self._name}, frame {rows[0]} and following, hold values from {found.min():g} "
                f"to {found.max():g}; expected 0..255: scale and store them as uint8"
            )
        return found.round().astype(np.uint8)
