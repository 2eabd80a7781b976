"""Scaling of observations and actions; the numbers travel with the weights of the policy that was trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations, Statistics

Scaling = Literal["min_max", "mean_std", "identity"]
"""min_max: the data's range onto [-1, 1] (samplers clip there); mean_std: mean 0, deviation 1; identity: as it is."""

_ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Normaliser(torch.nn.Module):
    """y = (x - offset) / scale for every entry of a column [..., D]; all its numbers are buffers, so that they are in
    the policy's `state_dict`, move with it, and are not trained.

    An entry that was constant in the data maps to 0, and every y comes back as the constant (min_max, mean_std).

    statistics: of the training data (`Demonstrations.statistics`, `Statistics.of`). scaling: see `Scaling`.
    Raises UsageError for statistics that are not finite.
    """

    offset: Tensor
    scale: Tensor
    """0 for constant entries."""
    low: Tensor
    """Lowest value in the data, in the data's units."""
    high: Tensor

    def __init__(self, statistics: Statistics, scaling: Scaling = "min_max") -> None:
        super().__init__()
        if scaling not in get_args(Scaling):
            raise UsageError(f"scaling {scaling!r} was given; expected {', '.join(get_args(Scaling))}")
        low, high = statistics.low, statistics.high
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise UsageError("the data's range is not finite; a normaliser cannot be fitted to it")
        # A range of denormal numbers has too few bits to be divided by.
        constant = high - low <= np.maximum(
            _ROUNDING * np.maximum(np.abs(low), np.abs(high)), np.finfo(np.float32).tiny
        )
        if scaling == "min_max":
            offset, scale = (low + high) / 2, (high - low) / 2
        elif scaling == "mean_std":
            offset, scale = statistics.mean, statistics.std
        else:
            offset, scale, constant = np.zeros_like(low), np.ones_like(low), np.zeros_like(constant)
        offset, scale = np.where(constant, low, offset), np.where(constant, 0.0, scale)
        for name, value in (("offset", offset), ("scale", scale), ("low", low), ("high", high)):
            self.register_buffer(name, torch.as_tensor(np.asarray(value, dtype=np.float32)))
        self.clipped = 0
        """Numbers that `normalise(…, clip=True)` found outside the data's range so far; no part of the state."""
        self.seen = 0
        """Numbers it looked at."""

    @staticmethod
    def fit(values: np.ndarray, scaling: Scaling = "min_max") -> Normaliser:
        """Of a column [N, ...]. Raises UsageError for no rows."""
        return Normaliser(Statistics.of(values), scaling)

    @staticmethod
    def unfitted(shape: tuple[int, ...]) -> Normaliser:
        """Return one that changes nothing, of entries [shape], for `load_state_dict` to fill."""
        zero = np.zeros(shape)
        return Normaliser(Statistics(zero, zero, zero, zero, 0), "identity")

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> Normaliser:
        """Return a normaliser with the numbers of a `state_dict`."""
        made = Normaliser.unfitted(tuple(state["offset"].shape))
        made.load_state_dict(dict(state))
        return made

    @property
    def constant(self) -> Tensor:
        """Return entries that never changed in the data, [D] bool."""
        return self.scale == 0

    def normalise(self, values: Tensor, *, clip: bool = False) -> Tensor:
        """Return values in the data's units as the same in normalised units, [..., D].

        clip: bring what lies outside the data's range to its nearest end first, and count it (`clipped`, `seen`).
        """
        self._expect(values)
        if clip:
            outside = (values < self.low) | (values > self.high)
            self.clipped += int(outside.sum())
            self.seen += values.numel()
            values = torch.minimum(torch.maximum(values, self.low.to(values.dtype)), self.high.to(values.dtype))
        divisor = torch.where(self.constant, torch.inf, self.scale)
        return (values - self.offset.to(values.dtype)) / divisor.to(values.dtype)

    def denormalise(self, values: Tensor, *, clip: bool = False) -> Tensor:
        """Return in normalised units -> in the data's units; with `clip`, brought into the data's range, [..., D]."""
        self._expect(values)
        raw = values * self.scale.to(values.dtype) + self.offset.to(values.dtype)
        if clip:
            raw = torch.minimum(torch.maximum(raw, self.low.to(raw.dtype)), self.high.to(raw.dtype))
        return raw

    def reach(self) -> float:
        """Return the largest absolute value that the data has in normalised units."""
        farthest = torch.maximum((self.high - self.offset).abs(), (self.low - self.offset).abs())
        return float((farthest / torch.where(self.constant, torch.inf, self.scale)).max())

    def shrink(self, entries: Sequence[int], factor: float) -> None:
        """Maps these entries' range onto ±1/factor instead of ±1; what comes back is the same.

        So a warm start can flip an entry with two values (arXiv 2508.05396). Raises UsageError for an entry that there
        is not, that is constant, or whose range is not mapped evenly about 0 (only min_max does that).
        """
        size = self.offset.numel()
        if self.offset.dim() != 1 or any(not 0 <= entry < size for entry in entries) or factor <= 0:
            raise UsageError(f"entries {list(entries)} of {size} were to be shrunk by {factor}; count from 0, above 0")
        for entry in entries:
            if not bool(torch.isclose(self._shrinkage()[entry], torch.ones(()))):
                raise UsageError(
                    f"entry {entry} cannot be shrunk: it is constant, shrunk already, or not scaled by min_max, which "
                    "maps its range evenly about 0"
                )
        self.scale[list(entries)] *= factor

    def shrinkage(self, entry: int) -> float:
        """Return the factor by which `shrink` shrank an entry, 1 where it did not.

        Of entries scaled by min_max only.
        """
        return round(float(self._shrinkage()[entry]), 4)

    def _shrinkage(self) -> Tensor:
        centred = torch.isclose(self.offset, (self.low + self.high) / 2)
        return torch.where(centred, self.scale / ((self.high - self.low) / 2), torch.nan)

    def forward(self, values: Tensor) -> Tensor:
        """`normalise`."""
        return self.normalise(values)

    def fingerprint(self) -> str:
        """Return a hash of all its numbers: equal before and after whatever must not change them."""
        state = b"".join(buffer.detach().cpu().numpy().tobytes() for _, buffer in sorted(self.named_buffers()))
        return hashlib.sha256(state).hexdigest()

    def _expect(self, values: Tensor) -> None:
        size = tuple(self.offset.shape)
        if tuple(values.shape[values.dim() - len(size) :]) != size or not values.is_floating_point():
            raise UsageError(
                f"a tensor {values.dtype} {list(values.shape)} was given; this normaliser was fitted to floats "
                f"[..., {', '.join(map(str, size))}]: use the data, or the policy, that belong together"
            )


def fit_normalisers(demonstrations: Demonstrations, scalings: Mapping[str, Scaling]) -> dict[str, Normaliser]:
    """Return a normaliser for each named column of (training) demonstrations, such as {"action": "min_max", "state":
    "mean_std"}. Raises UsageError for a name that there is not, or for camera frames, which are scaled to [0, 1].
    """
    for name in scalings:
        if name.startswith("image/"):
            raise UsageError(f"{name!r} holds camera frames; they are scaled to [0, 1] and need no normaliser")
    return {name: Normaliser(demonstrations.statistics(name), scaling) for name, scaling in scalings.items()}
