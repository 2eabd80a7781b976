"""A running average of weights, which is what gets evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError


class AveragedWeights:
    """Averaged weights: average ← d_k·average + (1 − d_k)·weights after the k-th step, k = 0, 1, …

    d_k = min(1 − (1 + k)^{−power}, maximum), or constantly `decay`. With the power, the first step copies the weights.
    Buffers are copied, not averaged. The power .75 is that of Diffusion Policy, decay .999 that of BESO.
    """

    def __init__(
        self, module: nn.Module, *, decay: float | None = None, power: float = 0.75, maximum: float = 0.9999
    ) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise UsageError(f"decay={decay} must be at least 0 and below 1")
        self.decay, self.power, self.maximum, self.steps = decay, power, maximum, 0
        self.weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        self._averaged = {name for name, tensor in module.named_parameters() if tensor.is_floating_point()}

    def decay_at(self, step: int) -> float:
        """Return the decay d_k, in [0, 1)."""
        if self.decay is not None:
            return self.decay
        return min(1 - (1 + step) ** -self.power, self.maximum)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of `module` after an optimiser step."""
        decay = self.decay_at(self.steps)
        for name, tensor in module.state_dict().items():
            if name in self._averaged:
                self.weights[name].lerp_(tensor, 1 - decay)
            else:
                self.weights[name].copy_(tensor)
        self.steps += 1

    @contextmanager
    def swapped_in(self, module: nn.Module) -> Iterator[None]:
        """Give `module` the averaged weights within the block; afterwards its own again, whatever happens."""
        own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(self.weights)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {"steps": self.steps, "weights": {name: tensor.clone() for name, tensor in self.weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the averaged weights. Raises UsageError when the weights are those of another module."""
        weights: Mapping[str, Tensor] = state["weights"]
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in self.weights.items()}:
            raise UsageError("the averaged weights belong to another module: names or shapes of its tensors differ")
        self.steps = int(state["steps"])
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)
