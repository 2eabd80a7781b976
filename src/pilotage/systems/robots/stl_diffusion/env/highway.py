"""The highway: a car on a road of one to three lanes among up to eight others, as batches of scenes in torch.

A scene is what a driver sees at one moment: its own state, the current, left and right lane as 15 way-points each,
and its neighbours. Lanes and modes share one numbering: 0 the current lane (keep it), 1 the left, 2 the right (change
there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.env.geometry import (
    beside,
    chain_of_pieces,
    circle_distance,
    lane_coordinates,
    poses_along,
    wrap,
)

DT, STEPS = 0.5, 20
"""Seconds of a step, and steps of a plan."""
TURN_LIMIT, ACCELERATION_LIMIT = 0.5, 5.0
"""Largest |turn rate| in rad/s and |acceleration| in m/s²."""
CAR = (4.084, 1.730)
"""Length and width of every car in m."""
LANE_WIDTH, WAY_POINTS, NEIGHBOURS = 3.5, 15, 8
LATERAL = (0.0, LANE_WIDTH, -LANE_WIDTH)
"""Offsets of the current, left and right lane, in m to the left of the current one."""
FASTEST = 12.0
"""Greatest speed of any car at the start, in m/s."""
NEAREST, FARTHEST, NO_NEIGHBOUR = -5.0, 20.0, 100.0
"""Distances to neighbours are clipped to the first two; an absent neighbour counts the third, all in m."""


@dataclass(frozen=True)
class Scenes:
    """Batch of scenes."""

    start: Tensor
    """[B, 4]: x, y, heading, speed of the ego car."""
    road: Tensor
    """[B, P, 3]: the current lane's centre-line as a chain that begins beside the ego; P ≥ 15."""
    lane_valid: Tensor
    """[B, 3] bool: which of the current, left and right lane there are; also the modes that make sense."""
    neighbours: Tensor
    """[B, 8, 7]: valid (0 or 1), x, y, heading, speed, length, width; zeros where there is none."""
    neighbour_lane: Tensor
    """[B, 8] int64: lane that each drives in, in the numbering above."""
    neighbour_station: Tensor
    """[B, 8]: way along that lane's centre-line in m, negative behind the ego."""

    @property
    def lanes(self) -> Tensor:
        """Return the way-points seen of the current, left and right lane, also of those that there are not, [B, 3, 15,
        3].
        """
        return torch.stack([beside(self.road[:, :WAY_POINTS], lateral) for lateral in LATERAL], 1)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Scenes:
        return Scenes(**{name: value[rows] for name, value in vars(self).items()})


def draw_scenes(count: int, generator: torch.Generator, *, bends: int = 1) -> Scenes:
    """Draw scenes of one to three lanes with 0 to 8 neighbours.

    Lanes are straight, an arc of radius 30 to 200 m or an S, with way-points 2 to 4 m apart. The ego is off the centre
    by N(0, .3) m and N(0, .05) rad, at 2 to 12 m/s. The car ahead in the ego's own lane is far enough that braking with
    2 m/s² avoids it.

    Args:
        count: number of scenes.
        generator: of all random numbers.
        bends: stretches of 14 way-points before the road goes straight on; each is straight, arc or S anew, its first
            bend against the road's heading so far, so that no road runs into itself.
    """
    if count < 1 or bends < 1:
        raise UsageError(f"expected at least one scene and one bend, got {count} and {bends}")
    start_speed = 2 + (FASTEST - 2) * torch.rand(count, generator=generator)
    road = _road(count, bends, generator)
    side = torch.randn(count, 2, generator=generator) * torch.tensor([0.3, 0.05])
    pose = poses_along(road, torch.zeros(count, 1), side[:, :1])[:, 0]
    start = torch.cat([pose[:, :2], (pose[:, 2] + side[:, 1])[:, None], start_speed[:, None]], -1)
    there = 1 + torch.randint(0, 3, (count,), generator=generator)
    index = (torch.rand(count, generator=generator) * there).long()  # from the right
    lane_valid = torch.stack([torch.ones_like(there, dtype=torch.bool), index < there - 1, index > 0], -1)
    valid, lane, station, speed = _neighbours(lane_valid, start_speed, generator)
    placed = poses_along(_own_chains(road, lane), station[..., None])[:, :, 0]
    size = torch.tensor(CAR).expand(count, NEIGHBOURS, 2)
    table = torch.cat([torch.ones(count, NEIGHBOURS, 1), placed, speed[..., None], size], -1) * valid[..., None]
    return Scenes(start, road, lane_valid, table, lane, station)


def _road(count: int, bends: int, generator: torch.Generator) -> Tensor:
    spacing = 2 + 2 * torch.rand(count, 1, generator=generator)
    curvatures, heading = [], torch.zeros(count)
    for _ in range(bends):
        kind = torch.randint(0, 3, (count,), generator=generator)
        bend = 1 / (30 + 170 * torch.rand(count, generator=generator))
        sign = torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1
        first = bend * torch.where(heading.abs() > 0.1, -heading.sign(), sign) * (kind > 0)
        second = torch.where(kind == 2, -first, first)
        curvatures += [first, second]
        heading = heading + 7 * spacing[:, 0] * (first + second)
    table = torch.stack(curvatures, -1)
    return chain_of_pieces(table, (7 * spacing).expand_as(table), 7)


def _neighbours(
    lane_valid: Tensor, ego_speed: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw valid, lane, station and speed of the neighbours, each [scene, 8].

    In each lane they follow one another, at speeds such that within a plan none drives through another.
    """
    count = len(ego_speed)
    rows = torch.arange(count)
    number = torch.randint(0, NEIGHBOURS + 1, (count,), generator=generator)
    reach = torch.zeros(count, 3, 2)  # how far the last car placed is, per lane, ahead and behind
    pace = torch.stack([torch.full((count, 3), -torch.inf), torch.full((count, 3), torch.inf)], -1)
    lanes, placed, speeds = [], [], []
    for _ in range(NEIGHBOURS):
        lane = torch.multinomial(lane_valid.float(), 1, generator=generator)[:, 0]
        behind = (torch.rand(count, generator=generator) < 0.3) & (lane > 0)
        gap = 8 + 42 * torch.rand(count, generator=generator)
        speed = FASTEST * torch.rand(count, generator=generator)
        where = behind.long()
        slack = (gap - CAR[0] - 2) / (DT * STEPS)
        last = pace[rows, lane, where]
        speed = torch.where(behind, torch.minimum(speed, last + slack), torch.maximum(speed, last - slack))
        speed = speed.clamp(0, FASTEST)
        leads = (lane == 0) & (reach[:, 0, 0] == 0)
        gap = gap + torch.where(leads, (ego_speed - speed).clamp(min=0).square() / 4, 0.0)
        reach[rows, lane, where] += gap
        pace[rows, lane, where] = speed
        lanes.append(lane)
        placed.append(reach[rows, lane, where] * torch.where(behind, -1.0, 1.0))
        speeds.append(speed)
    valid = torch.arange(NEIGHBOURS) < number[:, None]
    return valid, torch.stack(lanes, -1), torch.stack(placed, -1), torch.stack(speeds, -1)


def _own_chains(road: Tensor, lane: Tensor) -> Tensor:
    """Return the centre-line of each neighbour's lane, [scene, 8, way-point, 3]."""
    chains = torch.stack([beside(road, lateral) for lateral in LATERAL], 1)
    return chains[torch.arange(len(road))[:, None], lane]


def futures(scenes: Scenes, steps: int = STEPS) -> Tensor:
    """Return where neighbours will be at constant speed in their lanes: poses [scene, 8, steps + 1, 3]."""
    way = scenes.neighbours[..., 4:5] * DT * torch.arange(steps + 1)
    chains = _own_chains(scenes.road, scenes.neighbour_lane)
    return poses_along(chains, scenes.neighbour_station[..., None] + way) * scenes.neighbours[..., :1, None]


def clearance(scenes: Scenes, states: Tensor, others: Tensor) -> Tensor:
    """Return the distance to the nearest neighbour in m, clipped to [−5, 20], 100 without one: [scene, plan, step + 1].

    Args:
        scenes: the scenes.
        states: of the ego, [scene, plan, step + 1, 4].
        others: poses of the neighbours, [scene, 8, step + 1, 3], from `futures` or a log.
    """
    size = states.new_tensor(CAR)
    there = scenes.neighbours[..., 0] > 0
    poses = states[..., :3]
    with torch.no_grad():  # the neighbour that the gradient is of
        every = circle_distance(poses[:, :, None], others[:, None], size, scenes.neighbours[:, None, :, None, 5:])
        nearest = every.masked_fill(~there[:, None, :, None], torch.inf).argmin(2)
    rows = torch.arange(len(states))[:, None, None]
    time = torch.arange(states.shape[2])
    distance = circle_distance(poses, others[rows, nearest, time], size, scenes.neighbours[rows, nearest, 5:])
    return torch.where(there.any(-1)[:, None, None], distance.clamp(NEAREST, FARTHEST), NO_NEIGHBOUR)


def signals(scenes: Scenes, states: Tensor, lane: Tensor | int, others: Tensor) -> Mapping[str, Tensor]:
    """Return the signals of the rules of driving by name, each [scene, plan, step + 1].

    Args:
        scenes: the scenes.
        states: [scene, plan, step + 1, 4], the start first.
        lane: lane that offset and heading refer to, one for all or [scene].
        others: poses of the neighbours, [scene, 8, step + 1, 3].

    Returns:
        v: speed in m/s; offset: m to the left of that lane's centre; heading: |heading error| in rad, at most π;
        clearance: see `clearance`. For a lane that there is not they have no meaning: mask by `lane_valid`.
    """
    if states.dim() != 4 or len(states) != len(scenes) or states.shape[-1] != 4 or others.shape[2] != states.shape[2]:
        raise UsageError(
            f"expected states [{len(scenes)}, K, T+1, 4] and neighbours of as many steps, got {list(states.shape)} "
            f"and {list(others.shape)}"
        )
    index = torch.as_tensor(lane).expand(len(scenes))
    lateral = states.new_tensor(LATERAL)[index]
    offset, heading, _ = lane_coordinates(states[..., :3].flatten(1, 2), scenes.road)
    # A lane beside is the same chain about the same centres, so that its offset is a difference.
    return {
        "v": states[..., 3],
        "offset": offset.reshape(states.shape[:3]) - lateral[:, None, None],
        "heading": heading.reshape(states.shape[:3]).abs(),
        "clearance": clearance(scenes, states, others),
    }


def in_ego_frame(scenes: Scenes) -> dict[str, Tensor]:
    """Return what a network observes, in the frame of the ego car.

    "ego" [scene, 6]: speed; offset and heading error in the current lane; validity of the three lanes. "neighbours"
    [scene, 8, 7] as in `Scenes`. "lanes" [scene, 3, 15, 3]. Absent ones are 0.
    """
    offset, heading, _ = lane_coordinates(scenes.start[:, None, :3], scenes.road)
    valid = scenes.lane_valid.float()
    ego = torch.cat([scenes.start[:, 3:], offset, heading, valid], -1)
    there = scenes.neighbours[..., :1]
    seen = _relative(scenes.start, scenes.neighbours[..., 1:4])
    neighbours = torch.cat([there, seen, scenes.neighbours[..., 4:]], -1) * there
    lanes = _relative(scenes.start, scenes.lanes.flatten(1, 2)).reshape(-1, 3, WAY_POINTS, 3)
    return {"ego": ego, "neighbours": neighbours, "lanes": lanes * valid[..., None, None]}


def _relative(start: Tensor, poses: Tensor) -> Tensor:
    """Return poses [scene, pose, 3] relative to the start [scene, 4]."""
    gap = poses[..., :2] - start[:, None, :2]
    cosine, sine = start[:, None, 2].cos(), start[:, None, 2].sin()
    x, y = gap[..., 0] * cosine + gap[..., 1] * sine, gap[..., 1] * cosine - gap[..., 0] * sine
    return torch.stack([x, y, wrap(poses[..., 2] - start[:, None, 2])], -1)
