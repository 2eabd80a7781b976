"""Networks over whole plans of controls in units of their limits: a denoiser with an input skip, and a conditional
variational auto-encoder. Both are told everything else in one vector. Meng and Fan 2024 (pSTL-diffusion)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.level_embedding import sinusoids
from pilotage.systems.robots.stl_diffusion.scene_encoder import relu_layers


class PlanDenoiser(ChunkNetwork):
    """ReLU layers on the condition, the flattened noisy plan and sinusoids of the level; the noisy plan is added to
    what they answer. x [B, T, A], level [B] in [0, 1], vector [B, d] -> [B, T, A]."""

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
        self._check(x)
        codes = sinusoids(level, self.level_width).to(x.dtype)
        return x + self.layers(torch.cat([vector, x.flatten(1), codes], -1)).view_as(x)


class PlanAutoEncoder(nn.Module):
    """A conditional VAE of plans with a standard normal prior: encoder and decoder of ReLU layers. Sohn et al. 2015."""

    def __init__(self, action_dim: int, horizon: int, vector_dim: int, *, latent: int = 16, width: int = 256) -> None:
        super().__init__()
        self.shape, self.latent = (horizon, action_dim), latent
        size = horizon * action_dim
        self.encode = relu_layers([vector_dim + size, width, width, 2 * latent])
        self.decode = relu_layers([vector_dim + latent, width, width, size])

    def reconstruct(self, plan: Tensor, vector: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """plan [B, T, A], vector [B, d], noise [B, latent] -> the plan again [B, T, A], and KL to the prior [B]."""
        mean, log_std = self.encode(torch.cat([vector, plan.flatten(1)], -1)).chunk(2, -1)
        log_std = log_std.clamp(-7, 3)
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(-1)
        return self.sample(vector, mean + log_std.exp() * noise), divergence

    def sample(self, vector: Tensor, latent: Tensor) -> Tensor:
        """vector [B, d], latent [B, latent] -> plans [B, T, A], not clipped."""
        return self.decode(torch.cat([vector, latent], -1)).view(-1, *self.shape)
