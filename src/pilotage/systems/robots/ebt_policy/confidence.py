"""What an energy says of a situation, once it is known what it says of familiar ones.

An energy's zero and scale are its own, and a policy's energies differ between data sets: only quantiles on known data
make a number of it that can be compared."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pilotage.core.errors import UsageError

LEVELS = 101


@dataclass(frozen=True)
class EnergyConfidence:
    """Energies after descent on known observations: mean, standard deviation and 101 quantiles from 0 to 1."""

    mean: float
    std: float
    quantiles: tuple[float, ...]

    @classmethod
    def fitted(cls, energy: Tensor) -> EnergyConfidence:
        """From the energies [N] of decisions on known observations. Raises UsageError for fewer than 20, or not finite
        ones."""
        energy = energy.detach().double().cpu()
        if energy.dim() != 1 or len(energy) < 20 or not bool(energy.isfinite().all()):
            raise UsageError(f"energies of shape {list(energy.shape)}; expected 20 or more finite ones, [N]")
        levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
        return cls(float(energy.mean()), float(energy.std()), tuple(energy.quantile(levels).tolist()))

    def z(self, energy: Tensor) -> Tensor:
        """How many standard deviations above the mean of known observations: [B] -> [B]."""
        return (energy.double() - self.mean) / max(self.std, 1e-12)

    def share_below(self, energy: Tensor) -> Tensor:
        """The share of known observations with a lower energy, to a hundredth: [B] -> [B] in [0, 1]."""
        known = torch.tensor(self.quantiles, dtype=torch.float64, device=energy.device)
        return torch.searchsorted(known, energy.double().contiguous()).clamp(max=LEVELS - 1) / (LEVELS - 1)

    def odd(self, energy: Tensor, *, false_alarms: float = 0.01) -> Tensor:
        """Whether the energy is above all but `false_alarms` of known observations: [B] -> [B] bool."""
        if not 0 < false_alarms < 1:
            raise UsageError(f"false_alarms={false_alarms} must be a share above 0 and below 1")
        known = torch.tensor(self.quantiles, dtype=torch.float64)
        return energy.double() > float(known.quantile(1 - false_alarms))

    def save(self, path: Path) -> None:
        """Writes it as JSON, aside and renamed."""
        text = {"format": 1, "mean": self.mean, "std": self.std, "quantiles": list(self.quantiles)}
        aside = path.with_name(f".{path.name}")
        aside.write_text(json.dumps(text) + "\n", encoding="utf-8")
        os.replace(aside, path)

    @classmethod
    def load(cls, path: Path) -> EnergyConfidence:
        """What `save` wrote. Raises UsageError when it is not there or of another format."""
        if not path.is_file():
            raise UsageError(f"{path} is not there; calibrate the run's energy first (action `confidence`)")
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("format") != 1 or len(found.get("quantiles", ())) != LEVELS:
            raise UsageError(f"{path} is no calibration of an energy that this version reads")
        return cls(found["mean"], found["std"], tuple(found["quantiles"]))
