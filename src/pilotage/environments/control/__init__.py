"""Control environments by name: those that systems declare in the slot `env`, and any that Gymnasium has registered.

`control_env("ring")` makes one. Nothing heavy is imported before. What evaluations need to know of an environment
stands at it, as attributes that may be left out: `measures` (entries of `info` to report), `place_dims` (entries of the
state that say where on its map the acting body is) and `goal_dims` (entries that its goal speaks of).
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.references import is_of_session, is_reference, load_file, load_function, look_in_current_folder
from pilotage.core.registry import find_pieces
from pilotage.environments.control.experts import Expert, collect, episode_seed

if TYPE_CHECKING:
    import gymnasium

_NEEDED = ("gymnasium", "gymnasium_robotics", "mujoco", "gym_pusht", "pymunk", "pygame", "shapely", "cv2", "PIL")


def control_env(name: str, **options: Any) -> gymnasium.Env:
    """Return the environment called `name`, made with `options`.

    Args:
        name: a piece of the slot `env`; an id that Gymnasium has registered ("Pendulum-v1"), "module:id" for one that a
            module registers and "file.py:id" for one of a file; or a class or function of your own that gives a
            `gymnasium.Env`, "my_env.py:MyEnv" or "my_package.my_env:MyEnv".
        options: arguments of its class, ahead of those that its name stands for.

    Raises:
        UsageError: for an unknown name, with the nearest ones, and for a missing package, with the line that installs
            it.
    """
    ours = find_pieces("env")
    if name in ours:
        with _Packages():
            made: gymnasium.Env = load_function(ours[name])(**options)
            return made
    with _Packages():
        import gymnasium
    look_in_current_folder()
    if is_of_session(name) or (name not in gymnasium.registry and is_reference(name)):
        return _own_env(name, options)
    file, _, identifier = name.rpartition(":")
    if file.endswith(".py"):
        load_file(file)
        if identifier not in gymnasium.registry:
            raise UsageError(f"{file} neither defines nor registers an environment {identifier!r}")
        return gymnasium.make(identifier, **options)
    if name in gymnasium.registry or ":" in name:
        return gymnasium.make(name, **options)
    raise UsageError(
        f"there is no control environment {name!r}{nearest(name, [*ours, *gymnasium.registry])}; there are "
        f"{', '.join(ours)}, the ids that Gymnasium has registered (MODULE:ID imports the module that registers ID), "
        "and environments of your own (my_env.py:MyEnv)"
    )


def _own_env(name: str, options: dict[str, Any]) -> gymnasium.Env:
    """Return the environment of a class or function of the user's, given those options that it takes."""
    import gymnasium

    make = load_function(name)
    parameters = inspect.signature(make).parameters
    everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    made = make(**{key: value for key, value in options.items() if everything or key in parameters})
    if not isinstance(made, gymnasium.Env):
        raise UsageError(f"{name} gives a {type(made).__name__}; expected a gymnasium.Env")
    for space in ("observation_space", "action_space"):
        if not isinstance(getattr(made, space, None), gymnasium.Space):
            raise UsageError(f"{name}: set self.{space} to a space of Gymnasium in the constructor")
    return made


def renders(env: gymnasium.Env) -> bool:
    """Return whether an environment says that it renders pictures."""
    return "rgb_array" in (env.metadata or {}).get("render_modes", ())


def control_expert(name: str, **options: Any) -> Expert:
    """Return the scripted expert of the environment called `name`. Raises UsageError where there is none."""
    with _Packages():
        expert: Expert = load_function(_expert_reference(name))(**options)
        return expert


def demonstration_modules(name: str) -> list[str]:
    """Return the modules of an environment and its expert, on which what the expert shows depends."""
    references = (find_pieces("env")[name], _expert_reference(name))
    return sorted({reference.partition(":")[0] for reference in references})


def _expert_reference(name: str) -> str:
    """Return who demonstrates in an environment: its own expert, or that of the longest name which its name extends."""
    experts = find_pieces("expert")
    key = max((known for known in experts if name == known or name.startswith(f"{known}-")), key=len, default=None)
    if key is None:
        raise UsageError(f"{name!r} has no scripted expert; those with one: {', '.join(experts)}")
    return experts[key]


class _Packages:
    """Says how to install what a world needs."""

    def __enter__(self) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UsageError):  # a reference that could not be loaded
            error = error.__cause__
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _NEEDED:
            raise UsageError(
                f"control environments need {error.name}, which is not installed: pip install 'pilotage[robots]'"
            ) from error
        if isinstance(error, ImportError) and "libGL" in str(error):
            raise UsageError(
                f"OpenCV, which gym-pusht draws with, cannot be loaded ({error}): on Debian and Ubuntu `apt-get "
                "install libgl1 libglib2.0-0`, or replace opencv-python by opencv-python-headless"
            ) from error


__all__ = ["Expert", "collect", "control_env", "control_expert", "demonstration_modules", "episode_seed", "renders"]
