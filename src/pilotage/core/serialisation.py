"""Values as plain JSON: configurations, and lines of records."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.text import printable


def to_json(value: Any, where: str = "config") -> Any:
    """Return `value` as JSON holds it: mappings with string keys, lists, strings, numbers, booleans, None.

    Non-finite numbers become `{"$float": "inf"}`, since JSON has none. Raises UsageError, naming the place, for
    anything else, and for keys that begin with "$", which are ours.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key.startswith("$"):
                raise UsageError(f"{where} has the key {key!r}; keys are strings that do not begin with '$'")
        return {key: to_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise UsageError(
        f"{where} is {value!r} of type {type(value).__name__}, which JSON cannot hold; give a number, string, "
        'boolean, None, list or mapping, and a function as {"source": its text, "name": "module:function"}'
    )


def from_json(value: Any) -> Any:
    """Return what `to_json` was given (tuples come back as lists)."""
    if isinstance(value, dict):
        if set(value) == {"$float"}:
            return float(value["$float"])
        return {key: from_json(item) for key, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def canonical(value: Any) -> str:
    """Return one text per plain value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def line(record: Mapping[str, Any]) -> bytes:
    """Return one line of a JSON Lines file. Tensors and arrays become lists; non-finite numbers become null.

    What UTF-8 cannot hold (halves of surrogate pairs) becomes U+FFFD.
    """
    try:
        text = _ENCODER.encode(record)
    except ValueError:
        text = _ENCODER.encode(_without_nan(record))
    return printable(text).encode() + b"\n"


def _as_list(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise UsageError(f"{value!r} of type {type(value).__name__} cannot be written as JSON; give numbers and strings")


# One for all: json.dumps with options makes a new encoder for each line, which costs more than the line.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_as_list)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return _without_nan(_as_list(value))


def differences(before: Any, now: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the places, as dotted names, in which two plain values differ, each with (before, now)."""
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*before, *now}):
            place = f"{where}.{key}" if where else key
            found |= differences(before.get(key, MISSING), now.get(key, MISSING), place)
        return found
    same = before == now and isinstance(before, bool) == isinstance(now, bool)
    return {} if same else {where: (before, now)}


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()
"""Stands in `differences` for a key that one side lacks."""
