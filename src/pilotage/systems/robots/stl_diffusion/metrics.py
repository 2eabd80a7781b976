"""Metrics of plans in open loop: exact robustness decides what counts, and how varied the compliant plans are.

Plans that break their rule are left out first; none left means 0, never NaN. The functions of diversity take one set of
trajectories at a time (a scene and a mode, say); average over sets.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.data import Drives
from pilotage.systems.robots.stl_diffusion.rules import RuleSets

OPEN_LOOP_METRICS = {
    "compliance": "Share of plans whose exact robustness is above 0.",
    "success": "Share of (scene, mode) pairs with at least one such plan.",
    "area": "m² that compliant plans of a pair cover, cells of .5 m; mean over pairs, 0 where none complies.",
    "entropy": "Entropy in nats of compliant plans' controls, 10 bins per step and control; mean over pairs.",
    "spread": "Standard deviation of compliant plans' controls in units of their limits; mean over pairs.",
    "hull": "m² of the convex hull of compliant plans' places at a step; mean over steps and pairs.",
    "ade": "m between the log and the nearest plan of its mode, mean over steps.",
    "fde": "m between the log's end and that of the nearest plan of its mode.",
}
"""Metrics of every planner in open loop, with their meaning."""


def open_loop_metrics(drives: Drives, sets: RuleSets, plans: Tensor) -> dict[str, float]:
    """Return the numbers of OPEN_LOOP_METRICS.

    Args:
        drives: the scenes with their logs.
        sets: the sets that `drives` has.
        plans: in units of the limits, [set, plan, step, 2].
    """
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


# ---- diversity -------------------------------------------------------------------------------------------------------


def covered_area(positions: ArrayLike, compliant: ArrayLike, *, cell: float = 0.5) -> float:
    """Return the area in m² that compliant trajectories cover: the cells of a grid in which one of their steps lies.

    Args:
        positions: in m, [trajectory, step, 2].
        compliant: bool, [trajectory].
        cell: side of a square cell in m, above 0.
    """
    if not cell > 0:
        raise UsageError(f"the side of a grid cell must be above 0 m, got {cell}")
    kept = _kept(positions, compliant, 2)
    return float(len(np.unique(np.floor(kept.reshape(-1, 2) / cell), axis=0)) * cell**2)


def entropy(values: ArrayLike, compliant: ArrayLike, low: ArrayLike, high: ArrayLike, *, bins: int = 10) -> float:
    """Return the entropy in nats of compliant trajectories' states or controls.

    That of a histogram over the trajectories at each step and dimension, averaged over both: 0 to log(bins), and 0 for
    copies of one trajectory.

    Args:
        values: states or controls, [trajectory, step, dimension].
        compliant: bool, [trajectory].
        low: lower end of the histogram, a number or [dimension]; values below count to the first bin.
        high: upper end of the histogram, likewise.
        bins: number of bins.
    """
    kept = _kept(values, compliant)
    bottom, top = (np.broadcast_to(np.asarray(end, dtype=float), kept.shape[-1:]) for end in (low, high))
    if bins < 1 or not np.all(bottom < top):
        raise UsageError(f"a histogram needs bins ≥ 1 and low < high, got {bins} bins, low {bottom}, high {top}")
    if not len(kept):
        return 0.0
    placed = np.clip(np.floor((kept - bottom) / (top - bottom) * bins), 0, bins - 1).astype(int)
    share = (placed[..., None] == np.arange(bins)).mean(0)
    return float(-np.sum(share * np.log(np.where(share > 0, share, 1.0)), -1).mean())


def spread(values: ArrayLike, compliant: ArrayLike) -> float:
    """Return the standard deviation across compliant trajectories [trajectory, step, dimension], averaged over both."""
    kept = _kept(values, compliant)
    return float(kept.std(0).mean()) if len(kept) else 0.0


def hull_area(positions: ArrayLike, compliant: ArrayLike) -> float:
    """Return the area in m² of the convex hull of compliant trajectories at a step, averaged over steps.

    positions are in m, [trajectory, step, 2]; those on one line have area 0.
    """
    kept = _kept(positions, compliant, 2)
    if len(kept) < 3:
        return 0.0
    return float(np.mean([_hull(kept[:, t]) for t in range(kept.shape[1])]))


def compliance(compliant: ArrayLike, valid: ArrayLike) -> float:
    """Return the share of the valid samples that keep their rule: both bool [set, sample]; 0 when none is valid."""
    kept, counted = _flags(compliant, valid)
    return float(kept.sum() / max(counted.sum(), 1))


def success(compliant: ArrayLike, valid: ArrayLike) -> float:
    """Return the share of sets with a valid sample in which one keeps its rule: both bool [set, sample]."""
    kept, counted = _flags(compliant, valid)
    return float(kept.any(1).sum() / max(counted.any(1).sum(), 1))


def _flags(compliant: ArrayLike, valid: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    kept, counted = np.asarray(compliant), np.asarray(valid)
    if kept.dtype != bool or counted.dtype != bool or kept.ndim != 2 or kept.shape != counted.shape:
        raise UsageError(
            f"compliant and valid must be bool [sets, samples] of one shape, got {kept.dtype} {list(kept.shape)} and "
            f"{counted.dtype} {list(counted.shape)}"
        )
    return kept & counted, counted


def _kept(values: ArrayLike, compliant: ArrayLike, width: int | None = None) -> NDArray[np.float64]:
    """Return the trajectories that count, [compliant trajectory, step, dimension]."""
    table, chosen = np.asarray(values, dtype=float), np.asarray(compliant)
    fits = table.ndim == 3 and chosen.shape == table.shape[:1] and width in (None, table.shape[-1])
    if not fits or chosen.dtype != bool:
        raise UsageError(
            f"expected trajectories [K, T, {width or 'D'}] and bool [K], got {list(table.shape)} and {chosen.dtype} "
            f"{list(chosen.shape)}; compliance is exact robustness above 0"
        )
    return table[chosen]


def _hull(points: NDArray[np.float64]) -> float:
    centred = points - points.mean(0)
    sizes = np.linalg.svd(centred, compute_uv=False)
    if sizes[1] <= 1e-9 * max(sizes[0], 1.0):  # Qhull refuses what is flat
        return 0.0
    return float(ConvexHull(centred).volume)  # in the plane its volume is the area
