"""What happens to a policy that does not look: things are moved in mid-episode, and actions arrive late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from pilotage.core.errors import UsageError


class Displaced(gymnasium.Wrapper):
    """Before step `at` of every episode something is moved by `size`, in a direction drawn from the episode's seed.

    Push-T: the block (pixels). Block push: the block nearest to the pusher (metres). Pillar: the point itself, sideways
    (metres). Mazes: the goal, to the free cell that is nearest to `size` metres away. The info says "displaced".
    """

    def __init__(self, env: gymnasium.Env, at: int = 20, size: float | None = None) -> None:
        """
        Args:
            env: one of the worlds above.
            at: steps before it happens, 1 or more, so that the policy has a plan by then.
            size: how far; None: a distance that suits the world.

        Raises UsageError for a world in which nothing can be moved.
        """
        super().__init__(env)
        name = type(env.unwrapped).__name__
        if name not in _MOVERS:
            raise UsageError(f"nothing can be displaced in a {name}; worlds with things to move: {', '.join(_MOVERS)}")
        if at < 1 or (size is not None and size <= 0):
            raise UsageError(f"at={at}, size={size}: expected a step of 1 or later, and a distance above 0")
        self._move, usual = _MOVERS[name]
        self.at, self.size = at, usual if size is None else size
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Raises UsageError without a seed, from which the direction is drawn."""
        if seed is None:
            raise UsageError("a disturbed episode is reset with a seed, from which the disturbance is drawn")
        self._generator = np.random.default_rng([seed, 1805])
        self._steps = 0
        shown, info = self.env.reset(seed=seed, options=options)
        return shown, {**info, "displaced": False}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        if self._steps == self.at:
            self._move(self.env.unwrapped, self.size, self._generator)
        self._steps += 1
        shown, reward, terminated, truncated, info = self.env.step(action)
        return shown, reward, terminated, truncated, {**info, "displaced": self._steps > self.at}


class Delayed(gymnasium.Wrapper):
    """Every action arrives `steps` steps late; until the first arrives the world is told to stay as it is."""

    def __init__(self, env: gymnasium.Env, steps: int) -> None:
        """steps: 0 or more. Raises UsageError where it is not known how the world stays as it is."""
        super().__init__(env)
        name = type(env.unwrapped).__name__
        if steps < 0 or name not in _REST:
            raise UsageError(f"a delay of {steps} steps in a {name}: expected 0 or more, in {', '.join(_REST)}")
        self._rest, self.steps = _REST[name], steps
        self._waiting: deque[np.ndarray] = deque()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._waiting.clear()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        self._waiting.append(np.array(action))
        arrived = len(self._waiting) > self.steps
        return self.env.step(self._waiting.popleft() if arrived else self._rest(self.env.unwrapped))


def _direction(generator: np.random.Generator) -> np.ndarray:
    angle = generator.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _move_t(world: Any, size: float, generator: np.random.Generator) -> None:
    block, space = world._inner.block, world._inner.space
    place = np.array(block.position) + size * _direction(generator)
    block.position = tuple(np.clip(place, 100, 412).tolist())
    block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
    space.reindex_shapes_for_body(block)


def _move_block(world: Any, size: float, generator: np.random.Generator) -> None:
    nearest = int(np.argmin(np.hypot(*(world.blocks - world.pusher).T)))
    body = world._blocks[nearest]
    shift = 1000 * size * _direction(generator)  # millimetres inside
    body.position = tuple((np.array(body.position) + shift).tolist())
    world._space.reindex_shapes_for_body(body)


def _move_point(world: Any, size: float, generator: np.random.Generator) -> None:
    world.state[1] += size * generator.choice([-1.0, 1.0])


def _move_goal(world: Any, size: float, generator: np.random.Generator) -> None:
    centres = [world.centre(cell) for cell in world.free_cells()]
    away = np.array([abs(float(np.hypot(*(centre - world.goal))) - size) for centre in centres])
    chosen = np.flatnonzero(away <= away.min() + 1e-6)
    world.goal = centres[int(chosen[int(generator.integers(len(chosen)))])].copy()


_MOVERS: Mapping[str, tuple[Callable[[Any, float, np.random.Generator], None], float]] = {
    "PushT": (_move_t, 40.0),
    "BlockPush": (_move_block, 0.05),
    "Pillar": (_move_point, 0.15),
    "PointMaze": (_move_goal, 2.0),
}
_REST: Mapping[str, Callable[[Any], np.ndarray]] = {
    "PushT": lambda world: world.state[:2],
    "BlockPush": lambda _: np.zeros(2),
    "Pillar": lambda _: np.zeros(2),
    "PointMaze": lambda _: np.zeros(2),
    "PickPlace": lambda _: np.array([0.0, 0.0, 0.0, 1.0]),
}
