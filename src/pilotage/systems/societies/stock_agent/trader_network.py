"""A small network that trades: it sees every stock beside the mean of the others, and favours none by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORBIDDEN = -1e9
"""A logit whose probability is 0, finite so that gradients are."""


class TraderNetwork(nn.Module):
    """Logits of holding and of K orders in each of S stocks, and the value of a situation.

    The same two hidden layers read every stock: stocks that change places change the places of their logits. The logit
    of holding and the value are means over stocks."""

    def __init__(self, features: int, orders: int, width: int = 32) -> None:
        """features: F numbers a stock; orders: K."""
        super().__init__()
        self.features, self.orders, self.width = features, orders, width
        self.policy = _layers(features, width, orders + 1)
        self.critic = _layers(features, width, 1)
        with torch.no_grad():
            last = self.policy[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.01)  # so that all orders are nearly equally likely before any training

    def logits(self, seen: Tensor, allowed: Tensor) -> Tensor:
        """seen [..., S, F], allowed [..., S·K] bool -> [..., 1 + S·K], holding first; FORBIDDEN where not allowed."""
        out: Tensor = self.policy(seen)
        orders = out[..., 1:].flatten(-2).masked_fill(~allowed, FORBIDDEN)
        return torch.cat([out[..., 0].mean(-1, keepdim=True), orders], -1)

    def value(self, seen: Tensor) -> Tensor:
        """seen [..., S, F] -> [...]."""
        out: Tensor = self.critic(seen)
        return out[..., 0].mean(-1)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, sizes as JSON."""
        save_file(self.state_dict(), folder / "weights.safetensors")
        sizes = {"features": self.features, "orders": self.orders, "width": self.width}
        (folder / "network.json").write_text(json.dumps(sizes))

    @classmethod
    def load(cls, folder: Path) -> TraderNetwork:
        sizes = json.loads((folder / "network.json").read_text())
        network = cls(**sizes)
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return network

    def fast(self) -> FastTrader:
        """The policy as it is now, for one trader at a time."""
        layers = [layer for layer in self.policy if isinstance(layer, nn.Linear)]
        arrays = [part.detach().numpy().copy() for layer in layers for part in (layer.weight.T, layer.bias)]
        return FastTrader(*arrays)


class FastTrader(NamedTuple):
    """The policy's weights as arrays: a turn in a market takes microseconds, not a call of torch."""

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    w3: np.ndarray
    b3: np.ndarray

    def probabilities(self, seen: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """seen [S, F], allowed [S·K] bool -> [1 + S·K], holding first."""
        hidden = np.tanh(np.tanh(seen @ self.w1 + self.b1) @ self.w2 + self.b2)
        out = hidden @ self.w3 + self.b3
        logits = np.empty(1 + allowed.size)
        logits[0] = out[:, 0].mean()
        logits[1:] = np.where(allowed, out[:, 1:].ravel(), FORBIDDEN)
        odds = np.exp(logits - logits.max())
        return odds / odds.sum()


def _layers(features: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)
    )
