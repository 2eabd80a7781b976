"""A small network as trader, equivariant in the order of stocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORBIDDEN = -1e9
"""Logit with probability 0, finite so that gradients are."""


class TraderNetwork(nn.Module):
    """Network that gives logits of holding and of the orders in each stock, and the value of an observation.

    The same two hidden layers read every stock, so that stocks that change places change the places of their logits.
    The logit of holding and the value are means over stocks.
    """

    def __init__(self, features: int, orders: int, width: int = 32) -> None:
        """Create a network for so many features and orders per stock."""
        super().__init__()
        self.features, self.orders, self.width = features, orders, width
        self.policy = _layers(features, width, orders + 1)
        self.critic = _layers(features, width, 1)
        with torch.no_grad():
            last = self.policy[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.01)  # so that all orders are nearly equally likely before any training

    def logits(self, observed: Tensor, allowed: Tensor) -> Tensor:
        """Return logits [..., 1 + stock · order], holding first; FORBIDDEN where not allowed.

        Args:
            observed: observations, [..., stock, feature].
            allowed: orders that can be paid for, bool [..., stock · order].
        """
        out: Tensor = self.policy(observed)
        orders = out[..., 1:].flatten(-2).masked_fill(~allowed, FORBIDDEN)
        return torch.cat([out[..., 0].mean(-1, keepdim=True), orders], -1)

    def value(self, observed: Tensor) -> Tensor:
        """Return the values [...] of observations [..., stock, feature]."""
        out: Tensor = self.critic(observed)
        return out[..., 0].mean(-1)

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and the sizes as JSON."""
        save_file(self.state_dict(), folder / "weights.safetensors")
        sizes = {"features": self.features, "orders": self.orders, "width": self.width}
        (folder / "network.json").write_text(json.dumps(sizes))

    @classmethod
    def load(cls, folder: Path) -> TraderNetwork:
        """Return the network that `save` wrote into `folder`."""
        sizes = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        network = cls(**sizes)
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return network

    def to_numpy(self) -> NumpyPolicy:
        """Return a copy of the policy for one trader at a time."""
        layers = [layer for layer in self.policy if isinstance(layer, nn.Linear)]
        arrays = [part.detach().numpy().copy() for layer in layers for part in (layer.weight.T, layer.bias)]
        return NumpyPolicy(*arrays)


class NumpyPolicy(NamedTuple):
    """Copy of the policy as NumPy arrays, for fast turns in a market."""

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    w3: np.ndarray
    b3: np.ndarray

    def probabilities(self, observed: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Return probabilities [1 + stock · order], holding first.

        Args:
            observed: observation, [stock, feature].
            allowed: orders that can be paid for, bool [stock · order].
        """
        hidden = np.tanh(np.tanh(observed @ self.w1 + self.b1) @ self.w2 + self.b2)
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
