"""Transformer that predicts the tokens of a chunk group by group, each group at once: CARP's second stage.

Gong et al. 2024 (arXiv 2412.06782), section 3.3, after VAR (Tian et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators, uniform

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values [batch, head, token, number] of every block, of the tokens so far."""
HIGHEST_SCALE = math.log(100)
"""Largest logarithm of the factor of attention's cosines."""


class ModulatedBlock(nn.Module):
    """Block of attention and a GELU MLP, both scaled, shifted and gated by the condition."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.heads, self.drop_path = heads, drop_path
        self.of_condition = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.query_key_value, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(4)))
        self.input_proj, self.output_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
        generator: Generators | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the block's output, and keys and values together with the past's.

        Args:
            x: [batch, token, width].
            condition: [batch, width].
            mask: which token sees which, [token, token] bool; None: all.
            past: keys and values of earlier tokens.
            generator: of dropped branches, needed in training.
        """
        gate_a, gate_m, scale_a, scale_m, shift_a, shift_m = self.of_condition(functional.silu(condition))[
            :, None
        ].chunk(6, -1)
        parts = self.query_key_value(self.norm(x) * (1 + scale_a) + shift_a).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        query = functional.normalize(query, dim=-1) * self.log_scale.clamp(max=HIGHEST_SCALE).exp()
        key = functional.normalize(key, dim=-1)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        x = x + self._kept(gate_a * self.merge(mixed.transpose(1, 2).flatten(2)), generator)
        x = x + self._kept(gate_m * self._mlp(self.norm(x) * (1 + scale_m) + shift_m), generator)
        return x, (key, value)

    @torch.no_grad()
    def soften(self, depth: int) -> None:
        """Make the effects of the condition and of each of `depth` blocks small; gates begin at 1."""
        width = self.merge.in_features
        self.of_condition.weight[: 2 * width] *= 1e-5
        self.of_condition.weight[2 * width :] *= 0.5
        self.of_condition.bias[: 2 * width] = 1.0
        self.merge.weight /= (2 * depth) ** 0.5
        self.output_proj.weight /= (2 * depth) ** 0.5

    def _mlp(self, x: Tensor) -> Tensor:
        changed: Tensor = self.output_proj(functional.gelu(self.input_proj(x), approximate="tanh"))
        return changed

    def _kept(self, branch: Tensor, generator: Generators | None) -> Tensor:
        """Return the branch, dropped in training for a row with probability `drop_path`, else scaled up."""
        if not (self.training and self.drop_path):
            return branch
        if generator is None:
            raise UsageError("branches are dropped in training; give the network a generator, or call eval()")
        keep = uniform([len(branch), 1, 1], generator, like=branch) >= self.drop_path
        return branch * keep / (1 - self.drop_path)


class NextScaleTransformer(nn.Module):
    """Transformer that gives logits of the tokens of a `MultiscaleTokeniser`, given earlier tokens and a condition.

    With order "scale" all tokens of a scale are one group: as many passes as scales. With "token" each token is a group
    of its own, in the same sequence: as many passes as tokens. A token attends to its own group and the earlier ones.

    Args:
        scales: tokens of a signal at each scale.
        signals: number of signals.
        codes: codes of a signal.
        latent: numbers of a token's input.
        vector_dim: numbers of the condition.
        width: a multiple of heads.
        depth: number of blocks.
        heads: None: as many as blocks (the paper).
        order: "scale" or "token".
        drop_path: rate d; block i of a network of `depth` drops branches with up to d·depth/24 (the paper: .1).
    """

    def __init__(
        self,
        scales: Sequence[int],
        signals: int,
        codes: int,
        latent: int,
        vector_dim: int,
        *,
        width: int = 64,
        depth: int = 4,
        heads: int | None = None,
        order: Literal["scale", "token"] = "scale",
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.scales, self.signals, self.codes, self.latent = tuple(scales), signals, codes, latent
        self.vector_dim, self.width, self.depth, self.order = vector_dim, width, depth, order
        self.heads = depth if heads is None else heads
        self.drop_path = drop_path
        if width % self.heads:
            raise UsageError(
                f"width={width} must be a multiple of heads={self.heads} (as many as depth={depth} unless given)"
            )
        if order not in ("scale", "token"):
            raise UsageError(f"order={order!r} is not known; choose scale or token")
        counts = [scale * signals for scale in self.scales]
        self.groups = tuple(counts) if order == "scale" else (1,) * sum(counts)
        """Tokens of each pass."""
        self.firsts = tuple(accumulate(self.groups, initial=0))
        """Where each group begins; the last entry is the number of tokens."""
        total = sum(counts)
        self.of_condition, self.of_code = nn.Linear(vector_dim, width), nn.Linear(latent, width)
        self.start = nn.Parameter(torch.empty(self.groups[0], width))
        self.position = nn.Parameter(torch.empty(total, width))
        self.scale_embedding = nn.Parameter(torch.empty(len(counts), width))
        rates = torch.linspace(0, drop_path * depth / 24, depth).tolist()
        self.blocks = nn.ModuleList(ModulatedBlock(width, self.heads, rate) for rate in rates)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.output_proj = nn.Linear(width, codes)
        self.scale_of: Tensor
        self.may_see: Tensor
        self.register_buffer(
            "scale_of", torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)), persistent=False
        )
        group = torch.repeat_interleave(torch.arange(len(self.groups)), torch.tensor(self.groups))
        self.register_buffer("may_see", group[:, None] >= group[None], persistent=False)
        self._initialise()

    def forward(
        self,
        inputs: Tensor,
        vector: Tensor,
        *,
        first: int = 0,
        cache: Cache | None = None,
        generator: Generators | None = None,
    ) -> Tensor:
        """Return logits [batch, token, code] of the tokens from `first` on.

        Args:
            inputs: [batch, token, z]; those of the first group are not used.
            vector: condition, [batch, number].
            first: index of the first token.
            cache: receives the keys and values of this pass; then the tokens are one whole group, and those before it
                were seen in earlier passes with the same cache.
            generator: of dropped branches, needed in training.
        """
        condition = self.of_condition(vector)
        count, starts = inputs.shape[1], max(0, self.groups[0] - first)
        x = self.of_code(inputs[:, starts:])
        if starts:
            x = torch.cat([condition[:, None] + self.start, x], 1)
        x = x + self.position[first : first + count] + self.scale_embedding[self.scale_of[first : first + count]]
        mask = self.may_see[:count, :count] if cache is None else None
        kept: Cache = []
        for number, block in enumerate(self.blocks):
            past = cache[number] if cache else None
            x, seen = block(x, condition, mask, past, generator)
            kept.append(seen)
        if cache is not None:
            cache[:] = kept
        scale, shift = self.modulate(condition)[:, None].chunk(2, -1)
        logits: Tensor = self.output_proj(self.norm(x) * (1 + scale) + shift)
        return logits

    def _initialise(self) -> None:
        """Initialise as VAR, but with gates at 1, not at 0: weights N(0, 1/(3·width)), logits small."""
        std = (1 / (3 * self.width)) ** 0.5
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std, a=-2, b=2)
                nn.init.zeros_(module.bias)
        for parameter in (self.start, self.position, self.scale_embedding):
            nn.init.trunc_normal_(parameter, std=std, a=-2, b=2)
        with torch.no_grad():
            for block in self.blocks:
                assert isinstance(block, ModulatedBlock)
                block.soften(self.depth)
            self.output_proj.weight *= 0.02
