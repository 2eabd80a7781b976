"""robomimic's HDF5 files (arXiv 2108.03298): `data/demo_i/{obs/*, actions, …}` and `mask/*`, lists of their names."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import camera, is_picture, joined_actions, no_action, wanted
from pilotage.data.formats.hdf5_files import HDF5, HDF5Frames, array, opened
from pilotage.data.frames import Column


def _is_robomimic(path: Path) -> bool:
    if not (path.suffix in HDF5 and path.is_file()):
        return False
    with opened(path) as file:
        return "data" in file and any(name.startswith("demo_") for name in file["data"])


@declare(recognises=_is_robomimic)
def read_robomimic(
    path: str | Path,
    *,
    mask: str | None = None,
    action: Sequence[str] = (),
    names: Collection[str] | None = None,
    skip_bad: bool = False,
) -> Demonstrations:
    """Return the demonstrations of a file in the order of their numbers (demo_2 before demo_10).

    Observations keep their names; put a state together with `with_state`. Images become "image/NAME" and stay in the
    file. Groups beside the arrays of `obs`, as Isaac Lab's Mimic writes them, are not read; `meta["left_out"]` names
    them. `next_obs` gives the last observations, where it holds the same names; `rewards` may be absent.

    Args:
        path: of the file.
        mask: only the demonstrations that `mask/NAME` lists, such as "train" or "20_percent"; None: all.
        action: names of the arrays of a demonstration that make up the action; none: "actions".
        names: observations to read; None: all.
        skip_bad: whether demonstrations with missing steps or numbers that are not finite are left out.

    Raises:
        UsageError: that names file, demonstration and array.
    """
    chosen = list(action) or ["actions"]
    path = Path(path).expanduser()
    with opened(path) as file:
        if "data" not in file:
            raise UsageError(f"{path} has no group 'data'; expected robomimic's data/demo_0, data/demo_1, …")
        demos = _names(path, file, mask)
        left_out: dict[str, str] = {}
        kept, actions = [], []
        for name in demos:
            try:
                actions.append(_actions(file["data"][name], f"{path}, {name}", chosen, named=bool(action)))
                _expect_steps(file["data"], name, demos[0], len(actions[-1]), names, path)
                kept.append(name)
            except UsageError as error:
                if not skip_bad:
                    raise
                left_out[name] = str(error)
                del actions[len(kept) :]
        if not kept:
            raise UsageError(f"{path}: no demonstration can be used; {next(iter(left_out.values()))}")
        demos, groups = kept, [file["data"][name] for name in kept]
        where = [f"{path}, {name}" for name in kept]
        ends = np.cumsum([len(part) for part in actions], dtype=np.int64)
        stored, beside = _stored(groups[0]["obs"])
        unread = sorted(ours for ours in stored if not wanted(ours, names))
        observations = _observations(path, demos, groups, ends, {o: s for o, s in stored.items() if o not in unread})
        last = None
        if all("next_obs" in group and observations.keys() <= _stored(group["next_obs"])[0].keys() for group in groups):
            after = _stored(groups[0]["next_obs"])[0]
            last = {ours: _last(after[ours], groups, where) for ours in observations}
        rewards = None
        if all("rewards" in group for group in groups):
            rewards = np.concatenate([array(g, "rewards", w) for g, w in zip(groups, where, strict=True)])
        meta = {"source": str(path), "format": "robomimic", **_environment(path, file["data"].attrs)}
        meta |= {"left_out": beside} if beside else {}
        meta |= {"unread": unread} if unread else {}
    return Demonstrations.usable(
        skip_bad=skip_bad,
        left_out=left_out,
        observations=observations,
        actions=np.concatenate(actions),
        episode_ends=ends,
        last_observations=last or None,
        rewards=None if rewards is None else np.asarray(rewards, dtype=np.float64).reshape(-1),
        meta=meta if mask is None else {**meta, "mask": mask},
        episode_meta=[{"name": name} for name in demos],
    )


def _actions(group: Any, where: str, names: list[str], *, named: bool) -> np.ndarray:
    """Return the actions of a demonstration, [T, A]."""
    missing = [name for name in names if not hasattr(group.get(name), "shape")]
    if missing:
        raise no_action(where, missing, (name for name in group if hasattr(group[name], "shape")), named=named)
    found = joined_actions((array(group, name, where) for name in names), names, where)
    told = group.attrs.get("num_samples", len(found))
    if told != len(found) or not len(found):
        raise UsageError(f"{where} has {len(found)} actions, its num_samples says {told}; steps are missing")
    return found


def _expect_steps(data: Any, name: str, first: str, length: int, names: Collection[str] | None, path: Path) -> None:
    """Raise UsageError unless a demonstration has as many observations as actions, of the sizes of the first one's."""
    if "obs" not in data[name]:
        raise UsageError(f"{path}, {name} has no 'obs'; extract observations from its states with robomimic first")
    for ours, stored in _stored(data[first]["obs"])[0].items():
        if not wanted(ours, names):
            continue
        column = data[name]["obs"].get(stored)
        if not hasattr(column, "shape") or len(column) != length:
            there = len(column) if hasattr(column, "shape") else None
            raise UsageError(
                f"{path}, {name}: {'none' if there is None else there} observations {stored!r} for {length} actions; "
                f"step {min(there or 0, length)} is missing"
            )
        if column.shape[1:] != data[first]["obs"][stored].shape[1:]:
            raise UsageError(
                f"{path}, {name}: observation {stored!r} is {list(column.shape[1:])}, in {first} it is "
                f"{list(data[first]['obs'][stored].shape[1:])}"
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


def _stored(group: Any) -> tuple[dict[str, str], list[str]]:
    """Return (our name of an array to the file's, names of the groups beside them)."""
    found, beside = {}, []
    for name in group:
        data = group[name]
        if hasattr(data, "shape"):
            found[camera(name) if is_picture(data.shape, data.dtype) else name] = name
        else:
            beside.append(f"{group.name.rpartition('/')[2]}/{name}")
    return found, beside


def _observations(
    path: Path, demos: list[str], groups: list[Any], ends: np.ndarray, stored: dict[str, str]
) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for ours, name in stored.items():
        if ours.startswith("image/"):
            places = [f"data/{demo}/obs/{name}" for demo in demos]
            size = groups[0]["obs"][name].shape[1:]
            found[ours] = HDF5Frames(path, places, (int(ends[-1]), *size), ends)
        else:
            parts = [array(g["obs"], name, f"{path}, {d}") for g, d in zip(groups, demos, strict=True)]
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
