"""The encoder-decoder transformer of Diffusion Policy (DP-T): Chi et al. 2023 (arXiv 2303.04137)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork, sized
from pilotage.networks.level_embedding import LevelEmbedding


class ActionTransformer(ChunkNetwork):
    """Condition tokens [level, vector, goals, observation frames] through a two-layer Mish MLP; a pre-norm decoder over
    the actions attends causally to itself and to the condition: action t sees the frames up to t and all the rest.

    Which condition it takes is set by sizes: `frames` tokens of `token_dim`, `goals` tokens of `goal_dim`, and one
    token for a vector of `vector_dim` (0: none of them).
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        *,
        token_dim: int = 0,
        frames: int = 0,
        vector_dim: int = 0,
        goal_dim: int = 0,
        goals: int = 0,
        width: int = 256,
        depth: int = 8,
        heads: int = 4,
        dropout: float = 0.01,
        outputs: int | None = None,
        takes_level: bool = True,
    ) -> None:
        super().__init__(action_dim, horizon, outputs, takes_level)
        if width % heads:
            raise UsageError(f"width={width} must be a multiple of heads={heads}")
        if not (takes_level or vector_dim or frames or goals):
            raise UsageError("the decoder needs something to attend to: a level, a vector, goals or observation frames")
        self.token_dim, self.frames, self.vector_dim = token_dim, frames, vector_dim
        self.goal_dim, self.goals, self.width = goal_dim, goals, width
        self.depth, self.heads, self.dropout = depth, heads, dropout
        self.level = LevelEmbedding(width) if takes_level else None
        self.of_vector = nn.Linear(vector_dim, width) if vector_dim else None
        self.of_goal = nn.Linear(goal_dim, width) if goals else None
        self.of_frame = nn.Linear(token_dim, width) if frames else None
        always = int(takes_level) + int(vector_dim > 0) + goals
        self.condition_position = nn.Parameter(torch.zeros(always + frames, width))
        self.encoder = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.input_proj, self.position = nn.Linear(action_dim, width), nn.Parameter(torch.zeros(horizon, width))
        self.drop = nn.Dropout(dropout)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, depth, norm=nn.LayerNorm(width))
        self.output_proj = nn.Linear(width, self.outputs)
        step, token = torch.arange(horizon)[:, None], torch.arange(always + frames)[None]
        self.register_buffer("later_actions", step < torch.arange(horizon)[None], persistent=False)
        self.register_buffer("later_frames", token - always > step, persistent=False)
        self.apply(small_weights)
        for position in (self.condition_position, self.position):
            nn.init.normal_(position, std=0.02)

    def forward(
        self, x: Tensor, level: Tensor, vector: Tensor, tokens: Tensor | None = None, goal: Tensor | None = None
    ) -> Tensor:
        """X [B, T, A], level [B], vector [B, d], tokens [B, frames, S], goal [B, goals, G] -> [B, T, outputs]."""
        self._check(x)
        condition = []
        if self.level is not None:
            condition.append(self.level(level)[:, None])
        if self.of_vector is not None:
            condition.append(self.of_vector(vector)[:, None])
        if self.of_goal is not None:
            condition.append(self.of_goal(sized("goals", goal, self.goals, self.goal_dim)))
        if self.of_frame is not None:
            condition.append(self.of_frame(sized("observation frames", tokens, self.frames, self.token_dim)))
        memory = self.encoder(self.drop(torch.cat(condition, 1) + self.condition_position))
        hidden = self.drop(self.input_proj(x) + self.position)
        hidden = self.decoder(hidden, memory, tgt_mask=self.later_actions, memory_mask=self.later_frames)
        return self.output_proj(hidden)


def small_weights(module: nn.Module) -> None:
    """Weights N(0, 0.02²) and biases 0 of linear layers and attention, as in GPT-2."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.MultiheadAttention):
        nn.init.normal_(module.in_proj_weight, std=0.02)
        nn.init.zeros_(module.in_proj_bias)
