"""Calibration of an energy on familiar situations, by which it says how odd another situation is.

Zero and scale of an energy are arbitrary and differ between runs and data sets: only its quantiles on known data can be
compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError

LEVELS = 101


@dataclass(frozen=True)
class EnergyConfidence:
    """Mean, standard deviation and 101 quantiles, from 0 to 1, of energies after descent on known observations."""

    mean: float
    std: float
    quantiles: tuple[float, ...]

    @classmethod
    def fitted(cls, energy: Tensor) -> EnergyConfidence:
        """Return the calibration by energies [decision] on known observations.

        Raises UsageError for fewer than 20, or not finite ones.
        """
        energy = energy.detach().double().cpu()
        if energy.dim() != 1 or len(energy) < 20 or not bool(energy.isfinite().all()):
            raise UsageError(f"energies of shape {list(energy.shape)}; expected 20 or more finite ones, [N]")
        levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
        return cls(float(energy.mean()), float(energy.std()), tuple(energy.quantile(levels).tolist()))

    def z(self, energy: Tensor) -> Tensor:
        """Return how many standard deviations energies [decision] lie above the mean of known observations."""
        return (energy.double() - self.mean) / max(self.std, 1e-12)

    def share_below(self, energy: Tensor) -> Tensor:
        """Return the share, to a hundredth, of known observations with a lower energy: [decision], 0 to 1."""
        known = torch.tensor(self.quantiles, dtype=torch.float64, device=energy.device)
        return torch.searchsorted(known, energy.double().contiguous()).clamp(max=LEVELS - 1) / (LEVELS - 1)

    def odd(self, energy: Tensor, *, false_alarms: float = 0.01) -> Tensor:
        """Return whether energies [decision] are above all but a share `false_alarms` of known ones: bool."""
        if not 0 < false_alarms < 1:
            raise UsageError(f"false_alarms={false_alarms} must be a share above 0 and below 1")
        known = torch.tensor(self.quantiles, dtype=torch.float64)
        return energy.double() > float(known.quantile(1 - false_alarms))

    def save(self, path: Path) -> None:
        """Write the calibration as JSON, in one rename."""
        text = {"format": 1, "mean": self.mean, "std": self.std, "quantiles": list(self.quantiles)}
        write_atomically(path, f"{json.dumps(text)}\n".encode())

    @classmethod
    def load(cls, path: Path) -> EnergyConfidence:
        """Read what `save` wrote. Raises UsageError when it is not there or of another format."""
        if not path.is_file():
            raise UsageError(f"{path} is not there; calibrate the run's energy first (action `confidence`)")
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("format") != 1 or len(found.get("quantiles", ())) != LEVELS:
            raise UsageError(f"{path} is no calibration of an energy that this version reads")
        return cls(found["mean"], found["std"], tuple(found["quantiles"]))
