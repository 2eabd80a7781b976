"""Opens demonstrations from wherever they are, as `--data` names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats import minari_dataset
from pilotage.data.formats.access import existing
from pilotage.data.formats.d4rl_hdf5 import read_d4rl
from pilotage.data.formats.hdf5_files import opened
from pilotage.data.formats.lerobot_dataset import is_lerobot, read_lerobot
from pilotage.data.formats.minari_dataset import is_minari, read_minari
from pilotage.data.formats.numpy_archive import read_npz
from pilotage.data.formats.robomimic_hdf5 import read_robomimic
from pilotage.data.formats.zarr_replay import is_zarr, read_zarr
from pilotage.data.pusht import read_pusht

_READERS: dict[str, Callable[..., Demonstrations]] = {
    "minari": read_minari,
    "lerobot": read_lerobot,
    "zarr": read_zarr,
    "robomimic": read_robomimic,
    "d4rl": read_d4rl,
    "npz": read_npz,
    "pusht": read_pusht,
}
_HDF5 = (".hdf5", ".h5", ".hdf")
EXPECTED = (
    "a file .npz or .hdf5 (robomimic, D4RL), a folder of Minari, LeRobot 3 or zarr, a zarr in a .zip, the id of a "
    "Minari data set (NAMESPACE/NAME-v0), 'pusht', or one of these after " + ", ".join(f"{kind}:" for kind in _READERS)
)


def open_demonstrations(
    where: str | Path,
    *,
    episodes: Sequence[int] | None = None,
    state: Sequence[str] = (),
    mask: str | None = None,
) -> Demonstrations:
    """Return the demonstrations at a place; its format is known by what is there, or is named before a colon.

    where: see `EXPECTED`; "pusht" are the real Push-T demonstrations, looked for in $PILOTAGE_HOME.
    episodes: only these, in this order. state: names of observations that make up "state", in this order.
    mask: a list of robomimic's (`mask/NAME`).
    Raises UsageError that says what was expected, or what is wrong with the file.
    """
    kind, place = _kind(str(where))
    options: dict[str, Any] = {}
    if mask is not None:
        if kind != "robomimic":
            raise UsageError(f"mask={mask!r} was given for {where}, which is {kind}; only robomimic's files have masks")
        options["mask"] = mask
    if kind == "lerobot":
        options["episodes"] = episodes
    found = _READERS[kind](*([] if place is None else [place]), **options)
    if episodes is not None and kind != "lerobot":
        found = found.subset(episodes)
    return found.with_state(state) if state else found


def _kind(where: str) -> tuple[str, str | Path | None]:
    """(reader, what to give it)."""
    head, colon, rest = where.partition(":")
    if colon and head in _READERS and rest:
        return head, rest
    if colon and head.isalnum() and len(head) > 1 and not Path(where).exists():
        raise UsageError(f"no demonstrations are known by {head + ':'!r}{nearest(head, _READERS)}; expected {EXPECTED}")
    if where == "pusht":
        return "pusht", None
    path = Path(where).expanduser()
    if path.exists():
        found = _recognised(path)
        if found is not None:
            return found
        raise UsageError(f"{path} is nothing that is known here; expected {EXPECTED}")
    if minari_dataset.ID.fullmatch(where):
        return "minari", where
    existing(path, "file, folder or known name")
    raise AssertionError("existing() raises for what is not there")


def _recognised(path: Path) -> tuple[str, Path] | None:
    """(reader, path) of a file or folder, by what it holds; a folder that holds one such thing stands for it."""
    if path.is_file():
        return _file(path)
    if is_lerobot(path):
        return "lerobot", path
    if is_zarr(path):
        return "zarr", path
    if is_minari(path):
        return "minari", path
    # Not deeper, lest a home folder be searched.
    inside = [found for entry in sorted(path.iterdir()) if (found := _child(entry)) is not None]
    if len(inside) > 1:
        names = ", ".join(found[1].name for found in inside)
        raise UsageError(f"{path} holds {len(inside)} sets of demonstrations ({names}); name one of them")
    return inside[0] if inside else None


def _child(entry: Path) -> tuple[str, Path] | None:
    if entry.is_file():
        return _file(entry) if entry.suffix in (".npz", *_HDF5) or is_zarr(entry) else None
    for kind, there in (("lerobot", is_lerobot), ("zarr", is_zarr), ("minari", is_minari)):
        if there(entry):
            return kind, entry
    return None


def _file(path: Path) -> tuple[str, Path] | None:
    if path.suffix == ".npz":
        return "npz", path
    if path.suffix == ".zip":
        return "zarr", path
    if path.suffix in _HDF5:
        return _hdf5(path)
    for folder in path.parents[:5]:
        if is_lerobot(folder):
            raise UsageError(f"{path} is part of the LeRobot data set {folder}; name that folder")
    return None


def _hdf5(path: Path) -> tuple[str, Path]:
    with opened(path) as file:
        names = set(file)
        if "data" in names and any(name.startswith("demo_") for name in file["data"]):
            return "robomimic", path
    if {"observations", "actions"} <= names:
        return "d4rl", path
    if path.name == "main_data.hdf5" and is_minari(path.parent):
        return "minari", path.parent
    raise UsageError(
        f"{path} holds {', '.join(sorted(names)[:6]) or 'nothing'}; expected robomimic's data/demo_0, … or D4RL's "
        "observations, actions, rewards, terminals, timeouts"
    )
