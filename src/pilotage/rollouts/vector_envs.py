"""Environments side by side, every episode from its declared start: our own lanes, or Gymnasium's VectorEnv.

In a VectorEnv that resets by itself the seed of the next episode cannot be chosen, so its lanes start together and
each waits for the slowest; what it does after its end is thrown away. Lanes made from a function, and a VectorEnv with
autoreset disabled, take the next declared episode as soon as they are free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pilotage.core.errors import UsageError

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True)
class EpisodeStart:
    """How one episode begins: what `reset` is given."""

    seed: int
    """Seed of the environment's own random numbers, 0 or more."""
    options: Mapping[str, Any] | None = None
    """An initial state or goal, in the environment's own words."""


@dataclass(frozen=True)
class EnvStep:
    """What one lane answered. `observation` is the one the action led to, also where the episode ended."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any] = field(default_factory=dict)


class Lanes(Protocol):
    """Several environments that are stepped together."""

    name: str
    """The environment's, for the record."""
    count: int
    together: bool
    """Whether lanes can only be reset all at once."""
    action_space: Any

    def reset(self, starts: Mapping[int, EpisodeStart]) -> dict[int, Any]:
        """Begins an episode in each of these lanes; returns their first observations."""
        ...

    def step(self, actions: Mapping[int, np.ndarray]) -> dict[int, EnvStep]:
        """Return one step in each of these lanes."""
        ...

    def render(self, lane: int) -> Any:
        """Return the current frame, [height, width, 3] uint8."""
        ...

    def close(self) -> None:
        """Release what was opened."""
        ...


class EnvLanes:
    """Lanes of single environments, made when they are first needed."""

    together = False

    def __init__(self, make: Callable[[], gymnasium.Env], count: int) -> None:
        self.count = count
        self._make = make
        self._envs: list[gymnasium.Env] = [make()]
        self.action_space = self._envs[0].action_space
        self.name = _name(self._envs[0])

    def _env(self, lane: int) -> gymnasium.Env:
        while len(self._envs) <= lane:
            self._envs.append(self._make())
        return self._envs[lane]

    def reset(self, starts: Mapping[int, EpisodeStart]) -> dict[int, Any]:
        """Begin an episode."""
        return {
            lane: self._env(lane).reset(seed=start.seed, options=_own(start.options))[0]
            for lane, start in starts.items()
        }

    def step(self, actions: Mapping[int, np.ndarray]) -> dict[int, EnvStep]:
        """Act for one step in each of these environments."""
        done = {}
        for lane, action in actions.items():
            observation, reward, terminated, truncated, info = self._envs[lane].step(action)
            done[lane] = EnvStep(observation, float(reward), bool(terminated), bool(truncated), info)
        return done

    def render(self, lane: int) -> Any:
        """Return the current frame, [height, width, 3] uint8."""
        return self._envs[lane].render()

    def close(self) -> None:
        """Release what was opened."""
        for env in self._envs:
            env.close()


class VectorLanes:
    """Lanes of a VectorEnv, in any of Gymnasium's three reset modes."""

    def __init__(self, env: gymnasium.vector.VectorEnv) -> None:
        from gymnasium.vector import AutoresetMode

        mode = env.metadata.get("autoreset_mode")
        if mode not in tuple(AutoresetMode):
            raise UsageError(
                f"the VectorEnv {env} does not say how it resets (metadata['autoreset_mode'] is {mode!r}); Gymnasium "
                "1.1 and later do: give one of gymnasium.vector.AutoresetMode, or a function that makes one environment"
            )
        self.count = env.num_envs
        self.together = mode != AutoresetMode.DISABLED
        self.action_space = env.single_action_space
        self.name = _name(env)
        self._env: Any = env  # Gymnasium types the seed of a VectorEnv as one number, and takes a list
        self._same_step = mode == AutoresetMode.SAME_STEP
        self._last_actions: dict[int, np.ndarray] = {}
        self._over: np.ndarray | None = None
        """[lanes] whether a lane's episode has ended; None before the first reset."""

    def reset(self, starts: Mapping[int, EpisodeStart]) -> dict[int, Any]:
        """Begin an episode."""
        return self._reset_all(starts) if self.together else self._reset_each(starts)

    def _reset_all(self, starts: Mapping[int, EpisodeStart]) -> dict[int, Any]:
        some = next(iter(starts.values()))
        if any(repr(start.options) != repr(some.options) for start in starts.values()):
            raise UsageError(
                "a VectorEnv that resets by itself gives all its lanes the same options, and the starts declared here "
                "have different ones: make it with autoreset_mode=DISABLED, or give a function that makes one "
                "environment"
            )
        # Lanes that are not asked for run too; what they do is thrown away.
        seeds: list[int | None] = [starts.get(lane, some).seed for lane in range(self.count)]
        first, _ = self._env.reset(seed=seeds, options=_own(some.options))
        return {lane: _of_lane(first, lane) for lane in starts}

    def _reset_each(self, starts: Mapping[int, EpisodeStart]) -> dict[int, Any]:
        if self._over is None:
            self._env.reset(seed=[0] * self.count)
            self._over = np.zeros(self.count, dtype=np.bool_)
        return {lane: _of_lane(self._reset_one(lane, start), lane) for lane, start in starts.items()}

    def _reset_one(self, lane: int, start: EpisodeStart) -> Any:
        assert self._over is not None
        mask = np.arange(self.count) == lane
        seeds: list[int | None] = [start.seed] * self.count
        observations, _ = self._env.reset(seed=seeds, options={**(start.options or {}), "reset_mask": mask})
        self._over[lane] = False
        return observations

    def step(self, actions: Mapping[int, np.ndarray]) -> dict[int, EnvStep]:
        """Act for one step in each of these environments."""
        if self._over is not None:  # a lane that is over must not be stepped, and none can be left out
            for lane in np.flatnonzero(self._over).tolist():
                self._reset_one(lane, EpisodeStart(0))
        self._last_actions.update(actions)
        some = next(iter(actions.values()))
        batch = np.stack([self._last_actions.get(lane, some) for lane in range(self.count)])
        observations, rewards, terminated, truncated, infos = self._env.step(batch)
        done = {}
        for lane in actions:
            observation, info = _of_lane(observations, lane), _info_of_lane(infos, lane)
            if self._same_step and (terminated[lane] or truncated[lane]):
                first, observation = observation, infos["final_obs"][lane]
                info = _info_of_lane(infos["final_info"], lane)
                _check_final(observation, first)
            ends = bool(terminated[lane]), bool(truncated[lane])
            done[lane] = EnvStep(observation, float(rewards[lane]), *ends, info)
        if self._over is not None:
            self._over = np.asarray(terminated) | np.asarray(truncated)
        return done

    def render(self, lane: int) -> Any:
        """Return the current frame, [height, width, 3] uint8."""
        frames = self._env.render()
        return None if frames is None else frames[lane]

    def close(self) -> None:
        """The VectorEnv belongs to who made it."""


def _name(env: Any) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _check_final(final: Any, first: Any) -> None:
    """Gymnasium hands the final observation over by reference, after the reset that may have overwritten it."""
    pairs = [(final[name], first[name]) for name in first] if isinstance(first, Mapping) else [(final, first)]
    if all(np.array_equal(a, b) for a, b in pairs):
        raise UsageError(
            "the final observation of an episode equals the first of the next: the environment writes into one array, "
            "and a VectorEnv with autoreset_mode=SAME_STEP loses what stood in it; use NEXT_STEP or DISABLED"
        )


def _own(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if options is None else dict(options)


def _of_lane(batch: Any, lane: int) -> Any:
    if isinstance(batch, Mapping):
        return {name: _of_lane(value, lane) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_of_lane(value, lane) for value in batch)
    return np.array(batch[lane])


def _info_of_lane(infos: Mapping[str, Any], lane: int) -> dict[str, Any]:
    """Gymnasium's info of one lane: `infos[name][lane]`, where `infos["_" + name][lane]` says that there is one."""
    info = {}
    for name, values in infos.items():
        present = infos.get(f"_{name}")
        if present is not None and present[lane]:
            info[name] = _info_of_lane(values, lane) if isinstance(values, Mapping) else values[lane]
    return info
