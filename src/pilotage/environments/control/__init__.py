"""Control environments by name: ours, and any that Gymnasium has registered.

`control_env("ring")` makes one. Nothing heavy is imported before."""

from __future__ import annotations

import difflib
import importlib
import os
from typing import TYPE_CHECKING, Any

from pilotage.core.errors import UsageError
from pilotage.environments.control.experts import Expert, collect, episode_seed

if TYPE_CHECKING:
    import gymnasium

_HERE = "pilotage.environments.control"
_FIXED = {"noise": 0.0}
_FREE = {"start_cell": None, "goal_cell": None}
CONTROL_ENVS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "push-t": ("push_t", "PushT", {}),
    "ring": ("mazes", "PointMaze", {"layout": "ring"}),
    "ring-fixed": ("mazes", "PointMaze", {"layout": "ring", **_FIXED}),
    "lattice": ("mazes", "PointMaze", {"layout": "lattice"}),
    "lattice-fixed": ("mazes", "PointMaze", {"layout": "lattice", **_FIXED}),
    "lattice-goals": ("mazes", "PointMaze", {"layout": "lattice", "goal_conditioned": True, **_FREE}),
    "lattice-play": (
        "mazes",
        "PointMaze",
        {"layout": "lattice", "goal_conditioned": True, "ends_at_goal": False, "max_steps": 500, **_FREE},
    ),
    "pillar": ("pillar", "Pillar", {}),
    "block-push": ("block_push", "BlockPush", {"relative": True}),
    "block-push-goals": ("block_push", "BlockPush", {"relative": True, "goal_conditioned": True}),
    "pick-place": ("pick_place", "PickPlace", {}),
}
"""Name: module, class, options."""
EXPERTS: dict[str, tuple[str, str]] = {
    "ring": ("mazes", "WaypointExpert"),
    "lattice": ("mazes", "WaypointExpert"),
    "lattice-play": ("mazes", "PlayExpert"),
    "pillar": ("pillar", "SwerveExpert"),
    "block-push": ("block_push", "PushOracle"),
    "pick-place": ("pick_place", "GraspExpert"),
}
"""Who demonstrates; a name with an ending shares the expert of the name without. Push-T has human demonstrations."""
_NEEDED = ("gymnasium", "gymnasium_robotics", "mujoco", "gym_pusht", "pymunk", "pygame", "shapely", "cv2", "PIL")


def control_env(name: str, **options: Any) -> gymnasium.Env:
    """The environment called `name`, with options of its class ahead of those of the name.

    name: one of CONTROL_ENVS, or an id that Gymnasium has registered ("Pendulum-v1").
    Raises UsageError for an unknown name, with the nearest ones, and for a missing package, with the line that
    installs it."""
    if name in CONTROL_ENVS:
        module, cls, own = CONTROL_ENVS[name]
        with _Packages():
            return getattr(importlib.import_module(f"{_HERE}.{module}"), cls)(**{**own, **options})
    with _Packages():
        import gymnasium
    if name in gymnasium.registry or ":" in name:
        return gymnasium.make(name, **options)
    near = difflib.get_close_matches(name, [*CONTROL_ENVS, *gymnasium.registry], n=2)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"there is no control environment {name!r}; {hint}There are {', '.join(CONTROL_ENVS)}, and the ids that "
        "Gymnasium has registered (MODULE:ID imports a module that registers its own)"
    )


def control_expert(name: str, **options: Any) -> Expert:
    """The scripted expert of the environment called `name`. Raises UsageError where there is none."""
    key = max((known for known in EXPERTS if name == known or name.startswith(f"{known}-")), key=len, default=None)
    if key is None:
        raise UsageError(f"{name!r} has no scripted expert; those with one: {', '.join(EXPERTS)}")
    module, cls = EXPERTS[key]
    with _Packages():
        return getattr(importlib.import_module(f"{_HERE}.{module}"), cls)(**options)


class _Packages:
    """Says how to install what a world needs."""

    def __enter__(self) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _NEEDED:
            raise UsageError(
                f"control environments need {error.name}, which is not installed: pip install 'pilotage[robots]'"
            ) from error
        if isinstance(error, ImportError) and "libGL" in str(error):
            raise UsageError(
                f"OpenCV, which gym-pusht draws with, cannot be loaded ({error}): on Debian and Ubuntu `apt-get "
                "install libgl1 libglib2.0-0`, or replace opencv-python by opencv-python-headless"
            ) from error


__all__ = ["CONTROL_ENVS", "EXPERTS", "Expert", "collect", "control_env", "control_expert", "episode_seed"]
