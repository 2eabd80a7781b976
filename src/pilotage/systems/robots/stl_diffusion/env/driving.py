"""The highway in closed loop, as a Gymnasium environment: twenty seconds among cars that follow one another by IDM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.env.geometry import beside, lane_coordinates, poses_along, roll_out
from pilotage.systems.robots.stl_diffusion.env.highway import (
    ACCELERATION_LIMIT,
    CAR,
    DT,
    FASTEST,
    LANE_WIDTH,
    LATERAL,
    NEIGHBOURS,
    TURN_LIMIT,
    WAY_POINTS,
    Scenes,
    clearance,
    draw_scenes,
    in_ego_frame,
)
from pilotage.systems.robots.stl_diffusion.env.traffic import Traffic

try:
    import gymnasium as gym
except ModuleNotFoundError as missing:
    raise UsageError("environments need gymnasium: pip install 'pilotage[robots]'") from missing

OBSERVATION = {"ego": (6,), "neighbours": (NEIGHBOURS, 7), "lanes": (3, WAY_POINTS, 3)}
"""What an observation holds, one after another, flattened; see `highway.in_ego_frame`."""
_SPACING = 3.0
"""Distance in m between the way-points that the driver sees."""
_RANK = torch.tensor([0, 1, -1])
"""Offsets to the left of the lanes in the scene's numbering, in lanes."""


def unpack(observation: Tensor) -> dict[str, Tensor]:
    """Return an observation [..., 197] by name, each with the shape of `OBSERVATION`."""
    sizes = [int(np.prod(shape)) for shape in OBSERVATION.values()]
    parts = observation.split(sizes, -1)
    return {
        name: part.reshape(*observation.shape[:-1], *shape)
        for (name, shape), part in zip(OBSERVATION.items(), parts, strict=True)
    }


class HighwayDrive(gym.Env[np.ndarray, np.ndarray]):
    """Environment of one car on a winding road with the one to three lanes of a scene.

    action [2] in ±1: turn rate and acceleration in units of their limits, held for half a second.
    observation [197]: `OBSERVATION`, of what is around the car now; `unpack` takes it apart, and `scenes()` is the same
    for a planner.
    reward: progress along the road in units of 6 m (a step at 12 m/s), −1 while outside of every lane, −10 for a
    collision, which ends the episode.
    info: progress in m since the start, clearance in m, collision, out_of_lane.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, steps: int = 40, bends: int = 6) -> None:
        self.steps, self.bends = steps, bends
        size = sum(int(np.prod(shape)) for shape in OBSERVATION.values())
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a new road with its traffic from the seed."""
        super().reset(seed=seed, options=options)
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**31)))
        self._scene = draw_scenes(1, generator, bends=self.bends)
        self._chains = torch.stack([beside(self._scene.road, lateral) for lateral in LATERAL], 1)
        self._traffic, self._state, self._time = Traffic(self._scene), self._scene.start, 0
        self._locate()
        self._began = float(self._station[0, 0])
        return self._observed(), self._information()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance car and traffic by half a second."""
        limits = torch.tensor([TURN_LIMIT, ACCELERATION_LIMIT])
        control = torch.as_tensor(np.clip(action, -1.0, 1.0), dtype=torch.float32) * limits
        before = float(self._station[0, 0])
        self._traffic.step(self._station, self._offset, self._state[:, 3])
        self._state = roll_out(self._state, control[None, None], DT)[:, -1]
        self._time += 1
        self._locate()
        info = self._information()
        reward = (float(self._station[0, 0]) - before) / (FASTEST * DT)
        reward -= 1.0 * info["out_of_lane"] + 10.0 * info["collision"]
        return self._observed(), reward, info["collision"], self._time >= self.steps, info

    def scenes(self) -> Scenes:
        """Return what is around the car now, as a batch of one.

        The current lane is the one whose centre is nearest. Its road is sampled every 3 m and goes straight on after
        87 m.
        """
        mine = int(self._offset[0].abs().masked_fill(~self._scene.lane_valid[0], torch.inf).argmin())
        way = self._station[:, mine, None] + _SPACING * torch.arange(2 * WAY_POINTS)
        road = poses_along(self._chains[:, mine], way)
        apart = _RANK - _RANK[mine]
        relative = torch.stack([(apart == rank) & self._scene.lane_valid[0] for rank in (0, 1, -1)])
        lane = torch.where(relative.any(0), relative.long().argmax(0), -1)[self._traffic.lane]
        seen = self._traffic.there & (lane >= 0)
        poses = self._traffic_poses()
        _, _, station = lane_coordinates(poses, road)
        size = torch.tensor(CAR).expand(1, NEIGHBOURS, 2)
        table = torch.cat([torch.ones(1, NEIGHBOURS, 1), poses, self._traffic.speed[..., None], size], -1)
        return Scenes(self._state, road, relative.any(-1)[None], table * seen[..., None], lane.clamp(min=0), station)

    def _traffic_poses(self) -> Tensor:
        chains = self._chains[torch.arange(1)[:, None], self._traffic.lane]
        return poses_along(chains, self._traffic.station[..., None])[:, :, 0]

    def _locate(self) -> None:
        """Offset and station of the car in each of the three lanes, [1, 3]."""
        pose = self._state[:, None, None, :3].expand(-1, 3, 1, 3)
        offset, _, station = lane_coordinates(pose, self._chains)
        self._offset, self._station = offset[..., 0], station[..., 0]

    def _observed(self) -> np.ndarray:
        seen = in_ego_frame(self.scenes())
        return torch.cat([seen[name].flatten() for name in OBSERVATION]).numpy().astype(np.float32)

    def _information(self) -> dict[str, Any]:
        poses = self._traffic_poses()[:, :, None]
        near = float(clearance(self._scene, self._state[:, None, None], poses))
        off = float(self._offset[0].abs().masked_fill(~self._scene.lane_valid[0], torch.inf).min())
        return {
            "progress": float(self._station[0, 0]) - self._began,
            "clearance": near,
            "collision": near <= 0,
            "out_of_lane": off > LANE_WIDTH / 2,
        }
