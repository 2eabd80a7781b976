"""Networks of STL-diffusion: an encoder of scenes, a denoiser and a VAE of plans, and RefineNet. Meng and Fan 2024.

Plans are controls in units of their limits; all else is told to a network in one vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.level_embedding import sinusoids


def relu_layers(sizes: Sequence[int]) -> nn.Sequential:
    """Return linear layers from the first size to the last with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def pooled(items: Tensor, there: Tensor) -> Tensor:
    """Return least, mean and greatest over the items of a set that are there, [batch, 3 × features].

    items [batch, item, features]; there [batch, item] bool. An empty set gives zeros, with no gradient and no NaN.
    """
    shown = there[..., None]
    least = items.masked_fill(~shown, torch.inf).amin(1)
    greatest = items.masked_fill(~shown, -torch.inf).amax(1)
    mean = torch.where(shown, items, 0.0).sum(1) / there.sum(1).clamp(min=1)[:, None]
    full = torch.cat([least, mean, greatest], -1)
    return torch.where(there.any(1)[:, None], full, torch.zeros_like(full))


class SceneEncoder(nn.Module):
    """Set encoder for traffic: one vector [batch, 7 × width] for ego car, neighbours and three lanes.

    Ego, neighbours and lanes go through their own layers; neighbours are pooled by min, mean and max, whatever their
    order and number. Takes what `env.highway.in_ego_frame` gives: ego [batch, 6], neighbours [batch, neighbour, 7] with
    whether they are there first, lanes [batch, 3, way-point, 3]. A lane is its first way-point and the
    differences to the next ones. Metres and m/s are divided by `scale` before they reach a layer.
    """

    def __init__(self, *, width: int = 32, hidden: int = 64, way_points: int = 15, scale: float = 10.0) -> None:
        super().__init__()
        self.features, self.scale = 7 * width, scale
        self.ego = relu_layers([6, hidden, width])
        self.neighbour = relu_layers([7, hidden, width])
        self.lane = relu_layers([3 * way_points, hidden, width])
        self.lengths: Tensor
        self.register_buffer("lengths", torch.tensor([1 / scale, 1 / scale, 1.0]), persistent=False)

    def forward(self, observed: Mapping[str, Tensor]) -> Tensor:
        """Return one vector per scene, [batch, 7 × width]."""
        ego, neighbours, lanes = observed["ego"], observed["neighbours"], observed["lanes"]
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


class PlanDenoiser(ChunkNetwork):
    """Denoiser of plans: ReLU layers on condition, noisy plan and sinusoids of the level, with an input skip.

    x [batch, step, number], level [batch] in [0, 1], vector [batch, features] -> the shape of x.
    """

    def __init__(
        self, action_dim: int, horizon: int, vector_dim: int, *, width: int = 256, level_width: int = 32
    ) -> None:
        super().__init__(action_dim, horizon, None, True)
        self.level_width = level_width
        size = horizon * action_dim
        self.layers = relu_layers([vector_dim + size + level_width, width, width, size])

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor,
        tokens: Tensor | None = None,  # noqa: ARG002
        goal: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the denoised plans, of the shape of x."""
        self._check(x)
        codes = sinusoids(level, self.level_width).to(x.dtype)
        return x + self.layers(torch.cat([vector, x.flatten(1), codes], -1)).view_as(x)


class PlanAutoEncoder(nn.Module):
    """Conditional VAE of plans with a standard normal prior: encoder and decoder of ReLU layers. Sohn et al. 2015."""

    def __init__(self, action_dim: int, horizon: int, vector_dim: int, *, latent: int = 16, width: int = 256) -> None:
        super().__init__()
        self.shape, self.latent = (horizon, action_dim), latent
        size = horizon * action_dim
        self.encode = relu_layers([vector_dim + size, width, width, 2 * latent])
        self.decode = relu_layers([vector_dim + latent, width, width, size])

    def reconstruct(self, plan: Tensor, vector: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstructed plan [batch, step, number], and the divergence from the prior [batch].

        plan [batch, step, number]; vector [batch, features]; noise [batch, latent].
        """
        mean, log_std = self.encode(torch.cat([vector, plan.flatten(1)], -1)).chunk(2, -1)
        log_std = log_std.clamp(-7, 3)
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(-1)
        return self.sample(vector, mean + log_std.exp() * noise), divergence

    def sample(self, vector: Tensor, latent: Tensor) -> Tensor:
        """Return plans [batch, step, number], not clipped, for vector [batch, features] and latent [batch, latent]."""
        return self.decode(torch.cat([vector, latent], -1)).view(-1, *self.shape)


def moved_within_limits(plan: Tensor, push: Tensor) -> Tensor:
    """Return the plan moved by a share `push` in (−1, 1) of what is left to the limits ±1: both [..., step, number]."""
    plan = plan.clamp(-1, 1)
    return plan + torch.where(push > 0, push * (1 - plan), push * (1 + plan))


def violators_changed(plan: Tensor, changed: Tensor, robustness: Tensor) -> Tensor:
    """Return `changed` where the robustness [plan] is below 0, elsewhere `plan` [plan, step, number] itself."""
    return torch.where((robustness >= 0)[:, None, None], plan, changed)


class RefineNet(nn.Module):
    """Network that repairs plans which break their rule, within their limits, and leaves the others alone.

    `shard` plans in a row share a scene and a rule. A small network summarises each; the greatest of the summaries is
    added to the hidden layer of all, so that siblings can move apart. shared=False leaves that out (an ablation).
    Meng and Fan 2024, RefineNet.
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        vector_dim: int,
        *,
        shard: int = 16,
        width: int = 256,
        summary: int = 32,
        shared: bool = True,
    ) -> None:
        super().__init__()
        if shard < 1:
            raise UsageError(f"a shard holds at least one plan, got {shard}")
        size = horizon * action_dim
        self.shard, self.shared = shard, shared
        self.input_proj = nn.Linear(vector_dim + size, width)
        self.summary = relu_layers([size, summary, summary]) if shared else None
        self.summary_proj = nn.Linear(summary, width, bias=False) if shared else None
        self.layers = nn.Sequential(nn.ReLU(), *relu_layers([width, width, size]))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():  # begins as a small change
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, plan: Tensor, vector: Tensor, robustness: Tensor) -> Tensor:
        """Return changed plans, of the shape of `plan`.

        plan [plan, step, number] within ±1, a multiple of the shard; vector [plan, features]; robustness [plan].
        """
        if len(plan) % self.shard:
            raise UsageError(f"{len(plan)} plans are no whole number of shards of {self.shard}")
        flat = plan.flatten(1)
        hidden = self.input_proj(torch.cat([vector, flat], -1))
        if self.summary is not None and self.summary_proj is not None:
            greatest = self.summary(flat).view(-1, self.shard, self.summary_proj.in_features).amax(1)
            hidden = hidden + self.summary_proj(greatest).repeat_interleave(self.shard, 0)
        push = torch.tanh(self.layers(hidden)).view_as(plan)
        return violators_changed(plan, moved_within_limits(plan, push), robustness)
