"""What all readers share: files that are there, packages that are installed, actions that are continuous."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest


def package(name: str, what: str) -> Any:
    """Return the module `name`, which reading `what` needs. Raises UsageError with the line that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{what} needs the package {name.split('.')[0]!r} ({error}): pip install 'pilotage[robots]'"
        ) from error


def existing(path: str | Path, what: str) -> Path:
    """Return the path of a file or folder, which must exist.

    Raises UsageError that suggests neighbours of a similar name, and for a pipe or a device, which would never end.
    """
    found = Path(path).expanduser()
    if found.is_file() or found.is_dir():
        return found
    if found.exists():
        raise UsageError(f"{found} is a pipe, socket or device, no file or folder; copy the data to a file")
    parent = found.parent
    hint = nearest(found.name, [entry.name for entry in parent.iterdir()] if parent.is_dir() else [])
    where = "" if parent.is_dir() else f" (nor a folder {parent})"
    raise UsageError(f"there is no {what} {found}{where}{hint}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises UsageError for one that is missing, or holds something else."""
    try:
        if path.exists():
            existing(path, "file")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing; the data set is incomplete, copy it again") from error
    except UsageError:
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}; copy it again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__}; expected an object")
    return found


def as_actions(values: np.ndarray, where: str) -> np.ndarray:
    """Return actions [N, A] float32 of floats [N] or [N, ...]. Raises UsageError for discrete actions."""
    if not values.ndim:
        raise UsageError(f"{where}: actions are a single number; expected an array [steps, numbers]")
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(
            f"{where}: actions are {values.dtype}; expected floating-point numbers: discrete actions have no chunks to "
            "normalise"
        )
    return np.ascontiguousarray(values.reshape(len(values), math.prod(values.shape[1:])), dtype=np.float32)


def is_picture(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Return whether a column of this shape [N, ...] and type holds camera frames [N, H, W, C]."""
    return len(shape) == 4 and shape[-1] in (1, 3, 4) and dtype == np.uint8


def camera(name: str) -> str:
    """Return the name of a camera's column: "top" and "image/top" both give "image/top"."""
    return name if name.startswith("image/") else f"image/{name}"


def wanted(name: str, names: Collection[str] | None) -> bool:
    """Return whether the observation `name` is asked for; `names` None: all are."""
    return names is None or name in names


def expect_room(size: int, what: str) -> None:
    """Raise UsageError when `what`, which declares `size` bytes, cannot fit into this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise UsageError(
            f"{what} declares {size / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f} GiB of memory; the "
            "file is damaged or malicious, or it needs a larger machine"
        )


def plain_files(folder: Path) -> list[Path]:
    """Return every file below a folder, those behind links to folders too.

    Raises UsageError when one is a pipe, socket or device, the reading of which would never end.
    """
    seen: set[str] = set()
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [existing(Path(root, name), "file") for name in sorted(files) if Path(root, name).exists()]
    return found


def joined_actions(parts: Iterable[np.ndarray], names: Sequence[str], where: str) -> np.ndarray:
    """Return the arrays `names`, which make up the action, side by side: [N, A] float32.

    Raises UsageError for discrete actions and different lengths.
    """
    found = [as_actions(part, where) for part in parts]
    if len({len(part) for part in found}) > 1:
        lengths = ", ".join(f"{name} {len(part)}" for name, part in zip(names, found, strict=True))
        raise UsageError(f"{where}: the parts of the action have different numbers of steps ({lengths})")
    return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def no_action(where: str, names: Sequence[str], there: Iterable[str], *, named: bool) -> UsageError:
    """Return the error for a data set without the arrays `names` of actions; `named`: the user named them."""
    others = sorted(there)
    hint = nearest(names[0], others)
    remedy = "name those there are" if named else "name it by --action-key (in Python action=[NAME])"
    there_are = ", ".join(others) or "none"
    return UsageError(f"{where} has no {names[0]!r} to take as the action{hint}; there are {there_are}: {remedy}")
