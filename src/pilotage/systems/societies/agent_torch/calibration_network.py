"""CalibNN: a network from the last observed weeks to the parameters of every week of a simulation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.bounded import squashed


class CalibNN(nn.Module):
    """Sequence network of AgentTorch (arXiv 2409.10568) and DeepABM, from the description in the paper.

    Encoder: two layers of a bidirectional GRU over the observed weeks, then self-attention. Decoder: a bidirectional
    GRU over the simulated weeks, conditioned on their index and the encoder's state, an MLP, and a sigmoid into bounds.

    Args:
        features: number of features per observed week.
        low: lower bound of each output [outputs], such as 1.4 for R.
        high: upper bound of each output [outputs].
        width: units of each direction.
        heads: heads of the self-attention; they divide 2 · width.
    """

    low: Tensor
    high: Tensor

    def __init__(self, features: int, low: Tensor, high: Tensor, *, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        if low.dim() != 1 or low.shape != high.shape or not bool((low < high).all()):
            raise UsageError(f"bounds are [outputs] with low below high, got {low.tolist()} and {high.tolist()}")
        if (2 * width) % heads:
            raise UsageError(f"{heads} heads do not divide {2 * width} (both directions of {width} units)")
        both = 2 * width
        self.register_buffer("low", low.float())
        self.register_buffer("high", high.float())
        self.encoder = nn.GRU(features, width, num_layers=2, bidirectional=True, batch_first=True)
        self.attention = nn.MultiheadAttention(both, heads, batch_first=True)
        self.normalise = nn.LayerNorm(both)
        self.decoder = nn.GRU(1 + both, width, bidirectional=True, batch_first=True)
        self.output_proj = nn.Sequential(nn.Linear(both, width), nn.ReLU(), nn.Linear(width, len(low)))

    def forward(self, observed: Tensor, weeks: int) -> Tensor:
        """Return outputs [weeks, outputs] between their bounds, from observed features [observed weeks, features]."""
        if observed.dim() != 2 or observed.shape[1] != self.encoder.input_size or weeks < 1:
            raise UsageError(
                f"expected observed [weeks, {self.encoder.input_size}] and a week or more to simulate, got "
                f"{list(observed.shape)} and {weeks}"
            )
        encoded, _ = self.encoder(observed[None])
        attended, _ = self.attention(encoded, encoded, encoded, need_weights=False)
        state = self.normalise(encoded + attended).mean(1, keepdim=True)
        index = torch.linspace(0, 1, weeks)[None, :, None] if weeks > 1 else torch.zeros(1, 1, 1)
        decoded, _ = self.decoder(torch.cat([index, state.expand(1, weeks, -1)], 2))
        return squashed(self.output_proj(decoded[0]), self.low, self.high)
