"""A linear map from what is known at a frame to its action: the last layer of recurrent policies."""

from __future__ import annotations

from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork, sized


class Framewise(ChunkNetwork):
    """What is said of action t comes from the token of frame t alone; the chunk is the window of frames.

    With a causal encoder, such as an LSTM, no action is told by what was observed after it.
    """

    def __init__(
        self, action_dim: int, horizon: int, *, token_dim: int, outputs: int | None = None, takes_level: bool = False
    ) -> None:
        super().__init__(action_dim, horizon, outputs, takes_level)
        if takes_level:
            raise UsageError("a framewise network does not look at the chunk, so it cannot denoise; take another one")
        self.token_dim = token_dim
        self.output_proj = nn.Linear(token_dim, self.outputs)

    def forward(
        self,
        x: Tensor,
        level: Tensor,  # noqa: ARG002
        vector: Tensor,  # noqa: ARG002
        tokens: Tensor | None = None,
        goal: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """X [B, T, A], tokens [B, T, S] -> [B, T, outputs]; T is the horizon."""
        self._check(x)
        answer: Tensor = self.output_proj(sized("frames", tokens, self.horizon, self.token_dim))
        return answer
