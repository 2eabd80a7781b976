"""How plans are judged, in open loop: exact robustness decides what counts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pilotage.systems.robots.stl_diffusion.data import Drives
from pilotage.systems.robots.stl_diffusion.diversity import (
    compliance,
    covered_area,
    entropy,
    hull_area,
    spread,
    success,
)
from pilotage.systems.robots.stl_diffusion.rules import RuleSets

MEASURES = {
    "compliance": "Share of plans whose exact robustness is above 0.",
    "success": "Share of (scene, mode) pairs with at least one such plan.",
    "area": "m² that compliant plans of a pair cover, cells of .5 m; mean over pairs, 0 where none complies.",
    "entropy": "Entropy in nats of compliant plans' controls, 10 bins per step and control; mean over pairs.",
    "spread": "Standard deviation of compliant plans' controls in units of their limits; mean over pairs.",
    "hull": "m² of the convex hull of compliant plans' places at a step; mean over steps and pairs.",
    "ade": "m between the log and the nearest plan of its mode, mean over steps.",
    "fde": "m between the log's end and that of the nearest plan of its mode.",
}
"""What is measured of every row, with what it means."""


def judged(drives: Drives, sets: RuleSets, plans: Tensor) -> dict[str, float]:
    """The numbers of MEASURES for plans [N, K, T, 2] of the sets that `drives` has."""
    with torch.no_grad():
        states = sets.states(plans)
        kept = (sets.robustness_of(states) > 0).numpy()
    places, controls = states[:, :, 1:, :2].numpy(), plans.numpy()
    each = [
        (
            covered_area(places[n], kept[n]),
            entropy(controls[n], kept[n], -1.0, 1.0),
            spread(controls[n], kept[n]),
            hull_area(places[n], kept[n]),
        )
        for n in range(len(sets))
    ]
    area, disorder, deviation, hull = np.mean(each, 0).tolist()
    every = np.ones_like(kept)
    logged = sets.mode == drives.logs.label[sets.scene]
    apart = (states[logged, :, 1:, :2] - drives.logs.states[sets.scene[logged]][:, None, 1:, :2]).norm(dim=-1)
    return {
        "compliance": compliance(kept, every),
        "success": success(kept, every),
        "area": area,
        "entropy": disorder,
        "spread": deviation,
        "hull": hull,
        "ade": float(apart.mean(-1).amin(1).mean()),
        "fde": float(apart[..., -1].amin(1).mean()),
    }
