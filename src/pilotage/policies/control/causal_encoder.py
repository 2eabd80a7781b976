"""Observed frames through a small causal transformer: EBT-Policy's temporal encoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from pilotage.core.errors import UsageError
from pilotage.networks.gpt import CausalBlock
from pilotage.objectives.draws import Generators
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import Encoder, Observations, joined


class CausalEncoder(Encoder):
    """Linear to `width` plus learnt positions, `depth` causal blocks, LayerNorm: tokens [B, To, width], each knowing
    the frames up to its own; the vector is the newest token (and the goal). EBT-Policy (arXiv 2510.27545).
    """

    def __init__(
        self,
        state_dim: int,
        frames: int,
        *,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        goal_dim: int = 0,
        goals: int = 1,
        goal_dropout: float = 0.0,
        dropout_kind: Literal["element", "whole"] = "element",
    ) -> None:
        super().__init__(
            state_dim, frames, goal_dim=goal_dim, goals=goals, goal_dropout=goal_dropout, dropout_kind=dropout_kind
        )
        if width % heads:
            raise UsageError(f"width={width} must be a multiple of heads={heads}")
        self.width, self.depth, self.heads, self.dropout = width, depth, heads, dropout
        self.token_dim, self.vector_dim = width, width + self.goal_size
        self.of_frame, self.position = nn.Linear(state_dim, width), nn.Parameter(torch.zeros(frames, width))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(*(CausalBlock(width, heads, dropout, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, observations: Observations, generator: Generators | None = None) -> Condition:
        """Return the output of the network."""
        state, goal = self._state(observations), self._goal(observations, generator)
        tokens = self.norm(self.blocks(self.of_frame(state) + self.position))
        return Condition(joined(tokens[:, -1], goal), tokens, goal)
