"""What demonstrations must be: refusals that name source, episode and frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.frames import Column, Frames

if TYPE_CHECKING:
    from pilotage.data.demonstrations import Demonstrations, Episode


def source_of(meta: Mapping[str, Any]) -> str:
    """Return where demonstrations came from, for messages."""
    return str(meta.get("source", "the demonstrations"))


def expect_alike(number: int, part: Episode | Demonstrations, first: Episode | Demonstrations) -> None:
    """Raise UsageError unless a part holds the columns of the first, of the same sizes."""
    what = "part" if hasattr(part, "episode_ends") else "episode"

    def columns(of: Episode | Demonstrations) -> dict[str, tuple[int, ...]]:
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


def check(given: Demonstrations) -> None:
    """Raise UsageError for whatever cannot be."""
    where = source_of(given.meta)
    ends, steps = given.episode_ends, len(given.actions)
    if given.actions.ndim != 2 or given.actions.dtype != np.float32 or given.actions.shape[1] < 1:
        raise UsageError(
            f"{where}: actions are {given.actions.dtype} {list(given.actions.shape)}; expected float32 [steps, action]"
        )
    if ends.ndim != 1 or ends.dtype != np.int64 or not len(ends):
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
    _check_column(where, "actions", given.actions, ends)
    for name, column in given.observations.items():
        if len(column) != steps:
            raise UsageError(f"{where}: observation {name!r} has {len(column)} steps, but there are {steps} actions")
        _check_column(where, f"observation {name!r}", column, ends)
    if given.last_observations is not None:
        _check_last(where, given, given.last_observations)
    if given.rewards is not None:
        if given.rewards.shape != (steps,) or not np.issubdtype(given.rewards.dtype, np.floating):
            raise UsageError(
                f"{where}: rewards are {given.rewards.dtype} {list(given.rewards.shape)}; expected floats [{steps}]"
            )
        _check_column(where, "rewards", given.rewards, ends)
    for flag in ("terminated", "truncated"):
        values = getattr(given, flag)
        if values is not None and (values.shape != ends.shape or values.dtype != np.bool_):
            raise UsageError(f"{where}: {flag} is {values.dtype} {list(values.shape)}; expected bool [{len(ends)}]")
    if len(given.episode_meta) not in (0, len(ends)):
        raise UsageError(f"{where}: episode_meta tells of {len(given.episode_meta)} episodes; there are {len(ends)}")


def _check_last(where: str, given: Demonstrations, last: Mapping[str, Column]) -> None:
    if last.keys() != given.observations.keys():
        raise UsageError(
            f"{where}: last observations are {sorted(last)}, observations {sorted(given.observations)}; expected the "
            "same names"
        )
    for name, column in last.items():
        expected = (given.total_episodes, *given.observations[name].shape[1:])
        if column.shape != expected:
            raise UsageError(f"{where}: the last observations {name!r} are {column.shape}; expected {expected}")
        _check_column(where, f"last observation {name!r}", column, np.arange(1, len(column) + 1))


def _check_column(where: str, name: str, column: Column, ends: np.ndarray) -> None:
    """Numbers, and finite ones; cameras as uint8 [steps, height, width, channels]."""
    if "'image/" in name and (column.ndim != 4 or column.dtype != np.uint8):
        raise UsageError(
            f"{where}: {name} is {column.dtype} {list(column.shape)}; expected uint8 [steps, height, width, channels]"
        )
    if isinstance(column, Frames):
        return
    if not (np.issubdtype(column.dtype, np.number) or column.dtype == np.bool_):
        raise UsageError(f"{where}: {name} is of type {column.dtype}; expected numbers")
    if not np.issubdtype(column.dtype, np.floating):
        return
    finite = np.isfinite(column)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        number = int(np.searchsorted(ends, place[0], side="right"))
        frame = place[0] - (int(ends[number - 1]) if number else 0)
        count = int((~finite).sum())
        raise UsageError(
            f"{where}: {name} of episode {number}, frame {frame} holds {column[place]} at entry {list(place[1:])} "
            f"({count} such numbers in all); mend it, or leave the episode out"
        )
