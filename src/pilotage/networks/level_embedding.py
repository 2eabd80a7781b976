"""What a network is told of the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError


def sinusoids(level: Tensor, width: int, *, scale: float = 100.0, slowest: float = 1e4) -> Tensor:
    """Return ω falling geometrically from 1 to 1/`slowest`: [B] -> [B, width], [sin(ω·scale·level),
    cos(ω·scale·level)].

    With `scale` the number of levels and level = t/steps these are the position codes of Vaswani et al. 2017 for t.
    """
    if width < 4 or width % 2:
        raise UsageError(f"a level embedding of width {width}; give an even width of at least 4")
    half = width // 2
    frequency = torch.exp(torch.linspace(0, -math.log(slowest), half, dtype=torch.float64, device=level.device))
    angle = scale * level.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)


class LevelEmbedding(nn.Module):
    """Sinusoids of the level through Linear(4·width), Mish, Linear(width): level [B] -> [B, width]."""

    def __init__(self, width: int, *, scale: float = 100.0) -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))

    def forward(self, level: Tensor) -> Tensor:
        """Return the output of the network."""
        codes = sinusoids(level, self.width, scale=self.scale)
        return self.layers(codes.to(next(self.layers.parameters()).dtype))
