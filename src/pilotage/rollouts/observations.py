"""What an environment shows, as policies read it: named arrays, images as [channels, height, width] in [0, 1]."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError

GOAL = "goal"
"""The one entry without a window: what is to be reached, as it stands now."""


def policy_view(observation: Any, state_keys: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return an observation under the names that policies read.

    The arrays are copies, since an environment may write the next observation into the array that it returned.

    Args:
        observation: a vector; an image [height, width, channels] of uint8; or a mapping with "state", "goal" and
            "image/NAME", or with the "observation" and "desired_goal" of a Gymnasium-Robotics GoalEnv.
        state_keys: entries of a mapping that make up the state, side by side in this order ("a/b" is the entry b of
            a); none: "state" or "observation". A vector is the state itself.

    Returns:
        "state" [S] float32, "goal" [G] float32, "image/NAME" [channels, height, width] float32 in [0, 1].

    Raises UsageError for an entry that has none of these names, and for a state key that is not there.
    """
    if not isinstance(observation, Mapping):
        array = np.asarray(observation)
        return {"image/pixels" if _is_image(array) else "state": _float_copy(array)}
    view = {}
    entries = observation
    if state_keys:
        named = dict(_entries(observation))
        missing = [name for name in state_keys if name not in named]
        if missing:
            raise UsageError(
                f"the observation has no entry {missing[0]!r}, which is part of the state (--state-keys); there are "
                f"{', '.join(named)}"
            )
        view["state"] = np.concatenate([_float_copy(np.asarray(named[name])).reshape(-1) for name in state_keys])
        kept = (GOAL, "desired_goal")
        entries = {name: value for name, value in named.items() if name in kept or name.startswith("image/")}
    for name, value in entries.items():
        array = np.asarray(value)
        if name in ("state", "observation"):
            view["state"] = _float_copy(array)
        elif name in (GOAL, "desired_goal"):
            view[GOAL] = _float_copy(array)
        elif name.startswith("image/"):
            view[name] = _float_copy(array)
        elif name != "achieved_goal":  # it is part of the state
            raise UsageError(
                f"the observation has an entry {name!r}; policies read 'state', 'goal' and 'image/NAME': name "
                "those that make up the state (--state-keys A+B), or in Python pass observe=FUNCTION, which takes an "
                "observation and returns a dictionary with these names"
            )
    return view


def _entries(observation: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a mapping by name, those of inner mappings as "outer/inner"."""
    for name, value in observation.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _is_image(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3


def _float_copy(array: np.ndarray) -> np.ndarray:
    if _is_image(array):
        return np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    return np.array(array, dtype=np.float32).reshape(-1)


class ObservationWindow:
    """The last `length` observations of one episode; before there are so many, the first is repeated."""

    def __init__(self, length: int, first: Mapping[str, np.ndarray]) -> None:
        self._seen = deque([first] * length, maxlen=length)

    def append(self, view: Mapping[str, np.ndarray]) -> None:
        """Add the newest frame."""
        self._seen.append(view)

    def stacked(self) -> dict[str, np.ndarray]:
        """Return every entry as [length, ...], the newest last; the goal as it stands now, [G]."""
        newest = self._seen[-1]
        return {
            name: newest[name] if name == GOAL else np.stack([view[name] for view in self._seen]) for name in newest
        }


def batched(windows: Sequence[ObservationWindow]) -> dict[str, Tensor]:
    """Return the windows of several episodes as tensors: [rows, length, ...], the goal [rows, G]."""
    stacks = [window.stacked() for window in windows]
    return {name: torch.from_numpy(np.stack([stack[name] for stack in stacks])) for name in stacks[0]}
