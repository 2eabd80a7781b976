"""Small policies that the tests of this folder share."""

from __future__ import annotations

import torch
from torch import nn

from pilotage.data.normalisers import Normaliser
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import FlattenEncoder
from pilotage.policies.control.execution.executors import RecedingHorizon
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.policy import ActionPolicy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def affine(factor=1.0, offset=0.0):
    """A normaliser with one factor, or one per number, and one offset."""
    scale = torch.as_tensor(factor)
    made = Normaliser.unfitted(tuple(scale.shape))
    made.scale.copy_(scale)
    made.offset.fill_(offset)
    return made


class Told(ChunkNetwork):
    """Answers what it is told: the newest state at every step, plus the step's number (so that indices show)."""

    def __init__(self, action_dim=1, horizon=6, takes_level=True):
        super().__init__(action_dim, horizon, None, takes_level)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, level, vector, tokens=None, goal=None):  # noqa: ARG002
        step = torch.arange(self.horizon, dtype=x.dtype)[None, :, None]
        return tokens[:, -1:, :1] + 0.01 * step + 0 * x


def unknown(rows):
    """A condition that says nothing."""
    return Condition(torch.zeros(rows, 1))


def two_modes(rows, seed):
    """Chunks of two equal actions, all near +1 or all near −1: [rows, 2, 1], and their mask."""
    g = generator(seed)
    sign = torch.randint(0, 2, (rows, 1, 1), generator=g) * 2.0 - 1
    return (sign + 0.03 * torch.randn(rows, 1, 1, generator=g)).expand(-1, 2, -1), torch.ones(rows, 2, dtype=torch.bool)


def trained(head, steps=250, rows=128, lr=3e-3):
    """The head after some steps on `two_modes`."""
    optimiser, g = torch.optim.Adam(head.parameters(), lr=lr), generator(1)
    for step in range(steps):
        chunk, mask = two_modes(rows, 10 + step)
        loss = head.loss(chunk, unknown(rows), g, mask).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head.eval()


def small_mlp(**options):
    torch.manual_seed(0)
    return ResidualMLP(1, 2, options.pop("vector_dim", 1), width=64, depth=2, level_width=16, **options)


def small_policy(*, frames=2, horizon=6, executed=3, seed=0, path=None, goal_dim=0, **options):
    """An untrained denoising policy over two-dimensional states and actions."""
    torch.manual_seed(0)
    encoder = FlattenEncoder(2, frames, goal_dim=goal_dim)
    network = ResidualMLP(2, horizon, encoder.vector_dim, width=32, depth=1, level_width=8)
    head = Denoiser(network, VariancePreserving(10) if path is None else path)
    normalisers = {"state": affine(2.0, 1.0), "action": affine(torch.tensor([3.0, 0.5]), -1.0)}
    return ActionPolicy(encoder, head, RecedingHorizon(frames, horizon, executed), normalisers, seed=seed, **options)
