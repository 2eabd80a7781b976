"""The decoder-only transformer of BESO over interleaved states and actions: Reuss et al. 2023 (arXiv 2304.02532)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.networks.action_transformer import small_weights
from pilotage.networks.chunk_network import ChunkNetwork, sized


class CausalBlock(nn.Module):
    """Pre-norm self-attention over earlier tokens and a GELU MLP of four times the width: [B, N, d] -> [B, N, d]."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the network."""
        batch, length, width = x.shape
        parts = self.query_key_value(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        x = x + self.drop(self.merge(mixed.transpose(1, 2).reshape(batch, length, width)))
        return x + self.drop(self.mlp(self.before_mlp(x)))


class GPT(ChunkNetwork):
    """Tokens [level, g_1 … g_n, s_1, a_1, …, s_W, a_W], causal; the answers stand at the action tokens.

    The chunk is the window: horizon W = number of state tokens, and both may be shorter than W at a call. State t and
    action t share a learned position; states and goals share an embedding when they have the same width.
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        *,
        token_dim: int,
        goal_dim: int = 0,
        goals: int = 0,
        width: int = 240,
        depth: int = 4,
        heads: int = 12,
        attention_dropout: float = 0.05,
        dropout: float = 0.05,
        outputs: int | None = None,
        takes_level: bool = True,
    ) -> None:
        super().__init__(action_dim, horizon, outputs, takes_level)
        if width % heads:
            raise UsageError(f"width={width} must be a multiple of heads={heads}")
        self.token_dim, self.goal_dim, self.goals = token_dim, goal_dim, goals
        self.width, self.depth, self.heads = width, depth, heads
        self.attention_dropout, self.dropout = attention_dropout, dropout
        self.of_level = nn.Linear(1, width) if takes_level else None
        self.of_state, self.of_action = nn.Linear(token_dim, width), nn.Linear(action_dim, width)
        self.of_goal = nn.Linear(goal_dim, width) if goals and goal_dim != token_dim else None
        self.position = nn.Parameter(torch.zeros(goals + horizon, width))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(CausalBlock(width, heads, attention_dropout, dropout) for _ in range(depth))
        self.norm, self.output_proj = nn.LayerNorm(width), nn.Linear(width, self.outputs)
        self.apply(small_weights)
        nn.init.normal_(self.position, std=0.02)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor,  # noqa: ARG002
        tokens: Tensor | None = None,
        goal: Tensor | None = None,
    ) -> Tensor:
        """X [B, T, A], level [B], tokens [B, T, S], goal [B, goals, G] -> [B, T, outputs], T at most the horizon."""
        self._check(x, shorter=True)
        length = x.shape[1]
        position = self.position[self.goals : self.goals + length]
        state = self.of_state(sized("states", tokens, length, self.token_dim)) + position
        pairs = torch.stack([state, self.of_action(x) + position], 2).flatten(1, 2)
        parts = []
        if self.of_level is not None:
            parts.append(self.of_level(level.to(x.dtype)[:, None])[:, None])
        if self.goals:
            embed = self.of_state if self.of_goal is None else self.of_goal
            parts.append(embed(sized("goals", goal, self.goals, self.goal_dim)) + self.position[: self.goals])
        hidden = self.drop(torch.cat([*parts, pairs], 1))
        for block in self.blocks:
            hidden = block(hidden)
        return self.output_proj(self.norm(hidden[:, -2 * length :])[:, 1::2])
