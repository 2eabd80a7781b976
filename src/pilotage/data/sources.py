"""Opens demonstrations from wherever they are, as `--data` names them.

Readers are the pieces of the slot `reader`: `read(place, **options) -> Demonstrations`. A reader declares
(`core.pieces.declare`) as `recognises` a function that tells from a path whether it can read what lies there; it may
take the options of `open_demonstrations`, those that it does not take are applied to what it returns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.pieces import load_piece
from pilotage.core.registry import find_pieces
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats import minari_dataset
from pilotage.data.formats.access import existing
from pilotage.data.formats.hdf5_files import HDF5, opened
from pilotage.data.formats.lerobot_dataset import is_lerobot

SLOT = "reader"


def expected() -> str:
    """Return what `--data` may name, in words."""
    return (
        "a file .npz or .hdf5 (robomimic, D4RL), a folder of Minari, LeRobot 3 or zarr, a zarr in a .zip, the id of a "
        "Minari data set (NAMESPACE/NAME-v0), 'pusht', or one of these after "
        + ", ".join(f"{kind}:" for kind in find_pieces(SLOT))
    )


def open_demonstrations(
    where: str | Path,
    *,
    episodes: Sequence[int] | None = None,
    state: Sequence[str] = (),
    action: Sequence[str] = (),
    names: Collection[str] | None = None,
    skip_bad: bool = False,
    mask: str | None = None,
) -> Demonstrations:
    """Return the demonstrations at a place; its format is known by what is there, or is named before a colon.

    Args:
        where: see `expected`; "pusht" are the real Push-T demonstrations, looked for in $PILOTAGE_HOME.
        episodes: only these, in this order.
        state: names of observations that make up "state", in this order.
        action: names of the arrays that make up the action; none: those of the format.
        names: observations to read, beside those of `state`; None: all. What is not read cannot be refused.
        skip_bad: whether episodes that cannot be used (too few observations, numbers that are not finite) are left out;
            `meta["left_out_episodes"]` names them. Otherwise they are refused.
        mask: a list of robomimic's (`mask/NAME`).

    Raises:
        UsageError: that says what was expected, or what is wrong with the file.
    """
    kind, place = _kind(str(where))
    read = load_piece(SLOT, kind)
    takes = inspect.signature(read).parameters
    if mask is not None and "mask" not in takes:
        raise UsageError(f"mask={mask!r} was given for {where}, which is {kind}; only robomimic's files have masks")
    if action and "action" not in takes:
        raise UsageError(f"action={list(action)} was given for {where}; the format {kind} has actions of one name only")
    wished: dict[str, Any] = {
        "mask": mask,
        "action": tuple(action) or None,
        "names": None if names is None else {*names, *state},
        "skip_bad": skip_bad or None,
        "episodes": episodes,
    }
    options = {name: value for name, value in wished.items() if value is not None and name in takes}
    found: Demonstrations = read(*([] if place is None else [place]), **options)
    if episodes is not None and "episodes" not in takes:
        found = _chosen(found, episodes)
    return found.with_state(state) if state else found


def _chosen(found: Demonstrations, episodes: Sequence[int]) -> Demonstrations:
    """Return the episodes of these numbers in the data set, of which some may have been left out."""
    gone: Mapping[str, str] = found.meta.get("left_out_episodes", {})
    if not gone:
        return found.subset(episodes)
    raise UsageError(
        f"episodes {list(episodes)} were asked for, and episodes {', '.join(gone)} were left out, which changes the "
        "numbers of the others; ask for one of both"
    )


def _kind(where: str) -> tuple[str, str | Path | None]:
    """Return the name of the reader and what to give it."""
    head, colon, rest = where.partition(":")
    readers = find_pieces(SLOT)
    if colon and head in readers and rest:
        return head, rest
    if colon and head.isalnum() and len(head) > 1 and not Path(where).exists():
        raise UsageError(
            f"no demonstrations are known by {head + ':'!r}{nearest(head, readers)}; expected {expected()}"
        )
    if where == "pusht":
        return "pusht", None
    path = Path(where).expanduser()
    if path.exists():
        existing(path, "file or folder")
        found = _recognised(path)
        if found is not None:
            return found
        raise UsageError(f"{path} is nothing that is known here; expected {expected()}")
    if minari_dataset.ID.fullmatch(where):
        return "minari", where
    existing(path, "file, folder or known name")
    raise AssertionError("existing() raises for what is not there")


def _recognised(path: Path) -> tuple[str, Path] | None:
    """Return (reader, path) of a file or folder, by what it holds; a folder that holds one such thing stands for it."""
    found = _reader_of(path)
    if found is not None:
        return found, path
    if path.is_file():
        _explain(path)
        return None
    # Not deeper, lest a home folder be searched.
    inside = [(kind, entry) for entry in sorted(path.iterdir()) if (kind := _reader_of(entry)) is not None]
    if len(inside) > 1:
        names = ", ".join(entry.name for _, entry in inside)
        raise UsageError(f"{path} holds {len(inside)} sets of demonstrations ({names}); name one of them")
    return inside[0] if inside else None


def _reader_of(path: Path) -> str | None:
    """Return the name of the reader that recognises what lies at a path."""
    for kind in find_pieces(SLOT):
        recognises: Callable[[Path], bool] | None = getattr(load_piece(SLOT, kind), "recognises", None)
        if recognises is not None and recognises(path):
            return kind
    return None


def _explain(path: Path) -> None:
    """Raise UsageError that says more of a file that no reader recognises, where more can be said."""
    if path.suffix in HDF5:
        with opened(path) as file:
            names = sorted(file)
        raise UsageError(
            f"{path} holds {', '.join(names[:6]) or 'nothing'}; expected robomimic's data/demo_0, … or D4RL's "
            "observations, actions, rewards, terminals, timeouts"
        )
    for folder in path.parents[:5]:
        if is_lerobot(folder):
            raise UsageError(f"{path} is part of the LeRobot data set {folder}; name that folder")
