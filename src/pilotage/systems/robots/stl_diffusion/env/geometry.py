"""Geometry of cars on lanes, batched in torch and differentiable: the unicycle, chains of arcs, distances between cars.

Poses are (x, y, heading), in m and rad, x forward at heading 0, y to the left of it. A lane's centre-line is a *chain*:
way-points [..., P, 3] joined by circular arcs, straight on before the first and after the last. Between neighbouring
way-points the arc is the one through both whose turn is the difference of their headings; where way-points lie on a
circle or a line the chain is that circle or line exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pilotage.core.errors import UsageError

CIRCLES = 4
"""Number of circles that cover a car along its length."""


def wrap(angle: Tensor) -> Tensor:
    """Return the same angle in [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def roll_out(start: Tensor, controls: Tensor, dt: float) -> Tensor:
    """Return the states [..., step + 1, 4] of a unicycle by Euler steps, the start first.

    x' = v cos θ, y' = v sin θ, θ' = w, v' = a. All steps at once, by sums over time.

    Args:
        start: x, y, heading, speed, [..., 4].
        controls: turn rate in rad/s and acceleration in m/s², held for a step, [..., step, 2].
        dt: seconds of a step.
    """
    start = start.expand(*controls.shape[:-2], 4)
    changes = torch.cat([start[..., None, 2:], dt * controls], -2)
    heading, speed = changes.cumsum(-2).unbind(-1)
    moves = dt * speed[..., :-1, None] * torch.stack([heading[..., :-1].cos(), heading[..., :-1].sin()], -1)
    place = torch.cat([start[..., None, :2], moves], -2).cumsum(-2)
    return torch.cat([place, heading[..., None], speed[..., None]], -1)


# ---- chains ----------------------------------------------------------------------------------------------------------


def _arcs(chain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return start poses [..., piece, 3], curvatures and lengths [..., piece] of the pieces between way-points.

    The first and last piece are the straight ones outside: the first ends at the first way-point, their length stands
    as infinite.
    """
    step = chain[..., 1:, :2] - chain[..., :-1, :2]
    turn = wrap(chain[..., 1:, 2] - chain[..., :-1, 2])
    chord = step.square().sum(-1).sqrt()
    heading = torch.atan2(step[..., 1], step[..., 0]) - turn / 2
    inner = torch.cat([chain[..., :-1, :2], heading[..., None]], -1)
    first, last = inner[..., :1, :], torch.cat([chain[..., -1:, :2], (heading + turn)[..., -1:, None]], -1)
    curvature = torch.nn.functional.pad(2 * torch.sin(turn / 2) / chord, (1, 1))
    length = torch.nn.functional.pad(chord / torch.sinc(turn / (2 * math.pi)), (1, 1), value=math.inf)
    return torch.cat([first, inner, last], -2), curvature, length


def stations(chain: Tensor) -> Tensor:
    """Return the way along a chain [..., way-point, 3] at which its way-points lie, in m, 0 at the first."""
    inner = _arcs(chain)[2][..., 1:-1]
    return torch.nn.functional.pad(inner.cumsum(-1), (1, 0))


def poses_along(chain: Tensor, station: Tensor, lateral: Tensor | float = 0.0) -> Tensor:
    """Return the poses [..., place, 3] `station` m along a chain and `lateral` m to its left.

    chain [..., way-point, 3]; station [..., place]: below 0 and past the end they lie on the straight lines outside.
    """
    starts, curvature, _ = _arcs(chain)
    at = stations(chain)
    piece = torch.searchsorted(at.contiguous(), station.detach().contiguous(), right=True)
    pose = _take(starts, piece)
    k = curvature.gather(-1, piece)
    begun = torch.cat([at[..., :1], at], -1).gather(-1, piece)
    along = station - begun
    chord = along * torch.sinc(k * along / (2 * math.pi))
    direction = pose[..., 2] + k * along / 2
    heading = pose[..., 2] + k * along
    x = pose[..., 0] + chord * direction.cos() - lateral * heading.sin()
    y = pose[..., 1] + chord * direction.sin() + lateral * heading.cos()
    return torch.stack([x, y, heading], -1)


def _take(table: Tensor, index: Tensor) -> Tensor:
    """Return the rows of a table [..., row, number] at an index [..., place]."""
    return table.gather(-2, index[..., None].expand(*index.shape, table.shape[-1]))


def lane_coordinates(poses: Tensor, chain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return signed offset, heading error and station of poses along a chain, each [..., pose].

    Offset is the distance to the centre-line in m, positive to its left, exact up to the centre of the arc; heading
    error is the heading minus that of the lane beside the pose, in [−π, π); station is the way along the chain in m,
    negative before its first way-point. Poses are [..., pose, 3], chains [..., way-point, 3] with equal leading
    dimensions. Raises UsageError for chains of fewer than two way-points.
    """
    if chain.shape[-1] != 3 or poses.shape[-1] != 3 or chain.shape[-2] < 2:
        raise UsageError(
            f"expected poses [..., M, 3] and way-points [..., P, 3] with P ≥ 2, got {list(poses.shape)} and "
            f"{list(chain.shape)}"
        )
    starts, curvature, _ = _arcs(chain)
    with torch.no_grad():  # which piece: the nearest way-point, and the side of its normal
        nearest = torch.cdist(poses[..., :2], chain[..., :2]).argmin(-1)
        way_point = _take(chain, nearest)
        gap = poses[..., :2] - way_point[..., :2]
        ahead = gap[..., 0] * way_point[..., 2].cos() + gap[..., 1] * way_point[..., 2].sin() >= 0
        piece = nearest + ahead.long()
    pose, k = _take(starts, piece), curvature.gather(-1, piece)
    gap = poses[..., :2] - pose[..., :2]
    cosine, sine = pose[..., 2].cos(), pose[..., 2].sin()
    x, y = gap[..., 0] * cosine + gap[..., 1] * sine, gap[..., 1] * cosine - gap[..., 0] * sine
    # 1 − k·offset is the distance from the arc's centre in units of its radius; this form holds for straight lines.
    bend = k * (x.square() + y.square())
    offset = (2 * y - bend) / (1 + (1 - 2 * k * y + k * bend).clamp(min=1e-6).sqrt())
    turned = torch.atan2(k * x, 1 - k * y)
    straight = k.abs() < 1e-9
    along = torch.where(straight, x, turned / torch.where(straight, 1.0, k))
    at = stations(chain)
    begun = torch.cat([at[..., :1], at], -1).gather(-1, piece)
    return offset, wrap(poses[..., 2] - pose[..., 2] - turned), begun + along


def chain_of_pieces(curvature: Tensor, length: Tensor, per_piece: int) -> Tensor:
    """Return a chain [..., way-point, 3] from the origin, heading 0.

    Args:
        curvature: of the pieces in 1/m, [..., piece].
        length: of the pieces in m, [..., piece].
        per_piece: equal arcs into which each piece is cut.
    """
    k = curvature.repeat_interleave(per_piece, -1)
    step = length.repeat_interleave(per_piece, -1) / per_piece
    heading = torch.nn.functional.pad((k * step).cumsum(-1), (1, 0))
    chord = step * torch.sinc(k * step / (2 * math.pi))
    direction = heading[..., :-1] + k * step / 2
    moves = chord[..., None] * torch.stack([direction.cos(), direction.sin()], -1)
    return torch.cat([torch.nn.functional.pad(moves.cumsum(-2), (0, 0, 1, 0)), heading[..., None]], -1)


def beside(chain: Tensor, lateral: float) -> Tensor:
    """Return the chain `lateral` m to the left, its arcs about the same centres."""
    x, y, heading = chain.unbind(-1)
    return torch.stack([x - lateral * heading.sin(), y + lateral * heading.cos(), heading], -1)


# ---- cars ------------------------------------------------------------------------------------------------------------


def circle_distance(poses: Tensor, others: Tensor, size: Tensor, other_size: Tensor) -> Tensor:
    """Return the distance in m between cars covered by four circles each, [...]; below 0 they meet.

    Circles stand at equal steps along the length and reach the corners of the quarter they cover, so that the distance
    never exceeds that of the rectangles; it falls short by what they stand out: .14 m beside a car of 4.1 m by 1.7 m,
    .49 m before and behind it.

    Args:
        poses: of the one car, [..., 3]; shapes broadcast.
        others: poses of the other car, [..., 3].
        size: length and width in m, [..., 2].
        other_size: of the other car, [..., 2].
    """
    first, reach = _circles(poses, size)
    second, other_reach = _circles(others, other_size)
    gap = first[..., :, None, :] - second[..., None, :, :]
    squared = gap.square().sum(-1).amin((-2, -1))
    return squared.clamp(min=1e-12).sqrt() - reach - other_reach


def _circles(poses: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres [..., 4, 2] and radius [...] of the covering circles."""
    length, width = size[..., 0], size[..., 1]
    places = (torch.arange(CIRCLES, dtype=poses.dtype, device=poses.device) + 0.5) / CIRCLES - 0.5
    along = places * length[..., None]
    direction = torch.stack([poses[..., 2].cos(), poses[..., 2].sin()], -1)
    centres = poses[..., None, :2] + along[..., None] * direction[..., None, :]
    return centres, torch.sqrt((length / (2 * CIRCLES)).square() + (width / 2).square())
