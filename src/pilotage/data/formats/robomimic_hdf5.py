"""robomimic's HDF5 files (arXiv 2108.03298): `data/demo_i/{obs/*, actions, …}` and `mask/*`, lists of their names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import as_actions, camera, is_picture
from pilotage.data.formats.hdf5_files import HDF5Frames, array, opened
from pilotage.data.frames import Column


def read_robomimic(path: str | Path, *, mask: str | None = None) -> Demonstrations:
    """Return the demonstrations of a file in the order of their numbers (demo_2 before demo_10).

    mask: only those that `mask/NAME` lists, such as "train" or "20_percent"; None: all.
    Observations keep their names; put a state together with `with_state`. Images become "image/NAME" and stay in the
    file. `next_obs` gives the last observations, where it holds the same names; `rewards` may be absent.
    Raises UsageError that names file, demonstration and array.
    """
    path = Path(path).expanduser()
    with opened(path) as file:
        if "data" not in file:
            raise UsageError(f"{path} has no group 'data'; expected robomimic's data/demo_0, data/demo_1, …")
        names = _names(path, file, mask)
        where = [f"{path}, {name}" for name in names]
        groups = [file["data"][name] for name in names]
        actions = [as_actions(array(g, "actions", w), w) for g, w in zip(groups, where, strict=True)]
        ends = np.cumsum([len(part) for part in actions], dtype=np.int64)
        for group, place, part in zip(groups, where, actions, strict=True):
            told = group.attrs.get("num_samples", len(part))
            if told != len(part) or not len(part):
                raise UsageError(f"{place} has {len(part)} actions, its num_samples says {told}; steps are missing")
        observations = _observations(path, names, groups, ends)
        last = None
        if all("next_obs" in group for group in groups):
            last = {ours: _last(stored, groups, where) for ours, stored in _stored(groups[0]["next_obs"]).items()}
        rewards = None
        if all("rewards" in group for group in groups):
            rewards = np.concatenate([array(g, "rewards", w) for g, w in zip(groups, where, strict=True)])
        meta = {"source": str(path), "format": "robomimic", **_environment(path, file["data"].attrs)}
    return Demonstrations(
        observations=observations,
        actions=np.concatenate(actions),
        episode_ends=ends,
        last_observations=last if last and last.keys() == observations.keys() else None,
        rewards=None if rewards is None else np.asarray(rewards, dtype=np.float64).reshape(-1),
        meta=meta if mask is None else {**meta, "mask": mask},
        episode_meta=[{"name": name} for name in names],
    )


def _names(path: Path, file: Any, mask: str | None) -> list[str]:
    there = [name for name in file["data"] if re.fullmatch(r"demo_\d+", name)]
    if mask is None:
        chosen = there
    else:
        masks = file.get("mask", {})
        if mask not in masks:
            raise UsageError(f"{path} has no mask/{mask}; there are {', '.join(sorted(masks)) or 'none'}")
        chosen = [name.decode() if isinstance(name, bytes) else str(name) for name in masks[mask][()]]
        lost = sorted(set(chosen) - set(there))
        if lost:
            raise UsageError(f"{path}: mask/{mask} lists {', '.join(lost[:3])}, which data does not hold")
    if not chosen:
        raise UsageError(f"{path} holds no demonstrations (data/demo_0, data/demo_1, …) to read")
    return sorted(chosen, key=lambda name: int(name.removeprefix("demo_")))


def _stored(group: Any) -> dict[str, str]:
    """Our name to the file's."""
    found = {}
    for name in group:
        data = group[name]
        if not hasattr(data, "shape"):
            raise UsageError(f"{group.file.filename}: {data.name} is a group; expected an array [steps, ...]")
        found[camera(name) if is_picture(data.shape, data.dtype) else name] = name
    return found


def _observations(path: Path, names: list[str], groups: list[Any], ends: np.ndarray) -> dict[str, Column]:
    lengths = np.diff(ends, prepend=0)
    for group, name in zip(groups, names, strict=True):
        if "obs" not in group:
            raise UsageError(f"{path}, {name} has no 'obs'; extract observations from its states with robomimic first")
    found: dict[str, Column] = {}
    for ours, stored in _stored(groups[0]["obs"]).items():
        sizes: set[tuple[int, ...]] = set()
        for group, name, length in zip(groups, names, lengths, strict=True):
            data = group["obs"].get(stored)
            if not hasattr(data, "shape"):
                data = None
            if data is None or len(data) != length:
                got = "none" if data is None else str(len(data))
                raise UsageError(
                    f"{path}, {name}: {got} observations {stored!r} for {length} actions; frame "
                    f"{0 if data is None else min(len(data), length)} is missing"
                )
            sizes.add(data.shape[1:])
            if len(sizes) > 1:
                raise UsageError(
                    f"{path}, {name}: observation {stored!r} is {list(data.shape[1:])}, in {names[0]} it is "
                    f"{list(groups[0]['obs'][stored].shape[1:])}"
                )
        if ours.startswith("image/"):
            places = [f"data/{name}/obs/{stored}" for name in names]
            found[ours] = HDF5Frames(path, places, (int(ends[-1]), *sizes.pop()), ends)
        else:
            parts = [array(g["obs"], stored, f"{path}, {n}") for g, n in zip(groups, names, strict=True)]
            found[ours] = np.concatenate(parts)
    return found


def _last(stored: str, groups: list[Any], where: list[str]) -> np.ndarray:
    """[E, ...]: what was seen after the last action of each demonstration."""
    return np.stack([array(g["next_obs"], stored, f"{w}/next_obs")[-1] for g, w in zip(groups, where, strict=True)])


def _environment(path: Path, attributes: Any) -> dict[str, Any]:
    if "env_args" not in attributes:
        return {}
    try:
        return {"env_args": json.loads(attributes["env_args"])}
    except ValueError as error:
        raise UsageError(f"{path}: the attribute env_args of data is not JSON: {error}") from error
