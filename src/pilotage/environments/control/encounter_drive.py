"""Encounter in closed loop, as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pilotage.environments.control.encounter import (
    ACCELERATION_LIMIT,
    DT,
    PERSON_RADIUS,
    ROBOT_RADIUS,
    ROOM,
    STEPS,
    TURN_LIMIT,
    Encounters,
    draw_encounters,
    length,
    walked,
)
from pilotage.environments.control.geometry import roll_out
from pilotage.system import UsageError

try:
    import gymnasium as gym
except ModuleNotFoundError as missing:
    raise UsageError("environments need gymnasium: pip install 'pilotage[robots]'") from missing


class Encounter(gym.Env[np.ndarray, np.ndarray]):
    """Reach the goal in time and keep your distance.

    action [2] in ±1: turn rate and acceleration in units of their limits, held for half a second.
    observation [13]: robot x, y, cos and sin of the heading, speed; person x, y, velocity; goal x, y; its radius;
    seconds left.
    reward: 1 on reaching the goal, −1 on touching the person or leaving the room, each of which ends the episode.
    info: clearance in m, reached, collision, outside."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, *, yielding: bool = False, radius: float = 0.5, steps: int = STEPS) -> None:
        if not radius > 0 or steps < 1:
            raise UsageError(f"expected a goal radius above 0 m and at least one step, got {radius} and {steps}")
        self.yielding, self.radius, self.steps = yielding, radius, steps
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (13,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**31)))
        self._drawn = draw_encounters(1, generator)
        self._state, self._time = self._drawn.start[0], 0
        self._person = self._drawn.person[0, :2]
        return self._observed(), self._information()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        limits = torch.tensor([TURN_LIMIT, ACCELERATION_LIMIT])
        control = torch.as_tensor(np.clip(action, -1.0, 1.0), dtype=torch.float32) * limits
        self._person = walked(self._person, self._drawn.person[0, 2:], self._state, self.yielding)
        self._state = roll_out(self._state, control[None], DT)[-1]
        self._time += 1
        info = self._information()
        failed = info["collision"] or info["outside"]
        reward = -1.0 if failed else float(info["reached"])
        return self._observed(), reward, failed or info["reached"], self._time >= self.steps, info

    def encounters(self) -> Encounters:
        """The encounter as it stands, as a batch of one for a planner."""
        person = torch.cat([self._person, self._drawn.person[0, 2:]])
        return Encounters(self._state[None], self._drawn.goal, person[None])

    def _observed(self) -> np.ndarray:
        x, y, heading, speed = self._state.tolist()
        left = (self.steps - self._time) * DT
        robot = [x, y, np.cos(heading), np.sin(heading), speed]
        others = [*self._person.tolist(), *self._drawn.person[0, 2:].tolist(), *self._drawn.goal[0].tolist()]
        return np.array([*robot, *others, self.radius, left], dtype=np.float32)

    def _information(self) -> dict[str, Any]:
        near = float(length(self._state[:2] - self._person)) - ROBOT_RADIUS - PERSON_RADIUS
        return {
            "clearance": near,
            "reached": float(length(self._state[:2] - self._drawn.goal[0])) <= self.radius,
            "collision": near <= 0,
            "outside": not bool(((self._state[:2] >= 0) & (self._state[:2] <= ROOM)).all()),
        }
