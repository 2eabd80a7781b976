"""A set encoder for traffic: one vector for the ego car, a set of neighbours and three lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError


def relu_layers(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers from the first size to the last with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def pooled(items: Tensor, there: Tensor) -> Tensor:
    """Least, mean and greatest over those of a set that are there: [B, N, D], [B, N] bool -> [B, 3·D].

    An empty set gives zeros, with no gradient and no NaN."""
    shown = there[..., None]
    least = items.masked_fill(~shown, torch.inf).amin(1)
    greatest = items.masked_fill(~shown, -torch.inf).amax(1)
    mean = torch.where(shown, items, 0.0).sum(1) / there.sum(1).clamp(min=1)[:, None]
    full = torch.cat([least, mean, greatest], -1)
    return torch.where(there.any(1)[:, None], full, torch.zeros_like(full))


class SceneEncoder(nn.Module):
    """ego, neighbours and lanes each through their own layers; neighbours are pooled by min, mean and max, whatever
    their order and number: [B, 7·width]. Meng and Fan 2024.

    Takes what `env.highway.in_ego_frame` gives: ego [B, 6], neighbours [B, N, 7] whose first entry says
    whether they are there, lanes [B, 3, P, 3]. A lane is its first way-point and the differences to the next ones.
    scale: metres and m/s are divided by it before they reach a layer."""

    def __init__(self, *, width: int = 32, hidden: int = 64, way_points: int = 15, scale: float = 10.0) -> None:
        super().__init__()
        self.features, self.scale = 7 * width, scale
        self.ego = relu_layers([6, hidden, width])
        self.neighbour = relu_layers([7, hidden, width])
        self.lane = relu_layers([3 * way_points, hidden, width])
        self.lengths: Tensor
        self.register_buffer("lengths", torch.tensor([1 / scale, 1 / scale, 1.0]), persistent=False)

    def forward(self, seen: Mapping[str, Tensor]) -> Tensor:
        ego, neighbours, lanes = seen["ego"], seen["neighbours"], seen["lanes"]
        if ego.shape[-1:] != (6,) or neighbours.shape[-1:] != (7,) or lanes.shape[1] != 3 or lanes.shape[-1] != 3:
            raise UsageError(
                f"expected ego [B, 6], neighbours [B, N, 7] and lanes [B, 3, P, 3], got {list(ego.shape)}, "
                f"{list(neighbours.shape)} and {list(lanes.shape)}"
            )
        self_ = torch.cat([ego[:, :1] / self.scale, ego[:, 1:]], -1)
        there = neighbours[..., 0] > 0
        others = torch.cat(
            [neighbours[..., 1:3] / self.scale, neighbours[..., 3:4], neighbours[..., 4:] / self.scale], -1
        )
        others = torch.cat([neighbours[..., :1], others], -1)
        steps = torch.cat([lanes[:, :, :1], lanes[:, :, 1:] - lanes[:, :, :-1]], 2) * self.lengths
        way = self.lane(steps.flatten(2)).flatten(1)
        return torch.cat([self.ego(self_), pooled(self.neighbour(others), there), way], -1)
