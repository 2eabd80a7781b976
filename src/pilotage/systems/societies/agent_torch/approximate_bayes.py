"""Approximate Bayesian computation by rejection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.planning.box_search import Found, Score


@dataclass(frozen=True)
class Accepted:
    """Accepted points: draws from the approximate posterior under a flat prior."""

    points: Tensor
    """Accepted points [accepted, dimensions], best first."""
    values: Tensor
    """Scores of the accepted points [accepted]."""
    found: Found
    """All points that were tried."""

    def mean(self) -> Tensor:
        """Return the mean of the posterior [dimensions]."""
        return self.points.mean(0)


def reject(
    score: Score,
    dimensions: int,
    generator: torch.Generator,
    *,
    low: float = 0.0,
    high: float = 1.0,
    evaluations: int = 1000,
    share: float = 0.02,
    batch: int = 64,
) -> Accepted:
    """Draw uniform points in the box and accept the best `share` of them, at least one.

    Args:
        score: minus the distance of a simulation to the observation, see `planning.box_search`.
        dimensions: number of dimensions.
        generator: random numbers.
        low: lower bound of every dimension.
        high: upper bound of every dimension.
        evaluations: number of points.
        share: share of points that is accepted, in (0, 1].
        batch: number of points scored at once.

    Raises:
        UsageError: a setting is out of range, or a score is not a number.
    """
    if dimensions < 1 or evaluations < 1 or not 0 < share <= 1 or not low < high or batch < 1:
        raise UsageError(
            f"expected a dimension, an evaluation or more, a share in (0, 1] and low < high, got {dimensions}, "
            f"{evaluations}, {share}, {low}, {high}"
        )
    points = low + (high - low) * torch.rand(evaluations, dimensions, generator=generator)
    values = torch.cat([score(part).detach() for part in points.split(batch)])
    if values.shape != (evaluations,) or bool(values.isnan().any()):
        raise UsageError(f"a score gives one number for each of {evaluations} points, got {values.tolist()[:5]}")
    order = values.argsort(descending=True, stable=True)
    kept = order[: max(1, round(share * evaluations))]
    best = int(order[0])
    return Accepted(points[kept], values[kept], Found(points[best], float(values[best]), points, values))
