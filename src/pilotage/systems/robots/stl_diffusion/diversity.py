"""How varied the trajectories are that keep a rule. All that break it are left out first; none left means 0, never NaN.

One set of K trajectories of T steps at a time (a scene and a mode, say); average over sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

from pilotage.core.errors import UsageError


def covered_area(positions: ArrayLike, compliant: ArrayLike, *, cell: float = 0.5) -> float:
    """Area in m² that compliant trajectories cover: the cells of a square grid in which one of their steps lies.

    positions [K, T, 2] in m; compliant [K] bool; cell: side of a cell in m, > 0."""
    if not cell > 0:
        raise UsageError(f"the side of a grid cell must be above 0 m, got {cell}")
    kept = _kept(positions, compliant, 2)
    return float(len(np.unique(np.floor(kept.reshape(-1, 2) / cell), axis=0)) * cell**2)


def entropy(values: ArrayLike, compliant: ArrayLike, low: ArrayLike, high: ArrayLike, *, bins: int = 10) -> float:
    """Entropy in nats of compliant trajectories' states or controls: at each step and dimension of a histogram over
    the trajectories, averaged over both; 0 to log(bins), and 0 for copies of one trajectory.

    values [K, T, D]; compliant [K] bool; low, high: ends of the histogram, numbers or [D] (values outside count to the
    first or last bin); bins: how many."""
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
    """Standard deviation across compliant trajectories, averaged over steps and dimensions: values [K, T, D]."""
    kept = _kept(values, compliant)
    return float(kept.std(0).mean()) if len(kept) else 0.0


def hull_area(positions: ArrayLike, compliant: ArrayLike) -> float:
    """Area in m² of the convex hull of where compliant trajectories are, averaged over steps: positions [K, T, 2].

    Positions on one line have area 0."""
    kept = _kept(positions, compliant, 2)
    if len(kept) < 3:
        return 0.0
    return float(np.mean([_hull(kept[:, t]) for t in range(kept.shape[1])]))


def compliance(compliant: ArrayLike, valid: ArrayLike) -> float:
    """Share of the valid samples that keep their rule: both [S, K] bool; 0 when none is valid."""
    kept, counted = _flags(compliant, valid)
    return float(kept.sum() / max(counted.sum(), 1))


def success(compliant: ArrayLike, valid: ArrayLike) -> float:
    """Share of the S sets with a valid sample in which at least one valid sample keeps its rule: both [S, K] bool."""
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
    """The trajectories that count: [K', T, D]."""
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
