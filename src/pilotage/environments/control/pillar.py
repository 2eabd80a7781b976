"""A pillar straight ahead: the world in which the average of two good ways is a crash.

A point mass stands on the line through the pillar to the goal, always at the same place. Experts drive straight on and
swerve to one side or the other as late as they can; half of them go each way. A policy that answers with the mean of
what they did drives into the pillar, and contact ends the episode.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import BLUE, INK, GroundPlan, draw_plan

START, GOAL, GOAL_RADIUS = (-1.6, 0.0), (1.0, 0.0), 0.12
PILLAR = (0.0, 0.0, 0.25)
"""x, y and radius of the pillar, the point's own size included."""
BOUNDS = (-1.9, 1.5, -1.0, 1.0)
MODES = ("left", "right")


class Pillar(gymnasium.Env):
    """Reach the goal behind the pillar without touching it. Reward 1 at the goal; contact and leaving the field end the
    episode without.

    Observes [x, y, vx, vy] in metres and metres a second, acts by an acceleration [ax, ay] in [-1, 1] (times 4 m/s²)
    against a drag of 2/s, 20 steps a second. The info has "success", "contact" and "mode" (the side of the pillar on
    which it was last beside it, seen in the direction of travel). `reset(options={"state": [x, y, vx, vy]})` sets the
    state; otherwise it is always the same.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium declares it per instance
        "render_modes": ["rgb_array"],
        "render_fps": 20,
    }

    place_dims = (0, 1)
    """Entries of the state that say where on the map the acting body is."""

    def __init__(self, max_steps: int = 120, render_mode: str | None = None) -> None:
        """max_steps: after so many steps the episode is truncated."""
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        high = np.array([2.5, 2, 3, 3], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.render_mode = render_mode
        self._max_steps = max_steps
        self.state = np.zeros(4)

    def plan(self) -> GroundPlan:
        """Return the map of the world."""
        return GroundPlan(BOUNDS, discs=[PILLAR], starts=[START], goals=[(*GOAL, GOAL_RADIUS)])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.state = np.array((options or {}).get("state", (*START, 0.0, 0.0)), dtype=np.float64)
        if self.state.shape != (4,):
            raise UsageError(f"the state of the pillar world is [x, y, vx, vy]; {self.state} was given")
        self._steps, self._trail = 0, [self.state[:2].copy()]
        self._mode: str | None = None
        return self.state.astype(np.float32), self._info(False, False)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        dt = 0.05
        push = 4.0 * np.clip(np.asarray(action, dtype=np.float64), -1, 1)
        before = self.state[:2].copy()
        self.state[2:] += dt * (push - 2.0 * self.state[2:])
        self.state[:2] += dt * self.state[2:]
        self._steps += 1
        self._trail.append(self.state[:2].copy())
        x, y = self.state[:2]
        if before[0] <= PILLAR[0] < x:
            self._mode = MODES[0] if y > PILLAR[1] else MODES[1]
        contact = _distance_to_segment(np.array(PILLAR[:2]), before, self.state[:2]) <= PILLAR[2]
        reached = not contact and bool(np.hypot(*(self.state[:2] - GOAL)) <= GOAL_RADIUS)
        outside = not (BOUNDS[0] <= x <= BOUNDS[1] and BOUNDS[2] <= y <= BOUNDS[3])
        terminated = contact or reached or outside
        truncated = not terminated and self._steps >= self._max_steps
        return self.state.astype(np.float32), float(reached), terminated, truncated, self._info(reached, contact)

    def _info(self, success: bool, contact: bool) -> dict[str, Any]:
        return {"success": success, "contact": contact, "mode": self._mode}

    def render(self) -> np.ndarray | None:
        """Return the current frame, [height, width, 3] uint8."""
        if self.render_mode is None:
            return None
        canvas = draw_plan(self.plan())
        canvas.path(self._trail, BLUE)
        canvas.disc(self.state[:2], 0.03, INK)
        return canvas.frame()


def _distance_to_segment(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    along = end - start
    length = float(along @ along)
    share = 0.0 if length == 0 else float(np.clip((point - start) @ along / length, 0, 1))
    return float(np.hypot(*(start + share * along - point)))


class SwerveExpert:
    """Wanders about the line until the swerve, then passes the pillar on its side and returns to the goal. Sides in
    turn.

    The wandering has nothing to do with the side. Without it a small error of a learned policy would tell it which of
    the two experts to follow, and even a regression would slip through.
    """

    disturbance = 0.0

    swerve_at = -0.8
    """x at which it leaves the line: a few steps later it would be too late."""
    beside = 0.45
    """Distance from the line at which it passes the pillar."""

    def __init__(self, noise: float = 0.05, wander: float = 0.1) -> None:
        """
        Args:
            noise: standard deviation of what is added to every action.
            wander: half width in metres of the lane before the swerve.
        """
        self.noise, self.wander = noise, wander

    def reset(self, env: gymnasium.Env, generator: np.random.Generator, turn: int) -> None:  # noqa: ARG002
        """Begin an episode."""
        self._generator = generator
        self.side = (1.0, -1.0)[turn % 2]
        self._lane, self._steps = 0.0, 0

    def act(self, env: gymnasium.Env) -> np.ndarray:
        """Return the next action of each row."""
        assert isinstance(env.unwrapped, Pillar)
        if self._steps % 4 == 0:
            self._lane = float(self._generator.uniform(-self.wander, self.wander))
        self._steps += 1
        clean = self.intent(env.unwrapped.state, self._lane)
        return np.clip(clean + self.noise * self._generator.normal(size=2), -1, 1)

    def intent(self, state: np.ndarray, lane: float = 0.0) -> np.ndarray:
        """Return the action [2] without noise in a state [x, y, vx, vy]; `lane` is the y to hold before the swerve."""
        x, y, vx, vy = state
        height = lane if x < self.swerve_at else self.side * self.beside if x < 0.25 else 0.0
        along = np.clip(4 * (1.0 - vx), -1, 1)
        across = np.clip(12 * (height - y) - 5 * vy, -1, 1)
        return np.array([along, across])
