"""Minari data sets, by id or folder: read, and written so that reading gives the same back."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations, Episode
from pilotage.data.formats.access import as_actions, camera, is_picture, package, plain_files, read_json, wanted
from pilotage.data.formats.hdf5_files import opened
from pilotage.data.frames import Column

ID = re.compile(r"(?:[-\w][-\w/]*[-\w]/)?[-\w]+-v\d+")
"""What the id of a data set looks like, such as D4RL/pointmaze/umaze-v2."""
_UNKNOWN = "pilotage_unknown"
"""Key of the metadata that lists what was not known and had to be filled in, since Minari needs it."""
_FAULTS = (OSError, KeyError, ValueError, AssertionError, RuntimeError, TypeError, MemoryError)


def is_minari(folder: Path) -> bool:
    """Return whether a folder is that of a data set, or its `data`, or a file the main one of a data set."""
    if folder.is_file():
        return folder.name == "main_data.hdf5" and is_minari(folder.parent)
    return any(
        (place / "metadata.json").is_file() and "data_format" in read_json(place / "metadata.json")
        for place in (folder, folder / "data")
    )


@declare(recognises=is_minari)
def read_minari(
    source: str | Path,
    *,
    episodes: Sequence[int] | None = None,
    names: Collection[str] | None = None,
    skip_bad: bool = False,
) -> Demonstrations:
    """Return a data set by its id (in $MINARI_DATASETS_PATH, by default ~/.minari/datasets) or folder.

    Nothing is downloaded.

    A Box observation is called "state" (an image "image/observation"); those of a Dict space keep their names, joined
    by "/" where nested, images as "image/NAME". Every episode's last observation, T + 1 of T steps, is kept. Infos are
    not read; `meta["left_out"]` names them.

    Args:
        source: the id or folder.
        episodes: only these, in this order; None: all.
        names: observations to read; None: all.
        skip_bad: whether episodes are left out that have too few observations, say, or numbers that are not finite.

    Raises:
        UsageError: that names the data set, all episodes that cannot be used, and the step.
    """
    minari = package("minari", "a Minari data set")
    dataset = _open(minari, source)
    where = f"Minari data set {dataset.id}"
    unknown = set(dataset.storage.metadata.get(_UNKNOWN, ()))
    count = int(dataset.total_episodes)
    chosen = list(range(count)) if episodes is None else [int(number) for number in episodes]
    outside = [number for number in chosen if not 0 <= number < count]
    if outside:
        raise UsageError(f"episodes {outside} were asked for; {where} has episodes 0 to {count - 1}")
    found: list[Episode] = []
    infos: set[str] = set()
    left_out: dict[str, str] = {}
    unread: set[str] = set()
    number = -1
    try:
        metas = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
        for number in chosen:
            data = dataset[number]
            try:
                told = {"name": number, **metas[number]}
                found.append(_episode(f"{where}, episode {number}", data, unknown, told, names, unread))
            except UsageError as error:
                left_out[str(number)] = str(error)
            infos.update(data.infos or ())
        env_spec = None if dataset.env_spec is None else dataset.env_spec.to_json()
    except _FAULTS as error:
        place = f"at episode {number}" if number >= 0 else "at its first episode"
        raise UsageError(
            f"{where} ({dataset.spec.data_path}) cannot be read {place}: {type(error).__name__}: {error}; its files "
            "are damaged or cut, download it again"
        ) from error
    if left_out and not (skip_bad and found):
        others = f" ({len(left_out)} of {len(chosen)} episodes cannot be used: {', '.join(left_out)})"
        remedy = "; leave such episodes out (--skip-bad-episodes; in Python skip_bad=True)" if found else ""
        raise UsageError(f"{next(iter(left_out.values()))}{others if len(chosen) > 1 else ''}{remedy}")
    if not found:
        raise UsageError(f"{where} has no episodes")
    meta: dict[str, Any] = {"source": where, "format": "minari", "path": str(dataset.spec.data_path)}
    if env_spec is not None:
        meta["env_spec"] = env_spec
    if infos:
        meta["left_out"] = sorted(f"infos/{name}" for name in infos)
    if unread:
        meta["unread"] = sorted(unread)
    return Demonstrations.from_episodes(found, meta, skip_bad=skip_bad, left_out=left_out)


def write_minari(
    demonstrations: Demonstrations,
    dataset_id: str,
    *,
    env: str | None = None,
    action_range: tuple[float, float] = (-np.inf, np.inf),
    description: str = "",
    author: str = "",
) -> Path:
    """Write a data set that any Minari tool opens. Returns its folder.

    dataset_id: NAME-vN or NAMESPACE/NAME-vN; it must not exist yet.
    env: id of the Gymnasium environment they are from; None: what `meta["env_spec"]` says, if anything.
    action_range: (low, high) of the action space. Observation spaces are unbounded, images 0..255 without loss.
    Minari needs rewards, flags and last observations; those that are not known are written as 0, False and a copy of
    the last observation, and the metadata says so, so that reading gives None again.
    Raises UsageError for an id that cannot be or exists.
    """
    minari, gymnasium = package("minari", "a Minari data set"), package("gymnasium", "a Minari data set")
    if not ID.fullmatch(dataset_id):
        raise UsageError(f"{dataset_id!r} is no id of a Minari data set; expected NAME-v0 or NAMESPACE/NAME-v0")
    spaces = {name: _space(gymnasium, name, column) for name, column in demonstrations.observations.items()}
    low, high = action_range
    action_space = gymnasium.spaces.Box(low, high, (demonstrations.action_size,), np.float32)
    env_spec = gymnasium.spec(env).to_json() if env else demonstrations.meta.get("env_spec")
    folder = minari.storage.get_dataset_path(dataset_id)
    if folder.exists():
        raise UsageError(f"the Minari data set {dataset_id} exists in {folder}; choose another name or version")
    with warnings.catch_warnings():
        # It warns of every optional field that is not given.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"minari\.")
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            [_buffer(minari, episode) for episode in demonstrations.episodes()],
            observation_space=spaces["state"] if list(spaces) == ["state"] else _nested_space(gymnasium, spaces),
            action_space=action_space,
            description=description or None,
            author=author or None,
            jpeg_encoding=False,
        )
    names = ("rewards", "terminated", "truncated", "last_observations")
    dataset.storage.update_metadata({_UNKNOWN: [name for name in names if getattr(demonstrations, name) is None]})
    if env_spec is not None:
        dataset.storage.update_metadata({"env_spec": env_spec})
    return folder


# ---- reading ---------------------------------------------------------------------------------------------------------


def _open(minari: Any, source: str | Path) -> Any:
    path = Path(source).expanduser()
    try:
        if path.name == "main_data.hdf5" and path.is_file():
            path = path.parent
        if path.is_dir():
            _expect_own_files(path)
            return minari.MinariDataset(path if (path / "metadata.json").is_file() else path / "data")
        if not ID.fullmatch(str(source)):
            raise UsageError(f"{str(source)!r} is neither a folder nor the id of a Minari data set (NAMESPACE/NAME-v0)")
        _expect_own_files(Path(minari.storage.get_dataset_path(str(source))))
        return minari.load_dataset(str(source))
    except FileNotFoundError as error:
        root = minari.storage.get_dataset_path()
        there = ", ".join(sorted(minari.list_local_datasets())) or "none"
        raise UsageError(
            f"there is no Minari data set {source} in {root} (there: {there}); get it with `minari download {source}`"
        ) from error
    except UsageError:
        raise
    except _FAULTS as error:
        raise UsageError(f"the Minari data set {source} cannot be opened: {type(error).__name__}: {error}") from error


def _expect_own_files(folder: Path) -> None:
    """Raise UsageError for pipes among the files, and for HDF5 that takes numbers from elsewhere."""
    for path in plain_files(folder):
        if path.suffix == ".hdf5":
            with opened(path):
                pass


def _episode(
    where: str, data: Any, unknown: set[str], told: Mapping[str, Any], names: Collection[str] | None, unread: set[str]
) -> Episode:
    steps = len(data.rewards)
    every = _flat(data.observations, where)
    observed = {name: column for name, column in every.items() if wanted(name, names)}
    unread |= every.keys() - observed.keys()
    for name, column in observed.items():
        if len(column) != steps + 1:
            raise UsageError(
                f"{where}: {len(column)} observations {name!r} for {steps} rewards; expected one more than steps, the "
                "last one included"
            )
    if not isinstance(data.actions, np.ndarray):
        raise UsageError(f"{where}: actions are a {type(data.actions).__name__}; expected one Box")
    for name in ("actions", "terminations", "truncations"):
        length = len(getattr(data, name))
        if length != steps:
            raise UsageError(f"{where}: {length} {name} for {steps} rewards; step {min(length, steps)} is missing")
    ended = np.asarray(data.terminations, dtype=bool) | np.asarray(data.truncations, dtype=bool)
    if ended[:-1].any():
        raise UsageError(
            f"{where} goes on after step {int(np.argmax(ended))} of {steps}, where it was terminated or truncated; "
            "cut it there"
        )
    return Episode(
        observations={name: column[:-1] for name, column in observed.items()},
        actions=as_actions(data.actions, where),
        last_observations=(
            None if "last_observations" in unknown else {name: column[-1] for name, column in observed.items()}
        ),
        rewards=None if "rewards" in unknown else _floats(data.rewards),
        terminated=None if "terminated" in unknown else bool(data.terminations[-1]),
        truncated=None if "truncated" in unknown else bool(data.truncations[-1]),
        meta={name: told[name] for name in ("name", "seed", "options") if told.get(name) is not None},
    )


def _floats(rewards: np.ndarray) -> np.ndarray:
    return rewards if np.issubdtype(rewards.dtype, np.floating) else rewards.astype(np.float64)


def _flat(observations: Any, where: str, prefix: str = "") -> dict[str, np.ndarray]:
    if isinstance(observations, Mapping):
        found: dict[str, np.ndarray] = {}
        for name, inner in observations.items():
            found.update(_flat(inner, where, f"{prefix}{name}/"))
        return found
    if not isinstance(observations, np.ndarray):
        raise UsageError(
            f"{where}: observation {prefix.rstrip('/')!r} is a {type(observations).__name__}; expected a Box, or a "
            "Dict of them"
        )
    name = prefix.rstrip("/")
    if is_picture(observations.shape, observations.dtype):
        return {camera(name or "observation"): observations}
    return {name or "state": observations}


# ---- writing ---------------------------------------------------------------------------------------------------------


def _space(gymnasium: Any, name: str, column: Column) -> Any:
    shape, dtype = column.shape[1:], column.dtype
    if np.issubdtype(dtype, np.floating):
        return gymnasium.spaces.Box(-np.inf, np.inf, shape, dtype)
    if np.issubdtype(dtype, np.integer):
        return gymnasium.spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype)
    raise UsageError(f"observation {name!r} is {dtype}; Minari takes floats and whole numbers: convert it")


def _nested_space(gymnasium: Any, spaces: Mapping[str, Any]) -> Any:
    def dictionary(inner: Mapping[str, Any]) -> Any:
        return gymnasium.spaces.Dict(
            {name: dictionary(value) if isinstance(value, dict) else value for name, value in inner.items()}
        )

    return dictionary(_nested(spaces))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a/b": x} -> {"a": {"b": x}}. Raises UsageError when a name is also a folder of names."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        inner = found
        for folder in folders:
            inner = inner.setdefault(folder, {})
            if not isinstance(inner, dict):
                raise UsageError(f"the observation {name!r} lies under the observation {folder!r}; rename one of them")
        if leaf in inner:
            raise UsageError(f"the observation {name!r} has others under it; rename it")
        inner[leaf] = value
    return found


def _buffer(minari: Any, episode: Episode) -> Any:
    observed = {}
    for name, column in episode.observations.items():
        rows = column[:]
        last = rows[-1] if episode.last_observations is None else episode.last_observations[name]
        observed[name] = np.concatenate([rows, np.asarray(last)[None]])
    steps = len(episode)
    flags = np.zeros((2, steps), dtype=bool)
    flags[:, -1] = bool(episode.terminated), bool(episode.truncated)
    return minari.data_collector.EpisodeBuffer(
        seed=episode.meta.get("seed"),
        options=episode.meta.get("options"),
        observations=observed["state"] if list(observed) == ["state"] else _nested(observed),
        actions=episode.actions,
        rewards=np.zeros(steps) if episode.rewards is None else episode.rewards,
        terminations=flags[0],
        truncations=flags[1],
    )
