"""Push-T: gym-pusht's world with states that can be restored exactly.

Real human demonstrations of it exist, and replaying their actions from their first states covers the goal as they did.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import GroundPlan

GOAL_POSE = (256.0, 256.0, np.pi / 4)
SUCCESS_COVERAGE = 0.95
_CORNERS = np.array(
    [(-60, 30), (60, 30), (60, 0), (-60, 0), (-15, 30), (-15, 120), (15, 120), (15, 30)], dtype=np.float64
)
"""Of the T's two bars, from the body's origin, pixels."""


class PushT(gymnasium.Env):
    """Push the T onto its goal pose. The reward is the coverage over 0.95, at most 1; more than 0.95 ends the episode.

    Observes, in pixels of a field of 512: "state" [pusher x, y, block x, y, angle in [0, 2 pi)]; "keypoints" [pusher x,
    y, x and y of the block's eight corners] (18), which has no jump at 2 pi; "pixels" {"state": pusher x, y,
    "image/top": [96, 96, 3] uint8}. Acts by the position [x, y] that the pusher shall go to, 10 steps a second. The
    info has "success" and "coverage" in [0, 1].

    A seed alone gives the start that gym-pusht draws from it, which published numbers use.
    `reset(options={"state": [5]})` restores that state exactly: angle first, since turning moves the origin about the
    centre of gravity, then positions, at rest.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium declares it per instance
        "render_modes": ["rgb_array"],
        "render_fps": 10,
    }

    measures = ("coverage",)
    """Entries of `info` that evaluations report."""

    def __init__(
        self,
        observation: Literal["state", "keypoints", "pixels"] = "state",
        max_steps: int = 300,
        image_size: int = 96,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            observation: what is shown.
            max_steps: after so many steps the episode is truncated.
            image_size: pixels of the shown image; pictures for people have 384.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        from gym_pusht.envs.pusht import PushTEnv

        if observation not in ("state", "keypoints", "pixels"):
            raise UsageError(f"Push-T shows 'state', 'keypoints' or 'pixels'; {observation!r} was asked for")
        size = {"observation_width": image_size, "observation_height": image_size}
        large = {"visualization_width": 384, "visualization_height": 384}
        self._inner = PushTEnv(obs_type="state", render_mode="rgb_array", **size, **large)
        self._observation, self._max_steps, self.render_mode = observation, max_steps, render_mode
        self.action_space = spaces.Box(0.0, 512.0, (2,), np.float32)
        # The T can lean over the field's edge, and its origin is not its middle.
        state = spaces.Box(
            np.array([-128.0] * 4 + [0.0], np.float32),
            np.array([640.0] * 4 + [2 * np.pi], np.float32),
            dtype=np.float32,
        )
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space: spaces.Space = {
            "state": state,
            "keypoints": spaces.Box(-256.0, 768.0, (18,), np.float32),
            "pixels": spaces.Dict({"state": spaces.Box(-128.0, 640.0, (2,), np.float32), "image/top": image}),
        }[observation]

    @property
    def state(self) -> np.ndarray:
        """Return float64, [pusher x, y, block x, y, angle]."""
        return np.asarray(self._inner.get_obs())

    def plan(self) -> GroundPlan:
        """Return the map of the world."""
        return GroundPlan((0, 512, 0, 512), goals=[(*GOAL_POSE[:2], 30.0)], unit="px", downwards=True)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._inner.reset(seed=int(self.np_random.integers(2**31)) if seed is None else seed)
        if options and "state" in options:
            self._restore(np.asarray(options["state"], dtype=np.float64))
        self._steps = 0
        self._inner._last_action = None  # it is drawn into pictures
        return self._shown(), self._info(self._inner._get_coverage())

    def _restore(self, state: np.ndarray) -> None:
        if state.shape != (5,) or not np.isfinite(state).all():
            raise UsageError(f"the state of Push-T is [pusher x, y, block x, y, angle]; {state} was given")
        self._inner._setup()
        agent, block = self._inner.agent, self._inner.block
        agent.position = tuple(state[:2])
        block.angle = float(state[4])
        block.position = tuple(state[2:4])
        for body in (agent, block):
            body.velocity, body.angular_velocity = (0.0, 0.0), 0.0
            self._inner.space.reindex_shapes_for_body(body)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        wanted = np.clip(np.asarray(action, dtype=np.float64), 0, 512)
        _, reward, terminated, _, inner = self._inner.step(wanted)
        self._steps += 1
        truncated = not terminated and self._steps >= self._max_steps
        return self._shown(), float(reward), bool(terminated), truncated, self._info(inner["coverage"])

    def _shown(self) -> Any:
        if self._observation == "pixels":
            return {"state": self.state[:2].astype(np.float32), "image/top": np.array(self._inner._render())}
        return shown_state(self.state, self._observation)

    def _info(self, coverage: float) -> dict[str, Any]:
        return {"success": bool(coverage > SUCCESS_COVERAGE), "coverage": float(coverage)}

    def render(self) -> np.ndarray | None:
        """Return the current frame, [height, width, 3] uint8."""
        return None if self.render_mode is None else np.array(self._inner.render())

    def close(self) -> None:
        """Release what was opened."""
        self._inner.close()


def shown_state(states: np.ndarray, observation: str) -> np.ndarray:
    """Recorded states as the environment would show them.

    Args:
        states: [..., 5] pusher x, y, block x, y, angle.
        observation: "state" or "keypoints".

    Returns:
        [..., 5] or [..., 18] float32. Raises UsageError for images, which states do not hold.
    """
    states = np.asarray(states, dtype=np.float64)
    if observation == "state":
        return states.astype(np.float32)
    if observation != "keypoints":
        raise UsageError(f"states can be shown as 'state' or 'keypoints', not as {observation!r}")
    cos, sin = np.cos(states[..., 4, None]), np.sin(states[..., 4, None])
    x = states[..., 2, None] + cos * _CORNERS[:, 0] - sin * _CORNERS[:, 1]
    y = states[..., 3, None] + sin * _CORNERS[:, 0] + cos * _CORNERS[:, 1]
    corners = np.stack([x, y], axis=-1).reshape(*states.shape[:-1], 16)
    return np.concatenate([states[..., :2], corners], axis=-1).astype(np.float32)
