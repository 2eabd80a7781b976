"""What all networks over action chunks share: one signature, so that each can serve every head.

`network(x [B, T, A], level [B], vector [B, d], tokens [B, N, S] or None, goal [B, n, G] or None) -> [B, T, outputs]`.
`horizon`, `action_dim` and `outputs` are attributes. A network made with `takes_level=False` has no parameter for the
level and ignores it: for energies and for heads that do not denoise.
"""

from __future__ import annotations

from torch import Tensor, nn

from pilotage.core.errors import UsageError


class ChunkNetwork(nn.Module):
    """Sizes and checks of a network over chunks of `horizon` actions of `action_dim` numbers."""

    def __init__(self, action_dim: int, horizon: int, outputs: int | None, takes_level: bool) -> None:
        super().__init__()
        if action_dim < 1 or horizon < 1:
            raise UsageError(f"action_dim={action_dim} and horizon={horizon} must be at least 1")
        self.action_dim, self.horizon, self.takes_level = action_dim, horizon, takes_level
        self.outputs = action_dim if outputs is None else outputs

    def _check(self, x: Tensor, *, shorter: bool = False) -> None:
        """Raises UsageError unless `x` is [B, horizon, action_dim] (or has fewer steps, where that is allowed)."""
        steps_fit = x.dim() == 3 and (x.shape[1] == self.horizon or (shorter and 1 <= x.shape[1] <= self.horizon))
        if not steps_fit or x.shape[2] != self.action_dim:
            expected = f"[batch, {'1 to ' if shorter else ''}{self.horizon}, {self.action_dim}]"
            raise UsageError(f"a chunk of shape {list(x.shape)}; this network was made for {expected}")


def sized(name: str, given: Tensor | None, count: int, width: int) -> Tensor:
    """Return the tokens `given` [B, count, width], checked. Raises UsageError when they are missing or do not fit."""
    if given is None:
        raise UsageError(f"the network was made for {name} of width {width}, and the encoder gives none")
    if given.dim() != 3 or given.shape[1:] != (count, width):
        expected = f"[batch, {count}, {width}]"
        raise UsageError(f"{name} of shape {list(given.shape)}; this network was made for {expected}")
    return given
