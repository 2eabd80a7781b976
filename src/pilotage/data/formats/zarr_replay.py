"""Zarr replay buffers of diffusion_policy (arXiv 2303.04137): `data/*` [N, ...] and `meta/episode_ends` [E]."""

from __future__ import annotations

import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import as_actions, camera, existing, package
from pilotage.data.frames import Column, Frames

_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, SystemError, zipfile.BadZipFile)
"""What zarr, its codecs and its JSON raise for damaged files."""


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr group (version 2 or 3), or a file a zip of one by its name."""
    return path.name.endswith(".zarr.zip") or any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def read_zarr(path: str | Path) -> Demonstrations:
    """Return the episodes of a buffer: a folder, or a .zip of one; zarr versions 2 and 3.

    `data/action` are the actions; every other array under `data` is the observation of its name, pictures
    [N, H, W, C] of values 0..255 as "image/NAME", undecoded. Codecs beyond those of zarr and numcodecs are refused.
    Chunks that are absent read as zeros, which is how zarr stores zeros; a warning counts them.
    Raises UsageError that names array, and episode or frame.
    """
    zarr = package("zarr", "a zarr buffer")
    path = existing(path, "zarr buffer")
    stored, last = _stored(zarr, path)
    ends = _values(path, "meta/episode_ends", last)
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer):
        raise UsageError(f"{path}: meta/episode_ends is {ends.dtype} {list(ends.shape)}; expected whole numbers [E]")
    if "action" not in stored:
        raise UsageError(f"{path} has no data/action; there are {', '.join(sorted(stored)) or 'no arrays'}")
    for name, values in stored.items():
        _expect_whole_chunks(path, name, values)
        _warn_of_absent_chunks(path, name, values)
    actions = as_actions(_values(path, "data/action", stored.pop("action")), str(path))
    observations: dict[str, Column] = {}
    for name, values in sorted(stored.items()):
        if values.ndim == 4 and values.shape[-1] in (1, 3, 4):
            observations[camera(name)] = _ZarrFrames(path, f"data/{name}", values)
        else:
            observations[name] = _values(path, f"data/{name}", values)
    return Demonstrations(
        observations=observations,
        actions=actions,
        episode_ends=ends.astype(np.int64),
        meta={"source": str(path), "format": "zarr"},
    )


def _stored(zarr: Any, path: Path) -> tuple[dict[str, Any], Any]:
    """(arrays below data by name, meta/episode_ends), none of them read yet."""
    try:
        store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else str(path)
        root = zarr.open_group(store, mode="r")
        if "data" not in root or "meta" not in root or "episode_ends" not in root["meta"]:
            there = ", ".join(sorted(root)) or "nothing"
            raise UsageError(f"{path} holds {there}; expected data/* and meta/episode_ends")
        return dict(root["data"].arrays()), root["meta"]["episode_ends"]
    except UsageError:
        raise
    except _FAULTS as error:
        raise UsageError(f"{path} cannot be opened as zarr: {type(error).__name__}: {error}; copy it again") from error


def _values(path: Path, name: str, values: Any, rows: Any = ()) -> np.ndarray:
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
