"""Demonstrations as one NumPy archive (.npz): our own exchange format, and that of the Push-T file.

Arrays: "action" [N, A], "episode_ends" [E]; perhaps "reward" [N], "terminated" [E], "truncated" [E], "last/NAME"
[E, ...], "meta" and "episode_meta" (JSON as text); every other array [N, ...] is the observation of its name.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.atomic_io import written_aside
from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import existing, expect_room, joined_actions, wanted
from pilotage.data.frames import in_memory

_ACTIONS = ("action", "actions")
_OWN = {"episode_ends", "reward", "terminated", "truncated", "meta", "episode_meta", *_ACTIONS}


@declare(recognises=lambda path: path.suffix == ".npz" and path.is_file())
def read_npz(
    path: str | Path, *, action: Sequence[str] = (), names: Collection[str] | None = None, skip_bad: bool = False
) -> Demonstrations:
    """Return the demonstrations in an archive (see above).

    Args:
        path: of the file.
        action: names of the arrays that make up the action; none: "action" or "actions".
        names: observations to read; None: all.
        skip_bad: whether episodes with numbers that are not finite are left out.

    Raises:
        UsageError: that names file and array; also for an archive that declares more than this machine's memory.
    """
    path = existing(path, "archive")
    stored = _stored(path)
    chosen = list(action) or [next((name for name in _ACTIONS if name in stored), "action")]
    if "episode_ends" not in stored or not set(chosen) <= set(stored):
        raise UsageError(
            f"{path} holds {', '.join(sorted(stored)) or 'nothing'}; expected at least 'action' [N, A] and "
            "'episode_ends' [E], the step after each episode's last"
            + ("" if action else " (actions of another name: --action-key, in Python action=[NAME])")
        )
    seen = [name for name in stored if not name.startswith("last/") and name not in {*_OWN, *chosen}]
    last = [name for name in stored if name.startswith("last/")]
    own = [name for name in stored if name in _OWN - {*_ACTIONS}]
    read = [*chosen, *own, *(name for name in [*seen, *last] if wanted(name.removeprefix("last/"), names))]
    arrays = _arrays(path, stored, read)
    ends = arrays["episode_ends"]
    if not np.issubdtype(ends.dtype, np.integer):
        raise UsageError(f"{path}: 'episode_ends' is {ends.dtype}; expected whole numbers")
    rewards = arrays.get("reward")
    if rewards is not None and np.issubdtype(rewards.dtype, np.integer):
        rewards = rewards.astype(np.float64)
    meta = _text(path, arrays, "meta", dict)
    unread = sorted(set(seen) - set(read))
    return Demonstrations.usable(
        skip_bad=skip_bad,
        observations={name: arrays[name] for name in seen if name in arrays},
        actions=joined_actions([arrays[name] for name in chosen], chosen, str(path)),
        episode_ends=ends.astype(np.int64),
        last_observations={name.removeprefix("last/"): arrays[name] for name in last if name in arrays} or None,
        rewards=rewards,
        terminated=arrays.get("terminated"),
        truncated=arrays.get("truncated"),
        meta={**meta, "source": str(path), "format": "npz", **({"unread": unread} if unread else {})},
        episode_meta=_text(path, arrays, "episode_meta", list),
    )


def write_npz(demonstrations: Demonstrations, path: str | Path) -> Path:
    """Write a compressed archive, which appears whole or not at all; frames are decoded. Returns its path.

    Raises UsageError for a name of an observation that the format needs itself, or another suffix.
    """
    path = Path(path)
    taken = sorted(name for name in demonstrations.observations if name in _OWN or name.startswith("last/"))
    if taken or path.suffix != ".npz":
        raise UsageError(f"cannot write {path}: expected the suffix .npz and other names than {', '.join(taken)}")
    arrays: dict[str, np.ndarray] = {"action": demonstrations.actions, "episode_ends": demonstrations.episode_ends}
    for name in ("terminated", "truncated"):
        if getattr(demonstrations, name) is not None:
            arrays[name] = getattr(demonstrations, name)
    if demonstrations.rewards is not None:
        arrays["reward"] = demonstrations.rewards
    arrays.update({name: in_memory(column) for name, column in demonstrations.observations.items()})
    for name, column in (demonstrations.last_observations or {}).items():
        arrays[f"last/{name}"] = in_memory(column)
    arrays["meta"] = np.array(json.dumps(dict(demonstrations.meta)))
    if demonstrations.episode_meta:
        arrays["episode_meta"] = np.array(json.dumps([dict(meta) for meta in demonstrations.episode_meta]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError)


def _stored(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return what an archive declares that it holds, by name, without reading the arrays."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
    except _FAULTS as error:
        raise _unreadable(str(path), error) from error
    if isinstance(loaded, np.ndarray):
        raise UsageError(f"{path} is a single array; expected an archive of named arrays (np.savez)")
    raise UsageError(f"{path} is no archive of named arrays (np.savez)")


def _arrays(path: Path, stored: Mapping[str, zipfile.ZipInfo], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the arrays `names`, after a look at the sizes and types that the archive declares."""
    names = list(names)
    expect_room(sum(stored[name].file_size for name in names), str(path))
    arrays = {}
    name = ""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                _expect_header(archive, stored[name])
                with archive.open(stored[name]) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
                    if stream.read(1):
                        raise ValueError("it holds more than its header declares")
    except _FAULTS as error:
        raise _unreadable(f"array {name!r} of {path}", error) from error
    return arrays


def _expect_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise ValueError when the header of an array declares more than the archive holds of it."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, kind = np.lib.format.read_array_header_2_0(stream)
        size = math.prod(shape) * kind.itemsize
        if not kind.hasobject and stream.tell() + size > entry.file_size:
            raise ValueError(f"its header declares {size} bytes, the archive holds {entry.file_size}")


def _unreadable(what: str, error: Exception) -> UsageError:
    pickled = "allow_pickle" in str(error) or "Python objects" in str(error)
    hint = "Python objects are never unpickled" if pickled else "the file is damaged or cut, copy it again"
    return UsageError(f"{what} cannot be read ({error}); {hint}")


def _text(path: Path, arrays: dict[str, np.ndarray], name: str, kind: type) -> Any:
    """Return what the JSON in an array says, of type `kind`; that type's empty value without one."""
    if name not in arrays:
        return kind()
    try:
        found = json.loads(str(arrays[name]))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {name!r} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise UsageError(f"{path}: {name!r} holds a {type(found).__name__}; expected a {kind.__name__} as JSON")
    return found
