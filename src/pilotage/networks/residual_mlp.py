"""A residual network on the flattened chunk: the cheapest denoiser that is good on low-dimensional tasks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.level_embedding import LevelEmbedding


class ResidualMLP(ChunkNetwork):
    """Linear to `width`, `depth` blocks h + Mish(Linear(LayerNorm(h))), Linear to the outputs. Uses `vector` only.

    The level's embedding and the condition are concatenated to the chunk, or with conditioning="film" also scale and
    shift every block's normalised input (Perez et al. 2018).
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        vector_dim: int,
        *,
        width: int = 512,
        depth: int = 3,
        level_width: int = 64,
        conditioning: Literal["concatenate", "film"] = "concatenate",
        dropout: float = 0.0,
        outputs: int | None = None,
        takes_level: bool = True,
    ) -> None:
        super().__init__(action_dim, horizon, outputs, takes_level)
        if conditioning not in ("concatenate", "film"):
            raise UsageError(f"conditioning={conditioning!r} is not known; choose concatenate or film")
        self.vector_dim, self.width, self.depth = vector_dim, width, depth
        self.level_width, self.conditioning, self.dropout = level_width, conditioning, dropout
        self.level = LevelEmbedding(level_width) if takes_level else None
        known = vector_dim + (level_width if takes_level else 0)
        self.input_proj = nn.Linear(horizon * action_dim + known, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        film = conditioning == "film"
        self.films = nn.ModuleList(nn.Linear(known, 2 * width) for _ in range(depth)) if film else None
        self.drop = nn.Dropout(dropout)
        self.output_proj = nn.Linear(width, horizon * self.outputs)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor,
        tokens: Tensor | None = None,  # noqa: ARG002
        goal: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """X [B, T, A], level [B], vector [B, d] -> [B, T, outputs]."""
        self._check(x)
        if vector.shape[-1] != self.vector_dim:
            raise UsageError(f"a condition of width {vector.shape[-1]}; this network was made for {self.vector_dim}")
        known = vector if self.level is None else torch.cat([self.level(level), vector], -1)
        hidden = self.input_proj(torch.cat([x.flatten(1), known], -1))
        for number, (norm, block) in enumerate(zip(self.norms, self.blocks, strict=True)):
            inner = norm(hidden)
            if self.films is not None:
                scale, shift = self.films[number](known).chunk(2, -1)
                inner = inner * (1 + scale) + shift
            hidden = hidden + self.drop(nn.functional.mish(block(inner)))
        return self.output_proj(hidden).view(len(x), self.horizon, self.outputs)
