"""Demonstrations as one NumPy archive (.npz): our own exchange format, and that of the Push-T file.

Arrays: "action" [N, A], "episode_ends" [E]; perhaps "reward" [N], "terminated" [E], "truncated" [E], "last/NAME"
[E, ...], "meta" and "episode_meta" (JSON as text); every other array [N, ...] is the observation of its name.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.atomic_io import written_aside
from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import as_actions, existing
from pilotage.data.frames import Column, in_memory

_ACTIONS = ("action", "actions")
_OWN = {"episode_ends", "reward", "terminated", "truncated", "meta", "episode_meta", *_ACTIONS}


def read_npz(path: str | Path) -> Demonstrations:
    """Return the demonstrations in an archive (see above). Raises UsageError that names file and array."""
    path = existing(path, "archive")
    arrays = _arrays(path)
    actions = next((arrays[name] for name in _ACTIONS if name in arrays), None)
    if actions is None or "episode_ends" not in arrays:
        raise UsageError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; expected at least 'action' [N, A] and "
            "'episode_ends' [E], the step after each episode's last"
        )
    actions = as_actions(actions, str(path))
    observations: dict[str, Column] = {}
    last: dict[str, Column] = {}
    for name, array in arrays.items():
        if name.startswith("last/"):
            last[name.removeprefix("last/")] = array
        elif name not in _OWN:
            observations[name] = array
    ends = arrays["episode_ends"]
    if not np.issubdtype(ends.dtype, np.integer):
        raise UsageError(f"{path}: 'episode_ends' is {ends.dtype}; expected whole numbers")
    meta = _text(path, arrays, "meta") or {}
    return Demonstrations(
        observations=observations,
        actions=actions,
        episode_ends=ends.astype(np.int64),
        last_observations=last or None,
        rewards=arrays.get("reward"),
        terminated=arrays.get("terminated"),
        truncated=arrays.get("truncated"),
        meta={**meta, "source": str(path), "format": "npz"},
        episode_meta=_text(path, arrays, "episode_meta") or (),
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


def _arrays(path: Path) -> dict[str, np.ndarray]:
    name = ""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UsageError(f"{path} is a single array; expected an archive of named arrays (np.savez)")
        with loaded as archive:
            arrays = {}
            for name in archive.files:
                arrays[name] = archive[name]
                if not isinstance(arrays[name], np.ndarray):  # bytes: its header is not that of an array
                    raise ValueError("it is no array")
            return arrays
    except UsageError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        what = f"array {name!r} of {path}" if name else str(path)
        pickled = "allow_pickle" in str(error)
        hint = "Python objects are never unpickled" if pickled else "the file is damaged or cut, copy it again"
        raise UsageError(f"{what} cannot be read ({error}); {hint}") from error


def _text(path: Path, arrays: dict[str, np.ndarray], name: str) -> Any:
    if name not in arrays:
        return None
    try:
        return json.loads(str(arrays[name]))
    except ValueError as error:
        raise UsageError(f"{path}: {name!r} is not JSON: {error}") from error
