"""LeRobotDataset, version 3: tables and videos that hold many episodes each, found through `meta/`.

meta/info.json            version, fps, features (name to dtype and shape), patterns of the paths below
meta/stats.json           statistics of the features
meta/episodes/*/*.parquet a row per episode: length, file of its steps, per camera the file and the times from and to
data/*/*.parquet          a row per step; `episode_index`, `frame_index`, `timestamp` within the episode
videos/CAMERA/*/*.mp4     episodes one after the other
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import camera, existing, joined_actions, no_action, plain_files, read_json, wanted
from pilotage.data.formats.lerobot_frames import EncodedFrames, VideoFrames
from pilotage.data.formats.lerobot_tables import EpisodeTable, StepTable
from pilotage.data.frames import Column

_BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
_PICTURES = ("video", "image")
_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool")


def is_lerobot(folder: Path) -> bool:
    """Return whether a folder holds a LeRobot data set, of whatever version."""
    return (folder / "meta" / "info.json").is_file()


@declare(recognises=is_lerobot)
def read_lerobot(
    root: str | Path,
    *,
    episodes: Sequence[int] | None = None,
    action: Sequence[str] = (),
    names: Collection[str] | None = None,
    skip_bad: bool = False,
) -> Demonstrations:
    """Return the episodes of a data set's folder; only the files that hold them are opened.

    "observation.state" is called "state", other "observation.NAME" NAME, a feature without that prefix as it is
    ("state"), cameras "observation.images.NAME" (or
    "observation.image") "image/NAME" ("image/image"), undecoded; "action" are the actions and "next.reward" the
    rewards. Whether an episode ended or was cut the format does not tell. `meta` has fps, stats, and what was left
    out; `episode_meta` the number in the data set, "tasks", and "success" where "next.success" is recorded.

    Args:
        root: the folder.
        episodes: only these, in this order; None: all.
        action: names of the features that make up the action; none: "action".
        names: observations to read; None: those whose name begins with "observation.", and "state".
        skip_bad: whether episodes with numbers that are not finite are left out.

    Raises:
        UsageError: for another version, missing files, episodes or frames, and sizes that differ from info.json.
    """
    if not Path(root).expanduser().exists():
        raise UsageError(
            f"there is no LeRobot data set {root} here; nothing is downloaded: get one with "
            f"hf download {root} --repo-type dataset --local-dir FOLDER and give that folder"
        )
    root = existing(root, "LeRobot data set")
    plain_files(root)  # refuses what never ends
    info = _info(root)
    table = EpisodeTable(root, info)
    chosen = list(range(len(table))) if episodes is None else [int(number) for number in episodes]
    wrong = [number for number in chosen if not 0 <= number < len(table)]
    if wrong or not chosen:
        raise UsageError(f"episodes {wrong or chosen} were asked for; {root} has episodes 0 to {len(table) - 1}")
    features: dict[str, dict[str, Any]] = info["features"]
    acted = list(action) or ["action"]
    missing = [name for name in acted if name not in features]
    if missing:
        others = [n for n, f in features.items() if n not in _BOOKKEEPING and f["dtype"] in _NUMBERS]
        raise no_action(f"{root}, meta/info.json", missing, others, named=bool(action))
    seen, left_out = _observed(features, acted, names)
    told = [name for name in ("next.reward", "next.success") if name in features]
    stored = [name for name in [*acted, *told, *seen.values()] if features[name]["dtype"] != "video"]
    steps = StepTable(root, table, chosen, stored)
    observations: dict[str, Column] = {}
    for ours, name in seen.items():
        feature = features[name]
        if feature["dtype"] == "video":
            observations[ours] = _video(root, info, name, table, chosen, steps)
        elif feature["dtype"] == "image":
            size = _size(root, name, feature)
            observations[ours] = EncodedFrames(steps.pictures(name), root, steps.episode, steps.frame, size)
        else:
            observations[ours] = steps.numbers(name, tuple(feature["shape"]))
    episode_meta = [{"name": number, "tasks": table.tasks(number)} for number in chosen]
    if "next.success" in features:
        success = steps.numbers("next.success", (1,)).astype(bool)
        for facts, end, length in zip(episode_meta, steps.ends, np.diff(steps.ends, prepend=0), strict=True):
            facts["success"] = bool(success[end - length : end].any())
    rewards = None
    if "next.reward" in features:
        rewards = steps.numbers("next.reward", (1,)).reshape(-1).astype(np.float64)
    meta = {"source": str(root), "format": "lerobot", "fps": info["fps"], "left_out": left_out}
    if (root / "meta" / "stats.json").is_file():
        meta["stats"] = read_json(root / "meta" / "stats.json")
    unread = sorted(_ours(name, features[name]["dtype"] in _PICTURES) for name in left_out)
    if names is not None and unread:
        meta["unread"] = unread
    return Demonstrations.usable(
        skip_bad=skip_bad,
        observations=observations,
        actions=joined_actions((steps.numbers(n, tuple(features[n]["shape"])) for n in acted), acted, str(root)),
        episode_ends=steps.ends,
        rewards=rewards,
        meta=meta,
        episode_meta=episode_meta,
    )


def _observed(
    features: dict[str, dict[str, Any]], acted: Sequence[str], names: Collection[str] | None
) -> tuple[dict[str, str], list[str]]:
    """Return (our name of each feature that is read, to the data set's; the features that are not read)."""
    seen: dict[str, str] = {}
    left_out = []
    for name, feature in sorted(features.items(), key=lambda item: not item[0].startswith("observation.")):
        if name in _BOOKKEEPING or name in acted or name in ("next.reward", "next.success"):
            continue
        picture = feature["dtype"] in _PICTURES
        ours = _ours(name, picture)
        usable = (picture or feature["dtype"] in _NUMBERS) and not _depth(feature) and ours not in seen
        asked = wanted(ours, names) if names is not None else name.startswith("observation.") or name == "state"
        if usable and asked:
            seen[ours] = name
        else:
            left_out.append(name)
    order = list(features)
    return dict(sorted(seen.items(), key=lambda item: order.index(item[1]))), sorted(left_out, key=order.index)


def _info(root: Path) -> dict[str, Any]:
    info = read_json(root / "meta" / "info.json")
    version = str(info.get("codebase_version", "none"))
    if version.lstrip("v").split(".")[0] != "3":
        raise UsageError(
            f"{root} is a LeRobot data set of version {version}; version 3 is read. Convert an older one with LeRobot: "
            "python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id=…"
        )
    missing = [name for name in ("fps", "features", "data_path", "total_episodes") if name not in info]
    if missing:
        raise UsageError(f"{root / 'meta/info.json'} lacks {', '.join(missing)}; the file is incomplete, copy it again")
    for name, feature in info["features"].items():
        if not isinstance(feature, dict) or "dtype" not in feature or "shape" not in feature:
            raise UsageError(f"{root / 'meta/info.json'}: feature {name!r} is {feature!r}; expected dtype and shape")
    return info


def _ours(name: str, picture: bool) -> str:
    short = name.removeprefix("observation.")
    return camera(short.removeprefix("images.")) if picture else short


def _depth(feature: dict[str, Any]) -> bool:
    told = feature.get("info") or {}
    return bool(told.get("video.is_depth_map") or told.get("is_depth_map"))


def _size(root: Path, name: str, feature: dict[str, Any]) -> tuple[int, int, int]:
    """(H, W, C), whether info.json names them in that order or channels first."""
    shape = [int(size) for size in feature["shape"]]
    if len(shape) == 3 and shape[-1] in (1, 3):
        return shape[0], shape[1], shape[2]
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape[1], shape[2], shape[0]
    raise UsageError(f"{root}: camera {name!r} is {shape}; expected height, width and 1 or 3 channels in some order")


def _video(
    root: Path, info: dict[str, Any], name: str, table: EpisodeTable, chosen: list[int], steps: StepTable
) -> VideoFrames:
    files: dict[Path, int] = {}
    places, starts = [], []
    for number, length in zip(chosen, np.diff(steps.ends, prepend=0), strict=True):
        path, begin, end = table.video(name, number)
        if not path.is_file():
            raise UsageError(f"{path}, which holds episode {number} of {name!r}, is missing; download it again")
        if abs((end - begin) * info["fps"] - length) > 0.5:
            raise UsageError(
                f"{root}: episode {number} has {length} steps, its video of {name!r} runs from {begin:g} to {end:g} s, "
                f"{(end - begin) * info['fps']:g} frames at {info['fps']} a second; frames are missing"
            )
        places.append(files.setdefault(path, len(files)))
        starts.append(begin)
    lengths = np.diff(steps.ends, prepend=0)
    size = _size(root, name, info["features"][name])
    time = np.repeat(starts, lengths) + steps.time
    return VideoFrames(list(files), np.repeat(places, lengths), time, steps.episode, steps.frame, size, info["fps"])
