"""The world Encounter: a robot crosses a room of 10 by 10 m in which a person walks; batches of scenes in torch.

The robot is a unicycle; the person walks straight on, or yields: stands still while the robot is close in front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.system import UsageError

DT, STEPS = 0.5, 20
"""Seconds of a step, and steps of an episode."""
TURN_LIMIT, ACCELERATION_LIMIT = 1.0, 1.0
"""Largest |turn rate| in rad/s and |acceleration| in m/s² of the robot."""
ROOM, ROBOT_RADIUS, PERSON_RADIUS = 10.0, 0.3, 0.3
"""Side of the room and radii of the two, in m."""
YIELDS_WITHIN = 2.0
"""m in front of a yielding person within which the robot makes them stand still."""


@dataclass(frozen=True)
class Encounters:
    """B encounters; the room's corners are (0, 0) and (10, 10)."""

    start: Tensor
    """[B, 4]: x, y, heading, speed of the robot."""
    goal: Tensor
    """[B, 2]: the middle of the region to reach."""
    person: Tensor
    """[B, 4]: x, y and velocity in m/s."""

    def __len__(self) -> int:
        return len(self.start)


def draw_encounters(count: int, generator: torch.Generator) -> Encounters:
    """`count` encounters: the robot starts at the left wall and has its goal at the right; the person starts at the
    lower or upper wall in the middle third and walks at .6 to 1.4 m/s across, up to 25° off the perpendicular."""
    if count < 1:
        raise UsageError(f"expected at least one encounter, got {count}")

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    start = torch.stack([torch.full((count,), 1.0), between(2, 8), between(-0.5, 0.5), between(0, 1)], -1)
    goal = torch.stack([torch.full((count,), 9.0), between(2, 8)], -1)
    up = torch.randint(0, 2, (count,), generator=generator).bool()
    angle, speed = between(-0.44, 0.44), between(0.6, 1.4)
    away = torch.where(up, 1.0, -1.0)
    person = torch.stack(
        [between(3.5, 6.5), torch.where(up, 1.0, ROOM - 1.0), speed * angle.sin(), away * speed * angle.cos()], -1
    )
    return Encounters(start, goal, person)


def walk(encounters: Encounters, states: Tensor, *, yielding: bool = False) -> Tensor:
    """Where the person is while the robot moves through states [B, K, T+1, 4]: -> [B, K, T+1, 2]; walls stop them."""
    place = encounters.person[:, None, :2].expand(*states.shape[:2], 2)
    velocity = encounters.person[:, None, 2:].expand_as(place)
    places = [place]
    for t in range(states.shape[2] - 1):
        place = walked(place, velocity, states[:, :, t].detach(), yielding)
        places.append(place)
    return torch.stack(places, 2)


def walked(place: Tensor, velocity: Tensor, robot: Tensor, yielding: bool) -> Tensor:
    """One step of a person: place, velocity [..., 2], the robot's state [..., 4] before it -> place [..., 2]."""
    moved = (place + DT * velocity).clamp(PERSON_RADIUS, ROOM - PERSON_RADIUS)
    if not yielding:
        return moved
    gap = robot[..., :2] - place
    in_front = ((gap * velocity).sum(-1) > 0) & (gap.norm(dim=-1) < YIELDS_WITHIN)
    return torch.where(in_front[..., None], place, moved)


def signals(encounters: Encounters, states: Tensor, person: Tensor) -> Mapping[str, Tensor]:
    """What the rules speak of, each [B, K, T+1]: states [B, K, T+1, 4], person [B, K, T+1, 2].

    clearance: m between robot and person; goal_distance: m to the goal's middle; time: s since the start;
    ahead, beside: the robot's place in the person's frame in m, along their walk and to their left."""
    if states.dim() != 4 or len(states) != len(encounters) or person.shape != states[..., :2].shape:
        raise UsageError(
            f"expected states [{len(encounters)}, K, T+1, 4] and a person of as many steps, got {list(states.shape)} "
            f"and {list(person.shape)}"
        )
    gap = states[..., :2] - person
    direction = torch.nn.functional.normalize(encounters.person[:, None, None, 2:], dim=-1)
    time = DT * torch.arange(states.shape[2], dtype=states.dtype)
    return {
        "clearance": length(gap) - ROBOT_RADIUS - PERSON_RADIUS,
        "goal_distance": length(states[..., :2] - encounters.goal[:, None, None]),
        "time": time.expand(states.shape[:3]),
        "ahead": (gap * direction).sum(-1),
        "beside": direction[..., 0] * gap[..., 1] - direction[..., 1] * gap[..., 0],
    }


def length(vector: Tensor) -> Tensor:
    """Euclidean length with a finite gradient at 0."""
    return vector.square().sum(-1).clamp(min=1e-12).sqrt()
