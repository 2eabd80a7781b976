"""State as two open files: the tensors as safetensors, everything else as JSON.

`split` takes a nest of dictionaries, lists, tuples, tensors, numpy arrays, numbers, strings, bytes, booleans and None
apart; `join` puts it together again. Nothing is pickled. In the JSON, `{"$tensor": "12"}` refers to tensor "12", and
a dictionary whose keys are not all plain strings is `{"$dict": [[key, value], ...]}`.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pilotage.core.atomic_io import share
from pilotage.core.errors import UsageError

_UNSAFE = ["complex128", "quint8", "qint8", "qint32", "quint4x2", "quint2x4"]


def split(state: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Split nested state into a JSON value and tensors on the CPU, contiguous.

    Two tensors that are one (tied weights) are stored once and come back as one. Raises UsageError that names the
    place of a value that cannot be stored.
    """
    writer = _Writer()
    return writer.encode(state, "state"), writer.tensors


class _Writer:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self._alive: list[torch.Tensor] = []

    def encode(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._store(value, where)}
        if isinstance(value, np.ndarray | np.generic):
            return self._numpy(value, where)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, Mapping):
            return self._mapping(value, where)
        if isinstance(value, list | tuple):
            items = [self.encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
            return {"$tuple": items} if isinstance(value, tuple) else items
        raise UsageError(
            f"{where} is a {type(value).__name__}, which a checkpoint cannot hold; give nested dictionaries and lists "
            "of tensors, numpy arrays, numbers, strings, booleans and None"
        )

    def _mapping(self, value: Mapping[Any, Any], where: str) -> Any:
        pairs = [(key, self.encode(item, f"{where}.{key}")) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        for key, _ in pairs:
            if isinstance(key, torch.Tensor | np.ndarray):
                raise UsageError(f"{where} has an array as key; a checkpoint's keys are strings, numbers and tuples")
        return {"$dict": [[self.encode(key, f"{where}'s key"), item] for key, item in pairs]}

    def _numpy(self, value: np.ndarray | np.generic, where: str) -> Any:
        kind = "$scalar" if isinstance(value, np.generic) else "$numpy"
        native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C", copy=True)
        try:
            tensor = torch.from_numpy(native)
        except TypeError as error:
            raise UsageError(
                f"{where} is a numpy array of {value.dtype}, which a checkpoint cannot hold; turn it into numbers or "
                "a list of strings"
            ) from error
        return {kind: self._store(tensor, where)}

    def _store(self, tensor: torch.Tensor, where: str) -> str:
        tensor = tensor.detach()
        if tensor.layout != torch.strided or str(tensor.dtype).removeprefix("torch.") in _UNSAFE:
            raise UsageError(
                f"{where} is a tensor of {tensor.dtype} and layout {tensor.layout}, which safetensors cannot hold; "
                "give a dense one of ordinary type"
            )
        # An empty tensor has no memory of its own, so its address says nothing.
        address = tensor.data_ptr() if tensor.numel() else id(tensor)
        identity = (address, tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.is_conj())
        if identity not in self._known:
            name = str(len(self.tensors))
            self._known[identity] = name
            self._alive.append(tensor)  # its address must not be given to another tensor while we compare addresses
            self.tensors[name] = _own(tensor)
        return self._known[identity]


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor on the CPU, contiguous, alone in its memory. Copies only when it must."""
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    alone = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if alone else tensor.clone()


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors, wherever they lie, as a safetensors file. Raises OSError when the disk does not take them."""
    owned: dict[str, torch.Tensor] = {}
    used: set[int] = set()
    for name, tensor in tensors.items():
        own = _own(tensor.detach())
        # Two views of all of one memory: the format has no views, so the second becomes a copy.
        owned[name] = own.clone() if own.numel() and own.data_ptr() in used else own
        used.add(own.data_ptr())
    try:
        save_file(owned, path)
        share(path)
    except SafetensorError as error:
        system = as_os_error(error)
        if system is None:
            raise
        raise system from error


def as_os_error(error: Exception) -> OSError | None:
    """Return the operating system's error behind an exception; None when there is none.

    The library of safetensors hides it in its text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    code = re.search(r"os error (\d+)", str(error)) if isinstance(error, SafetensorError | OSError) else None
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else None


def join(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Join what `split` took apart. Dictionaries of any kind come back as plain ones, in their order."""
    if isinstance(value, list):
        return [join(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, item),) = value.items()
        if tag == "$tensor":
            return tensors[item]
        if tag == "$numpy":
            return tensors[item].numpy()
        if tag == "$scalar":
            return tensors[item].numpy()[()]
        if tag == "$float":
            return float(item)
        if tag == "$bytes":
            return base64.b64decode(item)
        if tag == "$tuple":
            return tuple(join(part, tensors) for part in item)
        if tag == "$dict":
            return {join(key, tensors): join(part, tensors) for key, part in item}
    return {key: join(item, tensors) for key, item in value.items()}
