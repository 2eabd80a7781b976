"""The one-dimensional convolutional U-Net of Diffusion Policy (DP-C): Chi et al. 2023 (arXiv 2303.04137)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.level_embedding import LevelEmbedding


class ConvolutionBlock(nn.Sequential):
    """Conv1d that keeps the length, GroupNorm, Mish: [B, in, T] -> [B, out, T]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs), nn.Mish()
        )


class ConditionedBlock(nn.Module):
    """Two convolution blocks with a scale and a shift per channel from the condition between them, plus a shortcut."""

    def __init__(self, inputs: int, outputs: int, known: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = ConvolutionBlock(inputs, outputs, kernel, groups)
        self.second = ConvolutionBlock(outputs, outputs, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(known, 2 * outputs))
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """X [B, in, T], known [B, d] -> [B, out, T]."""
        scale, shift = self.film(known)[..., None].chunk(2, 1)
        return self.second(self.first(x) * scale + shift) + self.shortcut(x)


class UNet1d(ChunkNetwork):
    """Per level two conditioned blocks and a stride-2 convolution, mirrored on the way up with skips. Uses `vector`.

    Raises UsageError when `horizon` cannot be halved once per level but the last, naming the lengths that fit.
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        vector_dim: int,
        *,
        widths: Sequence[int] = (256, 512, 1024),
        level_width: int = 256,
        kernel: int = 5,
        groups: int = 8,
        outputs: int | None = None,
        takes_level: bool = True,
    ) -> None:
        super().__init__(action_dim, horizon, outputs, takes_level)
        self.vector_dim, self.widths, self.level_width = vector_dim, tuple(widths), level_width
        self.kernel, self.groups = kernel, groups
        _check_sizes(horizon, self.widths, kernel, groups)
        self.level = LevelEmbedding(level_width) if takes_level else None
        known = vector_dim + (level_width if takes_level else 0)

        def pair(inputs: int, outs: int) -> nn.ModuleList:
            return nn.ModuleList(ConditionedBlock(size, outs, known, kernel, groups) for size in (inputs, outs))

        steps = list(zip((action_dim, *self.widths[:-1]), self.widths, strict=True))
        self.down = nn.ModuleList(pair(inputs, outs) for inputs, outs in steps)
        self.shrink = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for width in self.widths[:-1])
        self.middle = pair(self.widths[-1], self.widths[-1])
        self.up = nn.ModuleList(pair(2 * outs, inputs) for inputs, outs in reversed(steps[1:]))
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(width, width, 4, stride=2, padding=1) for width in reversed(self.widths[:-1])
        )
        self.output_proj = nn.Sequential(
            ConvolutionBlock(self.widths[0], self.widths[0], kernel, groups), nn.Conv1d(self.widths[0], self.outputs, 1)
        )

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
        known = vector if self.level is None else torch.cat([self.level(level), vector], -1)
        hidden, skips = x.transpose(1, 2), []
        for number, blocks in enumerate(self.down):
            hidden = _through(blocks, hidden, known)
            skips.append(hidden)
            if number < len(self.shrink):
                hidden = self.shrink[number](hidden)
        hidden = _through(self.middle, hidden, known)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            hidden = grow(_through(blocks, torch.cat([hidden, skips.pop()], 1), known))
        return self.output_proj(hidden).transpose(1, 2)


def _through(blocks: nn.Module, hidden: Tensor, known: Tensor) -> Tensor:
    for block in blocks.children():
        hidden = block(hidden, known)
    return hidden


def _check_sizes(horizon: int, widths: Sequence[int], kernel: int, groups: int) -> None:
    stride = 2 ** (len(widths) - 1)
    if horizon % stride:
        below, above = horizon // stride * stride, (horizon // stride + 1) * stride
        fitting = f"{below} or {above}" if below else f"{above}"
        raise UsageError(
            f"a chunk of {horizon} actions cannot be halved {len(widths) - 1} times; "
            f"take a multiple of {stride}, such as {fitting}, or fewer levels than {len(widths)}"
        )
    if any(width % groups for width in widths):
        raise UsageError(f"widths {tuple(widths)} must be multiples of groups={groups}")
    if kernel % 2 == 0:
        raise UsageError(f"kernel={kernel} must be odd, so that the length is kept")
