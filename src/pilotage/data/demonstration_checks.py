"""What demonstrations must be: refusals that name source, episode and frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.frames import Column, Frames


class _Part(Protocol):
    """An episode or demonstrations: what both have."""

    @property
    def observations(self) -> Mapping[str, Column]: ...
    @property
    def actions(self) -> np.ndarray: ...
    @property
    def last_observations(self) -> Mapping[str, Any] | None: ...


class _Columns(_Part, Protocol):
    """The columns of demonstrations."""

    @property
    def episode_ends(self) -> np.ndarray: ...
    @property
    def rewards(self) -> np.ndarray | None: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...
    @property
    def episode_meta(self) -> Sequence[Mapping[str, Any]]: ...


def source_of(meta: Mapping[str, Any]) -> str:
    """Return where demonstrations came from, for messages."""
    return str(meta.get("source", "the demonstrations"))


def expect_alike(number: int, part: _Part, first: _Part) -> None:
    """Raise UsageError unless a part holds the columns of the first, of the same sizes."""
    what = "part" if hasattr(part, "episode_ends") else "episode"

    def columns(of: _Part) -> dict[str, tuple[int, ...]]:
        seen = {name: column.shape[1:] for name, column in sorted(of.observations.items())}
        return {"action": of.actions.shape[1:], **seen}

    if columns(part) != columns(first):
        raise UsageError(f"{what} {number} holds {columns(part)}, {what} 0 holds {columns(first)}; they must be alike")
    for name in ("rewards", "terminated", "truncated", "last_observations"):
        if (getattr(part, name) is None) != (getattr(first, name) is None):
            raise UsageError(f"one of {what} 0 and {what} {number} has {name} and the other not; give both or neither")
    if part.last_observations is not None and part.last_observations.keys() != part.observations.keys():
        raise UsageError(
            f"{what} {number} has last observations {sorted(part.last_observations)} and observations "
            f"{sorted(part.observations)}; expected the same names"
        )


def check(given: _Columns) -> None:
    """Raise UsageError for whatever cannot be."""
    where = source_of(given.meta)
    ends, steps = given.episode_ends, len(given.actions)
    if given.actions.ndim != 2 or given.actions.dtype != np.float32 or given.actions.shape[1] < 1:
        raise UsageError(
            f"{where}: actions are {given.actions.dtype} {list(given.actions.shape)}; expected float32 [steps, action]"
        )
    if not steps or (ends.ndim == 1 and not len(ends)):
        raise UsageError(f"{where} holds {steps} steps and {len(ends)} episodes; expected at least one of each")
    if ends.ndim != 1 or ends.dtype != np.int64:
        raise UsageError(f"{where}: episode_ends are {ends.dtype} {list(ends.shape)}; expected int64 [episodes]")
    lengths = np.diff(ends, prepend=0)
    if (lengths < 1).any():
        number = int(np.flatnonzero(lengths < 1)[0])
        raise UsageError(
            f"{where}: episode {number} ends at step {ends[number]}, {lengths[number]} steps after the one before; "
            "expected ends that rise (the step after the last of each episode)"
        )
    if ends[-1] != steps:
        raise UsageError(
            f"{where}: the last episode ({len(ends) - 1}) ends at step {ends[-1]}, but there are {steps} actions; "
            "steps are missing or belong to no episode"
        )
    _check_column(where, "actions", given.actions, ends, given.episode_meta)
    for name, column in given.observations.items():
        if not column.ndim or len(column) != steps:
            length = len(column) if column.ndim else "no"
            raise UsageError(f"{where}: observation {name!r} has {length} steps, but there are {steps} actions")
        _check_column(where, f"observation {name!r}", column, ends, given.episode_meta)
    if given.last_observations is not None:
        _check_last(where, given, given.last_observations)
    if given.rewards is not None:
        if given.rewards.shape != (steps,) or not np.issubdtype(given.rewards.dtype, np.floating):
            raise UsageError(
                f"{where}: rewards are {given.rewards.dtype} {list(given.rewards.shape)}; expected floats [{steps}]"
            )
        _check_column(where, "rewards", given.rewards, ends, given.episode_meta)
    for flag in ("terminated", "truncated"):
        values = getattr(given, flag)
        if values is not None and (values.shape != ends.shape or values.dtype != np.bool_):
            raise UsageError(f"{where}: {flag} is {values.dtype} {list(values.shape)}; expected bool [{len(ends)}]")
    if len(given.episode_meta) not in (0, len(ends)):
        raise UsageError(f"{where}: episode_meta tells of {len(given.episode_meta)} episodes; there are {len(ends)}")


def _check_last(where: str, given: _Columns, last: Mapping[str, Column]) -> None:
    if last.keys() != given.observations.keys():
        raise UsageError(
            f"{where}: last observations are {sorted(last)}, observations {sorted(given.observations)}; expected the "
            "same names"
        )
    for name, column in last.items():
        expected = (len(given.episode_ends), *given.observations[name].shape[1:])
        if column.shape != expected:
            raise UsageError(f"{where}: the last observations {name!r} are {column.shape}; expected {expected}")
        _check_column(where, f"last observation {name!r}", column, np.arange(1, len(column) + 1), given.episode_meta)


def _check_column(
    where: str, name: str, column: Column, ends: np.ndarray, told: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Numbers, and finite ones; cameras as uint8 [steps, height, width, channels]."""
    if "'image/" in name and (column.ndim != 4 or column.dtype != np.uint8):
        raise UsageError(
            f"{where}: {name} is {column.dtype} {list(column.shape)}; expected uint8 [steps, height, width, channels]"
        )
    if isinstance(column, Frames):
        return
    real = np.issubdtype(column.dtype, np.number) and not np.issubdtype(column.dtype, np.complexfloating)
    if not (real or column.dtype == np.bool_):
        raise UsageError(f"{where}: {name} is of type {column.dtype}; expected real numbers")
    places = _not_finite(column)
    if len(places):
        place = tuple(int(i) for i in places[0])
        number = int(np.searchsorted(ends, place[0], side="right"))
        step = place[0] - (int(ends[number - 1]) if number else 0)
        raise UsageError(
            f"{where}: {name} of episode {episode_name(number, told)}, step {step} holds {column[place]} at entry "
            f"{list(place[1:])} ({len(places)} such numbers in all); mend it, or leave such episodes out "
            "(--skip-bad-episodes; in Python skip_bad=True)"
        )


def episode_name(number: int, told: Sequence[Mapping[str, Any]]) -> str:
    """Return the number of an episode, with its name in the file where that is another."""
    name = told[number].get("name") if number < len(told) else None
    return str(number) if name is None or str(name) == str(number) else f"{number} ({name})"


def bad_numbers(columns: Mapping[str, Any]) -> dict[int, str]:
    """Return which episodes hold numbers that are not finite, and where the first of them stands.

    Args:
        columns: fields of demonstrations, perhaps not fitting each other.
    """
    ends = np.asarray(columns["episode_ends"])
    found: dict[int, str] = {}
    for name, column, of_steps in _numbers(columns):
        for place in _not_finite(column):
            number = int(np.searchsorted(ends, place[0], side="right")) if of_steps else int(place[0])
            step = f", step {place[0] - (ends[number - 1] if number else 0)}" if of_steps and number < len(ends) else ""
            found.setdefault(number, f"{name}{step} holds {column[tuple(place)]}")
    return dict(sorted(found.items()))


def mended(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns with 0 for numbers that are not finite, so that the other episodes can be taken from them."""

    def filled(column: Column | None) -> Column | None:
        if not isinstance(column, np.ndarray) or not np.issubdtype(column.dtype, np.floating):
            return column
        return np.nan_to_num(column, nan=0.0, posinf=0.0, neginf=0.0)

    found: dict[str, Any] = {name: filled(columns.get(name)) for name in ("actions", "rewards")}
    for group in ("observations", "last_observations"):
        if columns.get(group) is not None:
            found[group] = {name: filled(column) for name, column in columns[group].items()}
    return found


def _numbers(columns: Mapping[str, Any]) -> list[tuple[str, np.ndarray, bool]]:
    """Return (name, array, whether a row is a step, not an episode) of all arrays in memory."""
    listed = [("actions", columns["actions"], True), ("rewards", columns.get("rewards"), True)]
    listed += [(f"observation {name!r}", column, True) for name, column in columns["observations"].items()]
    last = columns.get("last_observations") or {}
    listed += [(f"last observation {name!r}", column, False) for name, column in last.items()]
    return [(name, column, of_steps) for name, column, of_steps in listed if isinstance(column, np.ndarray)]


def _not_finite(column: np.ndarray) -> np.ndarray:
    """Return the places of numbers that are not finite, [count, dimensions]."""
    if not np.issubdtype(column.dtype, np.floating):
        return np.zeros((0, column.ndim), dtype=np.int64)
    return np.argwhere(~np.isfinite(column))
