"""Pick and place with a gripper that is either open or closed: Gymnasium-Robotics' Fetch arm.

The fourth action is thresholded at 0 to a full opening or closing, so it is a discrete dimension among continuous ones.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from pilotage.core.errors import UsageError
from pilotage.environments.control.graphics import explain_rendering

REACHED = 0.05
"""Distance in metres from object to goal that counts as there."""
DISTURBANCES = ("slip", "nudge")


class PickPlace(gymnasium.Env):
    """Bring the object to the goal, on the table or in the air, and hold it there for `hold` steps: reward 1, and the
    episode ends.

    Observes the 25 numbers of FetchPickAndPlace (gripper, object, object from gripper, fingers, object's rotation and
    velocities, gripper's and fingers' velocities) and the goal x, y, z (28), with `goal_conditioned` {"state": the 25,
    "goal": [3]}. Acts by a shift of the gripper [dx, dy, dz] in [-1, 1] (times 0.05 m) and the fingers: 0 or more
    opens, less closes; 25 steps a second. The info has "success", "distance", "attempts" (how often the fingers began
    to close around the object), "disturbed".

    `reset(options={"disturbance": NAME})` makes the first grasp of that episode fail once: "slip" opens the fingers
    for five steps after they began to close, "nudge" moves the object by 4 cm as they begin.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium declares it per instance
        "render_modes": ["rgb_array"],
        "render_fps": 25,
    }

    def __init__(
        self,
        goal_conditioned: bool = False,
        hold: int = 3,
        max_steps: int = 100,
        image_size: int = 256,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            goal_conditioned: shows the goal apart from the state.
            hold: steps in a row that the object must be at the goal.
            max_steps: after so many steps the episode is truncated.
            image_size: pixels of a rendered frame.
        """
        from gymnasium_robotics.envs.fetch.pick_and_place import MujocoFetchPickAndPlaceEnv

        self._inner = MujocoFetchPickAndPlaceEnv()
        self._image_size = image_size
        self._renderer: Any = None
        model = self._inner.model
        # As shipped a frame takes a hundred times longer.
        model.vis.quality.shadowsize, model.vis.quality.offsamples = 0, 0
        model.light_castshadow[:] = 0
        handle = self._inner._model_names.body_name2id["robot0:mocap"]  # crossed bars through the whole picture
        model.geom_rgba[model.geom_bodyid == handle, 3] = 0
        self.render_mode, self._hold, self._max_steps = render_mode, hold, max_steps
        self._goal_conditioned = goal_conditioned
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space: spaces.Space = (
            spaces.Dict({"state": spaces.Box(-50, 50, (25,), np.float32), "goal": spaces.Box(-5, 5, (3,), np.float32)})
            if goal_conditioned
            else spaces.Box(-50, 50, (28,), np.float32)
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        disturbance = (options or {}).get("disturbance")
        if disturbance not in (None, *DISTURBANCES):
            raise UsageError(f"a grasp is disturbed by {' or '.join(DISTURBANCES)}; {disturbance!r} was given")
        shown, _ = self._inner.reset(seed=int(self.np_random.integers(2**31)))
        self._keep(shown)
        self._disturbance, self._open_for, self._disturbed = disturbance, 0, False
        self._steps = self._held = self.attempts = 0
        self._closing = False
        return self._shown(), self._info(False)

    def _keep(self, shown: dict[str, np.ndarray]) -> None:
        self.state, self.goal = np.array(shown["observation"]), np.array(shown["desired_goal"])
        self.gripper, self.object, self.offset = self.state[:3], self.state[3:6], self.state[6:9]

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        wanted = np.clip(np.asarray(action, dtype=np.float64), -1, 1)
        wanted[3] = self._fingers(-1.0 if wanted[3] < 0 else 1.0)
        shown, *_ = self._inner.step(wanted)
        self._keep(shown)
        self._steps += 1
        self._held = self._held + 1 if self.distance <= REACHED else 0
        success = self._held >= self._hold
        truncated = not success and self._steps >= self._max_steps
        return self._shown(), float(success), success, truncated, self._info(success)

    def _fingers(self, wanted: float) -> float:
        """What the fingers are told: the policy's word, unless the disturbance has its turn."""
        begins = wanted < 0 and not self._closing and float(np.linalg.norm(self.offset)) < 0.03
        if wanted > 0:
            self._closing = False
        elif begins:
            self._closing = True
            self.attempts += 1
            if self._disturbance and not self._disturbed:
                self._disturbed = True
                if self._disturbance == "slip":
                    self._open_for = 7  # two steps to close, five open
                else:
                    self._nudge()
        if self._open_for:
            self._open_for -= 1
            return 1.0 if self._open_for < 5 else wanted
        return wanted

    def _nudge(self) -> None:
        # Out of the fingers, which close along y.
        angle = self.np_random.uniform(-np.pi / 4, np.pi / 4) + np.pi * self.np_random.integers(2)
        utils, inner = self._inner._utils, self._inner
        pose = utils.get_joint_qpos(inner.model, inner.data, "object0:joint").copy()
        pose[:2] += 0.04 * np.array([np.cos(angle), np.sin(angle)])
        utils.set_joint_qpos(inner.model, inner.data, "object0:joint", pose)

    @property
    def distance(self) -> float:
        """Return the distance of the object from its goal, in metres."""
        return float(np.linalg.norm(self.object - self.goal))

    def _shown(self) -> Any:
        if self._goal_conditioned:
            return {"state": self.state.astype(np.float32), "goal": self.goal.astype(np.float32)}
        return np.concatenate([self.state, self.goal]).astype(np.float32)

    def _info(self, success: bool) -> dict[str, Any]:
        return {
            "success": success,
            "distance": self.distance,
            "attempts": self.attempts,
            "disturbed": self._disturbed,
            "mode": None,
        }

    def render(self) -> np.ndarray | None:
        """Return the current frame, [height, width, 3] uint8."""
        if self.render_mode is None:
            return None
        with explain_rendering():
            return self._drawn()

    def _drawn(self) -> np.ndarray:
        import mujoco

        model = self._inner.model
        if self._renderer is None:
            model.vis.global_.offwidth = model.vis.global_.offheight = self._image_size
            self._renderer = mujoco.Renderer(model, self._image_size, self._image_size)
        # Drawing brings positions and forces up to date, which the next step would feel: a copy is drawn.
        data = copy.copy(self._inner.data)
        target = self._inner._model_names.site_name2id["target0"]
        model.site_pos[target] = self.goal - (data.site_xpos[target] - model.site_pos[target])
        mujoco.mj_forward(model, data)
        camera = mujoco.MjvCamera()
        camera.lookat[:], camera.distance = (1.25, 0.75, 0.6), 1.7
        camera.azimuth, camera.elevation = 145.0, -20.0
        self._renderer.update_scene(data, camera)
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Release what was opened."""
        if self._renderer is not None:
            self._renderer.close()
        self._inner.close()


class GraspExpert:
    """Goes above the object, down, closes, carries it to the goal. Where the grasp failed it begins again."""

    disturbance = 0.0

    def __init__(self, noise: float = 0.0) -> None:
        """noise: standard deviation of what is added to the three shifts."""
        self.noise = noise

    def reset(self, env: gymnasium.Env, generator: np.random.Generator, turn: int) -> None:  # noqa: ARG002
        """Begin an episode."""
        self._generator = generator
        self._phase, self._closed = "above", 0

    def act(self, env: gymnasium.Env) -> np.ndarray:
        """Return the next action of each row."""
        world = env.unwrapped
        assert isinstance(world, PickPlace)
        aside = float(np.hypot(*world.offset[:2]))
        if self._phase == "above" and aside < 0.008 and abs(world.offset[2] + 0.06) < 0.02:
            self._phase = "down"
        if self._phase == "down" and float(np.linalg.norm(world.offset)) < 0.01:
            self._phase, self._closed = "close", 0
        if self._phase == "close" and self._closed >= 3:
            self._phase = "carry"
        if self._phase in ("down", "carry") and float(np.linalg.norm(world.offset)) > 0.1:
            self._phase = "above"
        if self._phase == "carry" and float(np.linalg.norm(world.offset)) > 0.04:
            self._phase = "above"
        target = {
            "above": world.object + np.array([0, 0, 0.06]),
            "down": world.object,
            "close": world.gripper,
            "carry": world.gripper + (world.goal - world.object),
        }[self._phase]
        self._closed += self._phase == "close"
        shift = 10 * (target - world.gripper) + self.noise * self._generator.normal(size=3)
        return np.append(np.clip(shift, -1, 1), -1.0 if self._phase in ("close", "carry") else 1.0)
