"""Drivers on the highway: car following (IDM), a lane decision (MOBIL), and logs of one driver per scene.

The style of a driver is hidden from what learns from the logs. Treiber, Hennecke and Helbing 2000; Kesting, Treiber and
Helbing 2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.systems.robots.stl_diffusion.env.geometry import beside, lane_coordinates, poses_along, wrap
from pilotage.systems.robots.stl_diffusion.env.highway import (
    ACCELERATION_LIMIT,
    CAR,
    DT,
    LATERAL,
    STEPS,
    TURN_LIMIT,
    Scenes,
)

HARDEST = 4.0
"""Braking in m/s² that a lane change may ask of the driver or of the car behind."""


def idm(
    speed: Tensor,
    gap: Tensor,
    lead_speed: Tensor,
    desired: Tensor | float = 12.0,
    *,
    acceleration: float = 1.5,
    braking: float = 2.0,
    standstill: float = 2.0,
    headway: Tensor | float = 1.2,
) -> Tensor:
    """Return the acceleration in m/s² of the intelligent driver model, within ±5. Shapes broadcast.

    Args:
        speed: in m/s.
        gap: from bumper to bumper in m, inf without a car ahead.
        lead_speed: of the car ahead, in m/s.
        desired: speed on a free road in m/s (v0).
        acceleration: in m/s² (a).
        braking: in m/s² (b).
        standstill: gap in m (s0).
        headway: in s (T).
    """
    closing = speed * (speed - lead_speed) / (2 * (acceleration * braking) ** 0.5)
    wanted = standstill + (speed * headway + closing).clamp(min=0)
    push = acceleration * (1 - (speed / desired) ** 4 - (wanted / gap.clamp(min=0.1)).square())
    return push.clamp(-ACCELERATION_LIMIT, ACCELERATION_LIMIT)


def ahead_and_behind(
    station: Tensor, speed: Tensor, places: Tensor, speeds: Tensor, there: Tensor
) -> tuple[Tensor, ...]:
    """Return gap and speed of the next car ahead in a lane, and of the next behind, each [scene].

    A gap is from bumper to bumper in m, at least 0; without a car it is inf and the speed is the driver's own.

    Args:
        station: of the driver along the lane in m, [scene].
        speed: of the driver in m/s, [scene].
        places: stations of the others, [scene, other].
        speeds: of the others, [scene, other].
        there: whether each of the others is in the lane, [scene, other].
    """
    way = places - station[:, None]
    found = []
    for distance, side in ((way, there & (way >= 0)), (-way, there & (way < 0))):
        gap, who = distance.masked_fill(~side, torch.inf).min(-1)
        other = torch.where(gap.isinf(), speed, speeds.gather(-1, who[:, None])[:, 0])
        found += [(gap - CAR[0]).clamp(min=0.0), other]
    return tuple(found)


@dataclass(frozen=True)
class Style:
    """Style of a batch of drivers, each number [driver]."""

    desired: Tensor
    """Speed in m/s on a free road."""
    headway: Tensor
    """Time in s to the car ahead."""
    politeness: Tensor
    """Weight of what a lane change costs the car behind (MOBIL's p)."""
    whim: Tensor
    """bool: changes lane for no reason, when it is safe."""
    quickness: Tensor
    """Seconds in which an offset is steered away."""
    moment: Tensor
    """int64: the step at which lanes are weighed, once."""

    @staticmethod
    def draw(count: int, generator: torch.Generator) -> Style:
        """Draw the styles of `count` drivers."""

        def between(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        return Style(
            desired=between(5, 13),
            headway=between(0.8, 2.0),
            politeness=between(0, 0.5),
            whim=torch.rand(count, generator=generator) < 0.4,
            quickness=between(1.2, 2.2),
            moment=torch.randint(0, 4, (count,), generator=generator),
        )


@dataclass(frozen=True)
class Logs:
    """Logs of one driver per scene."""

    states: Tensor
    """[B, T+1, 4], the start first."""
    controls: Tensor
    """[B, T, 2]: turn rate, acceleration, within the limits."""
    label: Tensor
    """[B] int64: 0 kept the lane, 1 changed to the left, 2 to the right, 3 none of these."""
    style: Style
    """Style of the drivers, which a learner must not see."""


def drive(scenes: Scenes, generator: torch.Generator, *, steps: int = STEPS, noise: float = 1.0) -> Logs:
    """Let one driver of random style drive each scene, the neighbours at constant speed in their lanes.

    Args:
        scenes: the scenes.
        generator: of styles and noise.
        steps: of the log.
        noise: factor of the standard deviation of the controls' noise, .02 rad/s and .2 m/s².
    """
    count, style = len(scenes), Style.draw(len(scenes), generator)
    chains = torch.stack([beside(scenes.road, lateral) for lateral in LATERAL], 1)
    state, target = scenes.start, torch.zeros(count, dtype=torch.int64)
    states, controls = [state], []
    for t in range(steps):
        cars = _Cars(scenes, t * DT, (steps - t) * DT)
        poses = state[:, None, None, :3].expand(-1, 3, 1, 3)
        offset, error, station = (each[..., 0] for each in lane_coordinates(poses, chains))
        chosen = _decision(scenes, cars, state[:, 3], station, style)
        target = torch.where((style.moment == t) & (target == 0), chosen, target)
        beside_centre = offset.abs() < LATERAL[1] / 2 + 0.3  # lanes that the car is in or reaches into
        push = torch.full((count,), torch.inf)
        for lane in range(3):
            follow = cars.pull(state[:, 3], station[:, lane], lane, style)
            push = torch.where((target == lane) | beside_centre[:, lane], torch.minimum(push, follow), push)
        to = (torch.arange(count), target)
        turn = _steer(state, chains[to], offset[to], error[to], station[to], style)
        unsteady = noise * torch.randn(count, 2, generator=generator) * torch.tensor([0.02, 0.2])
        turn = (turn + unsteady[:, 0]).clamp(-TURN_LIMIT, TURN_LIMIT)
        push = torch.maximum((push + unsteady[:, 1]).clamp(-ACCELERATION_LIMIT, ACCELERATION_LIMIT), -state[:, 3] / DT)
        speed, heading = state[:, 3], state[:, 2]
        move = torch.stack([speed * heading.cos(), speed * heading.sin(), turn, push], -1)
        state = state + DT * move
        states.append(state)
        controls.append(torch.stack([turn, push], -1))
    offset, error, _ = lane_coordinates(state[:, None, :3], scenes.road)
    arrived = (offset[:, 0] - torch.tensor(LATERAL)[target]).abs() < 0.6
    label = torch.where(arrived & (error[:, 0].abs() < 0.2), target, 3)
    return Logs(torch.stack(states, 1), torch.stack(controls, 1), label, style)


class _Cars:
    """Neighbours `time` s after the start, `remaining` s before the end of the log."""

    def __init__(self, scenes: Scenes, time: float, remaining: float) -> None:
        self.remaining = remaining
        self.speed = scenes.neighbours[..., 4]
        self.station = scenes.neighbour_station + time * self.speed
        self.lane = torch.where(scenes.neighbours[..., 0] > 0, scenes.neighbour_lane, -1)

    def around(self, speed: Tensor, station: Tensor, lane: int) -> tuple[Tensor, ...]:
        return ahead_and_behind(station, speed, self.station, self.speed, self.lane == lane)

    def pull(self, speed: Tensor, station: Tensor, lane: int, style: Style) -> Tensor:
        """Return the acceleration that the car ahead in a lane allows."""
        gap, lead, _, _ = self.around(speed, station, lane)
        return idm(speed, gap, lead, style.desired, headway=style.headway)


def _decision(scenes: Scenes, cars: _Cars, speed: Tensor, station: Tensor, style: Style) -> Tensor:
    """Return the lane that each driver would take now, [driver].

    Of the safe ones that with the greatest gain above .2 m/s²; a driver on a whim takes any safe one.
    """
    here = cars.pull(speed, station[:, 0], 0, style)
    gains = [torch.zeros_like(speed)]
    for lane in (1, 2):
        gap, lead, back_gap, back_speed = cars.around(speed, station[:, lane], lane)
        own = idm(speed, gap, lead, style.desired, headway=style.headway)
        cost = idm(back_speed, back_gap, speed).clamp(max=0.0)
        # The car behind keeps its speed to the end of the log.
        left_behind = back_gap - (back_speed - torch.minimum(speed, lead)).clamp(min=0) * cars.remaining
        safe = (own > -HARDEST) & (cost > -HARDEST) & (gap > 2) & (left_behind > 3) & scenes.lane_valid[:, lane]
        gain = own - here + style.politeness * cost - 0.2
        gain = torch.where(style.whim, gain.clamp(min=0) + 1e-3 * lane + 0.1, gain)
        gains.append(torch.where(safe, gain, -torch.inf))
    return torch.stack(gains, -1).argmax(-1)


def _steer(state: Tensor, chain: Tensor, offset: Tensor, error: Tensor, station: Tensor, style: Style) -> Tensor:
    """Return the turn rate back to the centre-line, at no more than 1.5 m/s to the side, and along its bends."""
    speed = state[:, 3]
    sideways = (-offset / style.quickness).clamp(-1.5, 1.5)
    wanted = (sideways / speed.clamp(min=1.0)).clamp(-0.35, 0.35)
    here = state[:, 2] - error
    soon = poses_along(chain, (station + speed * DT)[:, None])[:, 0, 2]
    return wanted - error + wrap(soon - here) / DT


class Traffic:
    """Neighbours in closed loop: each follows its lane by IDM, also behind the ego when it is in that lane."""

    def __init__(self, scenes: Scenes) -> None:
        self.there = scenes.neighbours[..., 0] > 0
        self.lane, self.station = scenes.neighbour_lane, scenes.neighbour_station.clone()
        self.speed = scenes.neighbours[..., 4].clone()
        self.desired = self.speed.clamp(min=3.0)

    def step(self, ego_station: Tensor, ego_offset: Tensor, ego_speed: Tensor) -> None:
        """Advance all cars by DT.

        Args:
            ego_station: of the ego along the three lanes in m, [scene, 3].
            ego_offset: of the ego to the three lanes in m, [scene, 3].
            ego_speed: in m/s, [scene].
        """
        count = self.there.shape[1]
        push = torch.empty_like(self.speed)
        for i in range(count):
            rows = torch.arange(len(self.lane))
            lane = self.lane[:, i]
            places = torch.cat([self.station, ego_station[rows, lane][:, None]], -1)
            speeds = torch.cat([self.speed, ego_speed[:, None]], -1)
            inside = ego_offset[rows, lane].abs() < LATERAL[1] / 2
            same = torch.cat([self.there & (self.lane == lane[:, None]), inside[:, None]], -1)
            same[:, i] = False
            gap, lead, _, _ = ahead_and_behind(self.station[:, i], self.speed[:, i], places, speeds, same)
            push[:, i] = idm(self.speed[:, i], gap, lead, self.desired[:, i])
        self.station = self.station + DT * self.speed
        self.speed = (self.speed + DT * push).clamp(min=0.0)
