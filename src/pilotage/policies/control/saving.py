"""A policy on disk: what it is made of as JSON, its numbers as safetensors. Nothing is pickled or imported by name.

Every piece keeps the arguments it was made with as attributes of the same names, which is all that is written down of
it. Only classes that systems declare in `SLOTS`, and those given to `register`, are made again.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pilotage.core.atomic_io import write_json, written_aside
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.references import load_function
from pilotage.core.registry import find_pieces
from pilotage.policies.pickled import refuse_pickled

TYPE, FORMAT = "pilotage-action-policy", 2
"""Type and format in config.json; LeRobot's policies have other types, language models have none."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"

SLOTS = (
    *("encoder", "network", "head", "context", "guidance", "noise_schedule"),
    *("executor", "start", "binary_dims", "tokeniser"),
)
"""Slots whose classes a saved policy may name."""
_REGISTERED: dict[str, type] = {}


def register(piece: type) -> type:
    """Lets policies with a `piece` be saved and loaded; usable as a decorator. Raises UsageError for a taken name."""
    known = find_class(piece.__name__)
    if known not in (None, piece):
        raise UsageError(f"a piece called {piece.__name__} is already known; give yours another name")
    _REGISTERED[piece.__name__] = piece
    return piece


def find_class(name: str) -> type | None:
    """Return the class of a policy's part called `name`: a registered one, or one that a system declares in `SLOTS`."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    for reference in _declared():
        if reference.rpartition(":")[2] == name:
            found = load_function(reference)
            return found if isinstance(found, type) else None
    return None


def _declared() -> list[str]:
    return [reference for slot in SLOTS for reference in find_pieces(slot).values()]


def describe(value: Any) -> Any:
    """`value` as JSON: a piece as its name and arguments, plain values as they are. Raises UsageError for others."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [describe(one) for one in value]
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): describe(one) for key, one in value.items()}
    name = type(value).__name__
    if find_class(name) is not type(value):
        raise UsageError(f"{value!r} cannot be written down; register its class with saving.register")
    arguments = [p for p in inspect.signature(type(value)).parameters if p != "self"]
    return {"piece": name, "arguments": {argument: describe(getattr(value, argument)) for argument in arguments}}


def rebuild(described: Any) -> Any:
    """Return what `describe` wrote. Raises UsageError for a piece that is not known."""
    if isinstance(described, list):
        return [rebuild(one) for one in described]
    if not isinstance(described, dict):
        return described
    if set(described) != {"piece", "arguments"}:
        return {key: rebuild(one) for key, one in described.items()}
    name = described["piece"]
    kind = find_class(name)
    if kind is None:
        names = [*_REGISTERED, *(reference.rpartition(":")[2] for reference in _declared())]
        raise UsageError(f"a policy with a piece {name!r}, which is not known here{nearest(name, names)}")
    arguments = {key: rebuild(one) for key, one in described["arguments"].items()}
    known = set(inspect.signature(kind).parameters)
    if not set(arguments) <= known:
        raise UsageError(
            f"a {name} with unknown arguments {sorted(set(arguments) - known)}; was it saved by a newer version?"
        )
    return kind(**arguments)


def write(folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a policy's configuration and numbers into `folder`, each file whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / WEIGHTS) as weights:
        save_file(dict(tensors), str(weights))
    write_json(folder / CONFIG, {"type": TYPE, "format": FORMAT, **config})


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and the numbers that `write` wrote.

    Raises UsageError for a folder without a policy of ours, and for another format.
    """
    folder = Path(folder)
    refuse_pickled(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} holds no saved policy: {' and '.join(missing)} missing")
    config = read_json(folder / CONFIG)
    if config.get("type") != TYPE:
        raise UsageError(f"{folder / CONFIG} is of type {config.get('type')!r}; expected {TYPE!r}")
    if config.get("format") != FORMAT:
        raise UsageError(f"{folder / CONFIG} has format {config.get('format')}; this version reads {FORMAT}")
    return config, load_file(str(folder / WEIGHTS))


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with "PREFIX.", without it."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def is_action_policy(folder: str | Path) -> bool:
    """Return whether `folder` holds a policy that `ActionPolicy.save_pretrained` wrote."""
    path = Path(folder) / CONFIG
    return path.is_file() and read_json(path).get("type") == TYPE


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a saved policy. Raises UsageError for a damaged file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__}; expected an object")
    return found
