"""What all readers share: files that are there, packages that are installed, actions that are continuous."""

from __future__ import annotations

import importlib
import json
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
    """Return the path, which must exist. Raises UsageError that suggests neighbours of a similar name."""
    found = Path(path).expanduser()
    if found.exists():
        return found
    parent = found.parent
    hint = nearest(found.name, [entry.name for entry in parent.iterdir()] if parent.is_dir() else [])
    where = "" if parent.is_dir() else f" (nor a folder {parent})"
    raise UsageError(f"there is no {what} {found}{where}{hint}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises UsageError for one that is missing, or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing; the data set is incomplete, copy it again") from error
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}; copy it again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__}; expected an object")
    return found


def as_actions(values: np.ndarray, where: str) -> np.ndarray:
    """Return floats -> float32, [N] -> [N, 1], [N, A]. Raises UsageError for discrete actions."""
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(
            f"{where}: actions are {values.dtype}; expected floating-point numbers: discrete actions have no chunks to "
            "normalise"
        )
    return np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)


def is_picture(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Return whether a column of this shape [N, ...] and type holds camera frames [N, H, W, C]."""
    return len(shape) == 4 and shape[-1] in (1, 3, 4) and dtype == np.uint8


def camera(name: str) -> str:
    """Return the name of a camera's column: "top" and "image/top" both give "image/top"."""
    return name if name.startswith("image/") else f"image/{name}"
