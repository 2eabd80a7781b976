"""A network that repairs plans which break their rule and leaves the others alone. Meng and Fan 2024, RefineNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.scene_encoder import relu_layers


def into_the_room(plan: Tensor, push: Tensor) -> Tensor:
    """The plan moved by `push` in (−1, 1) of the room that is left to the limits ±1: both [..., T, A] -> the same."""
    plan = plan.clamp(-1, 1)
    return plan + torch.where(push > 0, push * (1 - plan), push * (1 + plan))


def only_violating(plan: Tensor, changed: Tensor, robustness: Tensor) -> Tensor:
    """`changed` where the robustness [N] of the plan is below 0, elsewhere `plan` itself, bit for bit: [N, T, A]."""
    return torch.where((robustness >= 0)[:, None, None], plan, changed)


class RefineNet(nn.Module):
    """Changes of plans within their limits, told what their siblings of a shard look like.

    `shard` plans in a row share a scene and a rule; the greatest of what a small network says of each of them is added
    to the hidden layer of all, so that siblings can move apart. shared=False leaves that out (an ablation)."""

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
        self.enter = nn.Linear(vector_dim + size, width)
        self.summary = relu_layers([size, summary, summary]) if shared else None
        self.join = nn.Linear(summary, width, bias=False) if shared else None
        self.layers = nn.Sequential(nn.ReLU(), *relu_layers([width, width, size]))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():  # begins as a small change
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, plan: Tensor, vector: Tensor, robustness: Tensor) -> Tensor:
        """plan [N, T, A] within ±1 (N a multiple of the shard), vector [N, d], robustness [N] -> plans [N, T, A]."""
        if len(plan) % self.shard:
            raise UsageError(f"{len(plan)} plans are no whole number of shards of {self.shard}")
        flat = plan.flatten(1)
        hidden = self.enter(torch.cat([vector, flat], -1))
        if self.summary is not None and self.join is not None:
            said = self.summary(flat).view(-1, self.shard, self.join.in_features).amax(1)
            hidden = hidden + self.join(said).repeat_interleave(self.shard, 0)
        push = torch.tanh(self.layers(hidden)).view_as(plan)
        return only_violating(plan, into_the_room(plan, push), robustness)
