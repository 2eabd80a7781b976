"""Planar multi-modal block push: two blocks into two targets, in any order and either way round.

A pymunk port of the PyBullet world of Implicit Behavioral Cloning and BeT: a disc pushes two square blocks that stop
when they are no longer pushed. Lengths are metres outside and millimetres inside, where pymunk's tolerances are made
for numbers of that size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import pymunk
from gymnasium import spaces

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import BLUE, GREEN, INK, ORANGE, PURPLE, GroundPlan, draw_plan

WORKSPACE = (0.15, 0.7, -0.5, 0.5)
"""x from, x to, y from, y to of the pusher."""
PUSHER_START = (0.3, -0.4)
PUSHER_RADIUS, BLOCK_SIDE, IN_TARGET, LARGEST_STEP = 0.01, 0.04, 0.05, 0.03
FIRST, SECOND = 0.49, 0.51
"""Reward of the first block in a target, and of both in different ones."""
_MM = 1000.0
_SUBSTEPS, _DT = 20, 0.005


class BlockPush(gymnasium.Env):
    """Push each block into a target of its own. Both in ends the episode.

    Observes [block 1 x, y, yaw; block 2 x, y, yaw; pusher x, y; commanded pusher x, y; target 1 x, y, yaw; target 2 x,
    y, yaw] (16), with `goal_conditioned` {"state": the 16, "goal": [block 1 x, y, block 2 x, y] wanted}. Acts by a
    shift [dx, dy] of the commanded position, at most 0.03 m each, 10 steps a second. With `relative` 14 differences
    follow the 16: from the pusher to block 1, block 2 and the commanded position, from block 1 to target 1 and target
    2, from block 2 to both. A few millimetres decide how a push goes; networks of a laptop's size find them sooner so.

    The reward counts any block in any target: 0.49 when one first is, 0.51 when both are in different ones. "result" in
    the info counts only what the goal asks for, by the same weights: a policy that is blind to the goal can have a high
    reward. "mode" is what stands where, in the order in which it came there: "1A-2B" is block 1 in target A, then block
    2 in B.

    `reset(options={"state": [16], "goal": [4]})` sets either exactly.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium declares it per instance
        "render_modes": ["rgb_array"],
        "render_fps": 10,
    }

    place_dims = (6, 7)
    """Entries of the state that say where on the map the acting body is."""

    def __init__(
        self,
        goal_conditioned: bool = False,
        relative: bool = False,
        max_steps: int = 300,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            goal_conditioned: shows where each block shall go; drawn among the two ways round.
            relative: shows differences too.
            max_steps: after so many steps the episode is truncated.
        """
        self.action_space = spaces.Box(-LARGEST_STEP, LARGEST_STEP, (2,), np.float32)
        pose, point = [2.0, 2.0, np.pi], [2.0, 2.0]
        high = np.array([*pose, *pose, *point, *point, *pose, *pose, *([2.0] * 14 if relative else [])], np.float32)
        state = spaces.Box(-high, high, dtype=np.float32)
        self.observation_space: spaces.Space = (
            spaces.Dict({"state": state, "goal": spaces.Box(-2, 2, (4,), np.float32)}) if goal_conditioned else state
        )
        self._goal_conditioned, self._relative = goal_conditioned, relative
        self.goal_dims = (0, 1, 3, 4) if goal_conditioned else None
        """Entries of the state that the goal speaks of, in the goal's order."""
        self.measures = ("completed", "result") if goal_conditioned else ()
        """Entries of `info` that evaluations report."""
        self._max_steps, self.render_mode = max_steps, render_mode

    # ---- state

    @property
    def blocks(self) -> np.ndarray:
        """Return centres in metres, [2, 2]."""
        return np.array([body.position for body in self._blocks]) / _MM

    @property
    def pusher(self) -> np.ndarray:
        """Return the position of the pusher, [2]."""
        return np.array(self._pusher.position) / _MM

    @property
    def state(self) -> np.ndarray:
        """Return the 16 numbers, float64; angles in (-pi, pi]."""
        poses = [(*centre, _wrapped(body.angle)) for centre, body in zip(self.blocks, self._blocks, strict=True)]
        return np.concatenate([*poses, self.pusher, self.commanded, *self.target_poses])

    def plan(self) -> GroundPlan:
        """Return the workspace; targets stand where the current episode has them."""
        left, right, low, high = WORKSPACE
        goals = [(float(x), float(y), IN_TARGET) for x, y, _ in self.target_poses]
        return GroundPlan((left - 0.05, right + 0.05, low, high - 0.1), starts=[PUSHER_START], goals=goals)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        given = options or {}
        state, swapped = self._drawn()
        state = np.asarray(given.get("state", state), dtype=np.float64)
        if state.shape != (16,):
            raise UsageError(f"the state of the block push has 16 numbers; {state.shape} was given")
        self.target_poses = state[10:].reshape(2, 3).copy()
        self.targets = self.target_poses[:, :2]
        self.commanded = state[8:10].copy()
        self._build(state)
        self.goal = np.asarray(given.get("goal", self.targets[[1, 0] if swapped else [0, 1]].ravel()), np.float64)
        if self.goal.shape != (4,):
            raise UsageError(
                f"the goal of the block push is where both blocks shall be, 4 numbers; {self.goal} was given"
            )
        self._steps, self._done, self._result = 0, 0.0, 0.0
        self._entered: list[str] = []
        self._inside: set[str] = set()
        self._trail = [self.pusher]
        return self._shown(), self._info(False)

    def _drawn(self) -> tuple[np.ndarray, bool]:
        random = self.np_random
        while True:
            blocks = np.stack([random.uniform(0.3, 0.5, 2), random.uniform(-0.1, 0.05, 2)], axis=1)
            if np.hypot(*(blocks[0] - blocks[1])) >= 0.1:
                break
        yaws = random.uniform(-np.pi, np.pi, 2)
        sign = random.choice([-1.0, 1.0])
        jitter = random.uniform(-0.05, 0.05, (2, 3)) * (0.1, 0.15, np.pi)
        targets = np.array([(0.4 + 0.12 * sign, 0.2, 0.0), (0.4 - 0.12 * sign, 0.2, 0.0)]) + jitter
        poses = np.column_stack([blocks, yaws])
        return np.concatenate([poses.ravel(), PUSHER_START, PUSHER_START, targets.ravel()]), bool(random.integers(2))

    def _build(self, state: np.ndarray) -> None:
        """A new space, so that nothing of the last episode is left in the solver."""
        space = self._space = pymunk.Space()
        space.damping = 0.0  # what is not pushed stands still
        space.collision_slop = 0.05
        self._blocks = []
        for x, y, yaw in state[:6].reshape(2, 3):
            side = BLOCK_SIDE * _MM
            body = pymunk.Body(1.0, pymunk.moment_for_box(1.0, (side, side)))
            body.position, body.angle = (x * _MM, y * _MM), yaw
            shape = pymunk.Poly.create_box(body, (side, side))
            shape.friction = 0.4
            space.add(body, shape)
            self._blocks.append(body)
        self._pusher = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self._pusher.position = tuple(state[6:8] * _MM)
        disc = pymunk.Circle(self._pusher, PUSHER_RADIUS * _MM)
        disc.friction = 0.4
        space.add(self._pusher, disc)

    # ---- what happens

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        left, right, low, high = WORKSPACE
        shift = np.clip(np.asarray(action, dtype=np.float64), -LARGEST_STEP, LARGEST_STEP)
        self.commanded = np.clip(self.commanded + shift, (left, low), (right, high))
        x, y = self.commanded * _MM
        for _ in range(_SUBSTEPS):
            at = self._pusher.position
            self._pusher.velocity = 25 * (x - at.x), 25 * (y - at.y)
            self._space.step(_DT)
        self._steps += 1
        self._trail.append(self.pusher)
        reward, both = self._reward()
        truncated = not both and self._steps >= self._max_steps
        return self._shown(), reward, both, truncated, self._info(both)

    def _reward(self) -> tuple[float, bool]:
        """The reward of this step, and whether both blocks are in different targets."""
        inside = np.hypot(*(self.blocks[:, None] - self.targets[None]).transpose(2, 0, 1)) < IN_TARGET
        for block in range(2):
            for target in range(2):
                pair = f"{block + 1}{'AB'[target]}"
                if inside[block, target] and pair not in self._entered:
                    self._entered.append(pair)
        self._inside = {f"{block + 1}{'AB'[target]}" for block, target in np.argwhere(inside)}
        both = bool((inside[0, 0] and inside[1, 1]) or (inside[0, 1] and inside[1, 0]))
        done = FIRST + SECOND if both else FIRST if inside.any() else 0.0
        reward, self._done = max(0.0, done - self._done), max(self._done, done)
        wanted = [int(np.argmin(np.hypot(*(self.targets - goal).T))) for goal in self.goal.reshape(2, 2)]
        asked = [bool(inside[block, target]) for block, target in enumerate(wanted)]
        self._result = max(self._result, FIRST + SECOND if all(asked) and both else FIRST if any(asked) else 0.0)
        return reward, both

    def _shown(self) -> Any:
        state = self.state.astype(np.float32)
        if self._relative:
            state = np.concatenate([state, self._differences().astype(np.float32)])
        return {"state": state, "goal": self.goal.astype(np.float32)} if self._goal_conditioned else state

    def _differences(self) -> np.ndarray:
        first, second = self.blocks
        one, other = self.targets
        pairs = [first - self.pusher, second - self.pusher, self.commanded - self.pusher]
        return np.concatenate([*pairs, one - first, other - first, one - second, other - second])

    def _info(self, success: bool) -> dict[str, Any]:
        return {
            "success": success,
            "mode": "-".join(pair for pair in self._entered if pair in self._inside) or None,
            "completed": self._done,
            "result": self._result,
        }

    def render(self) -> np.ndarray | None:
        """Return the current frame, [height, width, 3] uint8."""
        if self.render_mode is None:
            return None
        plan = self.plan()
        canvas = draw_plan(GroundPlan(plan.extent), pixels=384)
        for target, colour in zip(self.targets, (GREEN, PURPLE), strict=True):
            canvas.disc(target, IN_TARGET, colour, hollow=True)
        canvas.path(self._trail, BLUE)
        for body, colour in zip(self._blocks, (ORANGE, BLUE), strict=True):
            half = BLOCK_SIDE * _MM / 2
            corners = [
                body.local_to_world(c) / _MM for c in ((-half, -half), (half, -half), (half, half), (-half, half))
            ]
            canvas.polygon(corners, colour)
        canvas.disc(self.pusher, PUSHER_RADIUS, INK)
        return canvas.frame()


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


class PushOracle:
    """Brings the blocks to their targets by one of four plans (which block first, which target it gets), in turn: goes
    behind the block on the line to its target, pushes along the line and steers, goes round again when it slips.

    Apart from its plan it remembers nothing, so that what it does can be learned from what is seen; and what it
    executes is disturbed, so that it shows how a push that goes astray is corrected.
    """

    behind = 0.05
    """Distance in metres from the block at which a push begins."""
    aligned = 0.012
    """How far off the line, in metres, the pusher may be in a push."""
    step_length = 0.03

    def __init__(self, disturbance: float = 0.01) -> None:
        """disturbance: in metres."""
        self.disturbance = disturbance

    def reset(self, env: gymnasium.Env, generator: np.random.Generator, turn: int) -> None:  # noqa: ARG002
        """Begin an episode."""
        first, target = turn % 4 // 2, turn % 2
        self._plan = [(first, target), (1 - first, 1 - target)]

    def act(self, env: gymnasium.Env) -> np.ndarray:
        """Return the next action of each row."""
        world = env.unwrapped
        assert isinstance(world, BlockPush)
        wanted = world.pusher + self._heading(world) - world.commanded
        return np.clip(wanted, -LARGEST_STEP, LARGEST_STEP)

    def _heading(self, world: BlockPush) -> np.ndarray:
        """How far the pusher shall move in this step."""
        block, target = self._current(world)
        ahead = target - block
        ahead = ahead / max(float(np.hypot(*ahead)), 1e-6)
        across = np.array([-ahead[1], ahead[0]])
        from_block = world.pusher - block
        slip, distance = float(from_block @ across), float(-from_block @ ahead)
        apart = float(np.hypot(*from_block))
        if abs(slip) < self.aligned and distance > 0.015:
            forward = (1 - 0.7 * abs(slip) / self.aligned) * self.step_length
            return ahead * forward - across * slip
        if apart < 0.04 and distance < 0.03:
            return from_block / max(apart, 1e-6) * 0.02
        return self._around(world, block - self.behind * ahead)

    def _current(self, world: BlockPush) -> tuple[np.ndarray, np.ndarray]:
        """The block that is to be moved now, and its target; the second once the first is well inside."""
        block, target = self._plan[0]
        if len(self._plan) > 1 and np.hypot(*(world.blocks[block] - world.targets[target])) < 0.02:
            self._plan.pop(0)
        block, target = self._plan[0]
        return world.blocks[block], world.targets[target]

    def _around(self, world: BlockPush, goal: np.ndarray) -> np.ndarray:
        """A step towards `goal` that keeps clear of the blocks."""
        here = world.pusher
        aim = goal
        for block in sorted(world.blocks, key=lambda b: float(np.hypot(*(b - here)))):
            way = goal - here
            share = float(np.clip((block - here) @ way / max(float(way @ way), 1e-12), 0, 1))
            aside = here + share * way - block
            if share > 0 and float(np.hypot(*aside)) < 0.042:
                if float(np.hypot(*aside)) < 1e-4:
                    aside = np.array([-way[1], way[0]])
                away = here - block
                clear = float(np.hypot(*away))
                corner = block + 0.06 * aside / float(np.hypot(*aside))
                aim = here + away / clear * 0.03 if clear < 0.04 else corner
                break
        step = aim - here
        length = float(np.hypot(*step))
        return step * min(1.0, self.step_length / max(length, 1e-9))


def block_push(**options: Any) -> BlockPush:
    """Return block pushing that shows differences, too."""
    return BlockPush(**{"relative": True, **options})


def block_push_goals(**options: Any) -> BlockPush:
    """Return block pushing with a goal of where each block shall go."""
    return block_push(**{"goal_conditioned": True, **options})
