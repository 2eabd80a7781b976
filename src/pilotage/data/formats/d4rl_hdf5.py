"""D4RL-like HDF5 files (arXiv 2004.07219): flat arrays of steps, with flags where episodes end."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.pieces import declare
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.access import as_actions
from pilotage.data.formats.hdf5_files import HDF5, array, opened

MOST_OF_ONE_STEP = 0.5
"""Share of the ends by `terminals` that directly follow another, beyond which they cannot be ends of episodes."""
_READ = {"observations", "actions", "rewards", "terminals", "timeouts", "next_observations"}


def _is_d4rl(path: Path) -> bool:
    if not (path.suffix in HDF5 and path.is_file()):
        return False
    with opened(path) as file:
        return {"observations", "actions"} <= set(file)


@declare(recognises=_is_d4rl)
def read_d4rl(
    path: str | Path,
    *,
    episode_steps: int | None = None,
    action: Sequence[str] = (),
    names: Collection[str] | None = None,  # noqa: ARG001  there is one observation
    skip_bad: bool = False,
) -> Demonstrations:
    """Return the episodes of a file with `observations` [N, S], `actions` [N, A], `rewards` [N], `terminals` [N] and
    `timeouts` [N]; with `next_observations` [N, S] the last observations are known, too.

    An episode ends at a step that is terminal or timed out. Steps after the last such one are an episode, too, neither
    terminated nor truncated. Further arrays are not read; `meta["left_out"]` names them. Where `terminals` stay set
    step after step, as near the goals of AntMaze, they mark states and end nothing: then episodes end at time-outs
    alone, a warning says so, and whether they were terminated is unknown.

    Args:
        path: of the file.
        episode_steps: the time limit, for files without `timeouts`.
        action: name of the array of actions; none: "actions".
        names: accepted for the sake of the other readers; there is one observation, "state".
        skip_bad: whether episodes with numbers that are not finite are left out.

    Raises:
        UsageError: that names file and array.
    """
    if len(action) > 1:
        raise UsageError(f"{path} is of D4RL's format, whose action is one array; {', '.join(action)} were named")
    chosen = action[0] if action else "actions"
    path = Path(path).expanduser()
    with opened(path) as file:
        where = str(path)
        actions = as_actions(array(file, chosen, where), where)
        state = array(file, "observations", where)
        rewards = np.asarray(array(file, "rewards", where), dtype=np.float64).reshape(-1)
        terminal = _flags(array(file, "terminals", where))
        timeout = _flags(array(file, "timeouts", where)) if "timeouts" in file else None
        following = array(file, "next_observations", where) if "next_observations" in file else None
        left_out = sorted(set(file) - _READ - {chosen})
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
        timeout = _timed_out(terminal & (not _marks_states(terminal)), episode_steps)
    marks = _marks_states(terminal & ~timeout)
    if marks:
        warnings.warn(
            f"{path}: 'terminals' is set at {int(terminal.sum())} steps, most of them one after the other, as near a "
            "goal at which episodes go on; episodes are taken to end at time-outs alone",
            stacklevel=2,
        )
    ends_at = timeout if marks else terminal | timeout
    ends = np.flatnonzero(ends_at) + 1
    if not len(ends) or ends[-1] != len(actions):
        ends = np.append(ends, len(actions))
    last = ends - 1
    return Demonstrations.usable(
        skip_bad=skip_bad,
        observations={"state": state},
        actions=actions,
        episode_ends=ends.astype(np.int64),
        last_observations=None if following is None else {"state": following[last]},
        rewards=rewards,
        terminated=None if marks else terminal[last],
        truncated=timeout[last] & ~(terminal[last] & (not marks)),
        meta={"source": str(path), "format": "d4rl", **({"left_out": left_out} if left_out else {})},
    )


def _flags(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(-1).astype(bool)


def _marks_states(terminal: np.ndarray) -> bool:
    """Return whether most terminal steps directly follow another: then they end no episodes."""
    following = int((terminal[1:] & terminal[:-1]).sum())
    return following > MOST_OF_ONE_STEP * int(terminal.sum())


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
