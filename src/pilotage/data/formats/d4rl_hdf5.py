"""D4RL-like HDF5 files (arXiv 2004.07219): flat arrays of steps, with flags where episodes end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import as_actions
from pilotage.data.formats.hdf5_files import array, opened

_READ = {"observations", "actions", "rewards", "terminals", "timeouts", "next_observations"}


def read_d4rl(path: str | Path, *, episode_steps: int | None = None) -> Demonstrations:
    """Return the episodes of a file with `observations` [N, S], `actions` [N, A], `rewards` [N], `terminals` [N] and
    `timeouts` [N]; with `next_observations` [N, S] the last observations are known, too.

    An episode ends at a step that is terminal or timed out. Steps after the last such one are an episode, too, neither
    terminated nor truncated. Further arrays are not read; `meta["left_out"]` names them.
    episode_steps: the time limit, for files without `timeouts`.
    Raises UsageError that names file and array.
    """
    path = Path(path).expanduser()
    with opened(path) as file:
        where = str(path)
        actions = as_actions(array(file, "actions", where), where)
        state = array(file, "observations", where)
        rewards = np.asarray(array(file, "rewards", where), dtype=np.float64).reshape(-1)
        terminal = _flags(array(file, "terminals", where))
        timeout = _flags(array(file, "timeouts", where)) if "timeouts" in file else None
        following = array(file, "next_observations", where) if "next_observations" in file else None
        left_out = sorted(set(file) - _READ)
    columns: dict[str, Any] = {
        "observations": state,
        "rewards": rewards,
        "terminals": terminal,
        "timeouts": timeout,
        "next_observations": following,
    }
    for name, values in columns.items():
        if values is not None and len(values) != len(actions):
            raise UsageError(f"{path}: {len(values)} {name} for {len(actions)} actions; frames are missing")
    if not len(actions):
        raise UsageError(f"{path} has no steps")
    if timeout is None:
        if episode_steps is None:
            raise UsageError(
                f"{path} has no 'timeouts', so where episodes were cut is unknown; give the time limit (episode_steps)"
            )
        timeout = _timed_out(terminal, episode_steps)
    ends = np.flatnonzero(terminal | timeout) + 1
    if not len(ends) or ends[-1] != len(actions):
        ends = np.append(ends, len(actions))
    last = ends - 1
    return Demonstrations(
        observations={"state": state},
        actions=actions,
        episode_ends=ends.astype(np.int64),
        last_observations=None if following is None else {"state": following[last]},
        rewards=rewards,
        terminated=terminal[last],
        truncated=timeout[last] & ~terminal[last],
        meta={"source": str(path), "format": "d4rl", **({"left_out": left_out} if left_out else {})},
    )


def _flags(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(-1).astype(bool)


def _timed_out(terminal: np.ndarray, limit: int) -> np.ndarray:
    """[N] bool: the limit-th step since the last end."""
    found = np.zeros_like(terminal)
    since = 0
    for step, ended in enumerate(terminal):
        since += 1
        found[step] = since == limit and not ended
        if ended or found[step]:
            since = 0
    return found
