"""Drivers of the world Lanes: car following (IDM), a lane decision (MOBIL), and logs of one driver per scene whose
style is hidden from whoever learns from them. Treiber, Hennecke and Helbing 2000; Kesting, Treiber and Helbing 2007."""

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
"""m/s² of braking that a lane change may ask of oneself or of who is behind."""


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
    """Acceleration in m/s² of the intelligent driver model, within ±5.

    speed, lead_speed, desired (v0) in m/s; gap from bumper to bumper in m, inf when nobody is ahead; acceleration (a)
    and braking (b) in m/s²; standstill (s0) in m; headway (T) in s. Shapes broadcast."""
    closing = speed * (speed - lead_speed) / (2 * (acceleration * braking) ** 0.5)
    wanted = standstill + (speed * headway + closing).clamp(min=0)
    push = acceleration * (1 - (speed / desired) ** 4 - (wanted / gap.clamp(min=0.1)).square())
    return push.clamp(-ACCELERATION_LIMIT, ACCELERATION_LIMIT)


def ahead_and_behind(
    station: Tensor, speed: Tensor, places: Tensor, speeds: Tensor, there: Tensor
) -> tuple[Tensor, ...]:
    """The next cars in a lane: gap and speed of who is ahead, gap and speed of who is behind, each [B].

    station, speed [B] of the one who asks; places, speeds [B, N] of others; there [B, N]: whether they are in the lane.
    A gap is from bumper to bumper, at least 0; where there is nobody it is inf and the speed is one's own."""
    way = places - station[:, None]
    found = []
    for distance, side in ((way, there & (way >= 0)), (-way, there & (way < 0))):
        gap, who = distance.masked_fill(~side, torch.inf).min(-1)
        other = torch.where(gap.isinf(), speed, speeds.gather(-1, who[:, None])[:, 0])
        found += [(gap - CAR[0]).clamp(min=0.0), other]
    return tuple(found)


@dataclass(frozen=True)
class Style:
    """How B drivers drive, each [B]."""

    desired: Tensor
    """Speed in m/s on a free road."""
    headway: Tensor
    """Time in s to the car ahead."""
    politeness: Tensor
    """Weight of what a lane change costs who is behind (MOBIL's p)."""
    whim: Tensor
    """bool: changes lane for no reason, when it is safe."""
    quickness: Tensor
    """Seconds in which an offset is steered away."""
    moment: Tensor
    """int64: the step at which lanes are weighed, once."""

    @staticmethod
    def draw(count: int, generator: torch.Generator) -> Style:
        """Styles of `count` drivers."""

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
    """One driver per scene, over T steps."""

    states: Tensor
    """[B, T+1, 4], the start first."""
    controls: Tensor
    """[B, T, 2]: turn rate, acceleration, within the limits."""
    label: Tensor
    """[B] int64: 0 kept the lane, 1 changed to the left, 2 to the right, 3 none of these."""
    style: Style
    """What a learner must not see."""


def drive(scenes: Scenes, generator: torch.Generator, *, steps: int = STEPS, noise: float = 1.0) -> Logs:
    """Let one driver of random style drive each scene, the neighbours at constant speed in their lanes.

    noise: times the standard deviation of .02 rad/s and .2 m/s² by which hands and feet are unsteady."""
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
    """The neighbours `time` s after the start, `remaining` s before the end of the log."""

    def __init__(self, scenes: Scenes, time: float, remaining: float) -> None:
        self.remaining = remaining
        self.speed = scenes.neighbours[..., 4]
        self.station = scenes.neighbour_station + time * self.speed
        self.lane = torch.where(scenes.neighbours[..., 0] > 0, scenes.neighbour_lane, -1)

    def around(self, speed: Tensor, station: Tensor, lane: int) -> tuple[Tensor, ...]:
        return ahead_and_behind(station, speed, self.station, self.speed, self.lane == lane)

    def pull(self, speed: Tensor, station: Tensor, lane: int, style: Style) -> Tensor:
        """Acceleration that the car ahead in a lane allows."""
        gap, lead, _, _ = self.around(speed, station, lane)
        return idm(speed, gap, lead, style.desired, headway=style.headway)


def _decision(scenes: Scenes, cars: _Cars, speed: Tensor, station: Tensor, style: Style) -> Tensor:
    """The lane that each driver would take now, [B]: of the safe ones that with the greatest gain above .2 m/s²; a
    driver on a whim takes any safe one."""
    here = cars.pull(speed, station[:, 0], 0, style)
    gains = [torch.zeros_like(speed)]
    for lane in (1, 2):
        gap, lead, back_gap, back_speed = cars.around(speed, station[:, lane], lane)
        own = idm(speed, gap, lead, style.desired, headway=style.headway)
        cost = idm(back_speed, back_gap, speed).clamp(max=0.0)
        # Who is behind keeps its speed to the end of the log, whatever happens in front of it.
        left_behind = back_gap - (back_speed - torch.minimum(speed, lead)).clamp(min=0) * cars.remaining
        safe = (own > -HARDEST) & (cost > -HARDEST) & (gap > 2) & (left_behind > 3) & scenes.lane_valid[:, lane]
        gain = own - here + style.politeness * cost - 0.2
        gain = torch.where(style.whim, gain.clamp(min=0) + 1e-3 * lane + 0.1, gain)
        gains.append(torch.where(safe, gain, -torch.inf))
    return torch.stack(gains, -1).argmax(-1)


def _steer(state: Tensor, chain: Tensor, offset: Tensor, error: Tensor, station: Tensor, style: Style) -> Tensor:
    """Turn rate that leads back to the centre-line at no more than 1.5 m/s to the side, and along its bends."""
    speed = state[:, 3]
    sideways = (-offset / style.quickness).clamp(-1.5, 1.5)
    wanted = (sideways / speed.clamp(min=1.0)).clamp(-0.35, 0.35)
    here = state[:, 2] - error
    soon = poses_along(chain, (station + speed * DT)[:, None])[:, 0, 2]
    return wanted - error + wrap(soon - here) / DT


class Traffic:
    """The neighbours of a closed loop: each follows its lane by IDM, also behind the ego when it is in that lane."""

    def __init__(self, scenes: Scenes) -> None:
        self.there = scenes.neighbours[..., 0] > 0
        self.lane, self.station = scenes.neighbour_lane, scenes.neighbour_station.clone()
        self.speed = scenes.neighbours[..., 4].clone()
        self.desired = self.speed.clamp(min=3.0)

    def step(self, ego_station: Tensor, ego_offset: Tensor, ego_speed: Tensor) -> None:
        """One step of DT. ego_station, ego_offset [B, 3] to the three lanes, ego_speed [B]."""
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
