"""Autoencoders of short signals, many side by side: every channel group is a network of its own.

A signal is [B, groups·channels, length], the channels of a group next to one another. All weights begin with the
channels of group 0, so that networks of one group each are merged by joining their tensors along dimension 0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


def convolution(groups: int, inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Conv1d:
    """`inputs` to `outputs` channels per group; the length stays, or is divided by the stride."""
    return nn.Conv1d(groups * inputs, groups * outputs, size, stride, size // 2, groups=groups)


def normalisation(groups: int, channels: int) -> nn.GroupNorm:
    """Over all channels and places of a group."""
    return nn.GroupNorm(groups, groups * channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, beside a shortcut: [B, groups·inputs, L] -> [B, groups·outputs, L]."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            normalisation(groups, inputs),
            nn.SiLU(),
            convolution(groups, inputs, outputs),
            normalisation(groups, outputs),
            nn.SiLU(),
            convolution(groups, outputs, outputs),
        )
        same = inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else convolution(groups, inputs, outputs, size=1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.layers(x)


def signal_encoder(groups: int, inputs: int, channels: int, multipliers: Sequence[int], latent: int) -> nn.Sequential:
    """[B, groups·inputs, L] -> [B, groups·latent, L / 2^len(multipliers)]; level i has channels·multipliers[i]."""
    widths = [channels, *(channels * multiplier for multiplier in multipliers)]
    layers: list[nn.Module] = [convolution(groups, inputs, channels)]
    for narrow, wide in pairwise(widths):
        layers += [
            ResidualBlock(groups, narrow, wide),
            convolution(groups, wide, wide, stride=2),
            ResidualBlock(groups, wide, wide),
        ]
    layers += [normalisation(groups, widths[-1]), nn.SiLU(), convolution(groups, widths[-1], latent)]
    return nn.Sequential(*layers, convolution(groups, latent, latent))


def signal_decoder(groups: int, outputs: int, channels: int, multipliers: Sequence[int], latent: int) -> nn.Sequential:
    """The mirror of `signal_encoder`, with transposed convolutions."""
    widths = [channels, *(channels * multiplier for multiplier in multipliers)][::-1]
    layers: list[nn.Module] = [convolution(groups, latent, latent), convolution(groups, latent, widths[0])]
    for wide, narrow in pairwise(widths):
        layers += [
            ResidualBlock(groups, wide, wide),
            nn.ConvTranspose1d(groups * wide, groups * wide, 4, 2, 1, groups=groups),
            ResidualBlock(groups, wide, narrow),
        ]
    layers += [normalisation(groups, widths[-1]), nn.SiLU(), convolution(groups, widths[-1], outputs)]
    return nn.Sequential(*layers)
