"""A policy on disk: what it is made of as JSON, its numbers as safetensors. Nothing is pickled or imported by name.

Every piece keeps the arguments it was made with as attributes of the same names, which is all that is written down of
it. Only classes that systems declare in `SLOTS`, and those given to `register`, are made again."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.references import load_function
from pilotage.core.registry import find_pieces
from pilotage.policies.control.heads.plans import policy_kind
from pilotage.policies.control.policy import ActionPolicy, Scaling
from pilotage.policies.pickled import refuse_pickled

FORMAT = 1
DESCRIPTION, WEIGHTS = "policy.json", "weights.safetensors"

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
    """What `describe` wrote. Raises UsageError for a piece that is not known."""
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


def save_policy(policy: ActionPolicy, folder: str | Path) -> None:
    """Writes policy.json and weights.safetensors into `folder`, the normalisers' numbers with them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for part in ("encoder", "head"):
        for name, tensor in getattr(policy, part).state_dict().items():
            tensors[f"{part}.{name}"] = tensor.detach().cpu().contiguous().clone()
    plain: dict[str, dict[str, Any]] = {}
    for key, normaliser in policy.normalisers.items():
        plain[key] = {}
        for name, value in normaliser.state_dict().items():
            if isinstance(value, Tensor):
                tensors[f"normaliser.{key}.{name}"] = value.detach().cpu().contiguous().clone()
            else:
                plain[key][name] = describe(value)
    description = {
        "format": FORMAT,
        **{part: describe(getattr(policy, part)) for part in ("encoder", "head", "executor", "initialiser")},
        "goal_weight": policy.goal_weight,
        "seed": policy.seed,
        "normalisers": plain,
    }
    save_file(tensors, str(folder / f".{WEIGHTS}"))
    (folder / f".{DESCRIPTION}").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    for name in (WEIGHTS, DESCRIPTION):
        os.replace(folder / f".{name}", folder / name)


def load_policy(
    folder: str | Path, normaliser: Callable[[Mapping[str, Any]], Scaling], *, device: torch.device | str = "cpu"
) -> ActionPolicy:
    """The policy that `save_policy` wrote, ready to be reset.

    `normaliser` makes a normaliser again from what its `state_dict` gave. Raises UsageError for a folder without a
    policy, another format, or weights that do not fit."""
    folder = Path(folder)
    refuse_pickled(folder)
    missing = [name for name in (DESCRIPTION, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} holds no saved policy: {' and '.join(missing)} missing")
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    if description.get("format") != FORMAT:
        raise UsageError(f"{folder / DESCRIPTION} has format {description.get('format')}; this version reads {FORMAT}")
    tensors = load_file(str(folder / WEIGHTS))
    parts = {part: rebuild(description[part]) for part in ("encoder", "head", "executor", "initialiser")}
    for part in ("encoder", "head"):
        own = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
        try:
            parts[part].load_state_dict(own)
        except RuntimeError as error:
            raise UsageError(f"the weights of the {part} in {folder} do not fit its description: {error}") from error
    normalisers = {}
    for key, plain in description["normalisers"].items():
        prefix = f"normaliser.{key}."
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        normalisers[key] = normaliser({**plain, **own})
    policy = policy_kind(parts["head"])(
        parts["encoder"],
        parts["head"],
        parts["executor"],
        normalisers,
        initialiser=parts["initialiser"],
        goal_weight=description["goal_weight"],
        seed=description["seed"],
    )
    return policy.to(device)
