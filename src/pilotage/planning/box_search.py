"""Search for the best point of a box: enumeration, patterns, CMA-ES, and ascent where the score has a gradient.

All take `score`, from points [batch, dimensions] to values [batch], the higher the better; and return a `Found` with
every point tried, so that methods can be compared by evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cmaes import CMA
from torch import Tensor

from pilotage.core.errors import UsageError

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Found:
    """Result of a search: the best point, and all points in the order in which they were tried."""

    point: Tensor
    """Best point [dimensions]; of equally good ones the first."""
    value: float
    """Its score."""
    points: Tensor
    """All points [evaluations, dimensions]."""
    values: Tensor
    """Their scores [evaluations]."""

    @property
    def evaluations(self) -> int:
        """Return the number of points tried."""
        return len(self.values)


class _Recorder:
    """Score that keeps all points."""

    def __init__(self, score: Score) -> None:
        self.score, self.points, self.values = score, list[Tensor](), list[Tensor]()

    def __call__(self, points: Tensor) -> Tensor:
        values = self.score(points).detach()
        if values.shape != points.shape[:1] or bool(values.isnan().any()):
            raise UsageError(f"a score gives one number for each of {len(points)} points, got {values.tolist()[:5]}")
        self.points.append(points.clone())
        self.values.append(values)
        return values

    @property
    def count(self) -> int:
        return sum(len(values) for values in self.values)

    def found(self) -> Found:
        points, values = torch.cat(self.points), torch.cat(self.values)
        best = int(values.argmax())
        return Found(points[best], float(values[best]), points, values)


def enumerate_grid(score: Score, levels: Sequence[float] | Tensor, dimensions: int, *, batch: int = 4096) -> Found:
    """Try every combination of levels, which gives the exact optimum on the grid.

    Args:
        score: see the module.
        levels: values of each coordinate [levels].
        dimensions: number of coordinates; levels ** dimensions points are tried in lexicographic order.
        batch: number of points scored at once.

    Raises:
        UsageError: there are more than ten million points.
    """
    values = torch.as_tensor(levels, dtype=torch.float64)
    if values.dim() != 1 or not len(values) or dimensions < 1 or len(values) ** dimensions > 10_000_000:
        raise UsageError(
            f"enumeration takes a row of levels and at most ten million points, got {list(values.shape)} levels in "
            f"{dimensions} dimensions; search instead"
        )
    record = _Recorder(score)
    total, place = len(values) ** dimensions, len(values) ** torch.arange(dimensions - 1, -1, -1)
    for start in range(0, total, batch):
        number = torch.arange(start, min(start + batch, total))
        record(values[number[:, None] // place % len(values)])
    return record.found()


def pattern_search(
    score: Score,
    start: Tensor,
    *,
    steps: Sequence[float] = (20.0, 10.0),
    low: float = 0.0,
    high: float = 100.0,
    evaluations: int = 200,
) -> Found:
    """Search coordinate by coordinate: a step up or down is kept when it is better; else the next smaller step follows.

    Args:
        score: see the module.
        start: first point [dimensions].
        steps: step sizes from large to small.
        low: lower bound of every dimension.
        high: upper bound of every dimension.
        evaluations: largest number of points, `start` included.
    """
    if not steps or min(steps) <= 0 or evaluations < 1:
        raise UsageError(f"expected steps above 0 and one evaluation or more, got {list(steps)} and {evaluations}")
    record = _Recorder(score)
    best, value = start.clone(), float(record(start[None])[0])
    tried = {tuple(best.tolist())}
    for step in steps:
        improved = True
        while improved:
            improved = False
            for signed, axis in [(sign * step, axis) for sign in (1, -1) for axis in range(len(best))]:
                trial = best.clone()
                trial[axis] = (trial[axis] + signed).clamp(low, high)
                if tuple(trial.tolist()) in tried:
                    continue
                if record.count >= evaluations:
                    return record.found()
                tried.add(tuple(trial.tolist()))
                if (new := float(record(trial[None])[0])) > value:
                    best, value, improved = trial, new, True
    return record.found()


def restarts(search: Callable[[Tensor], Found], starts: Tensor) -> Found:
    """Search from each of the starts [starts, dimensions] and join all evaluations."""
    if not len(starts):
        raise UsageError("restarts need one start or more")
    runs = [search(start) for start in starts]
    best = max(runs, key=lambda found: found.value)
    return Found(best.point, best.value, torch.cat([r.points for r in runs]), torch.cat([r.values for r in runs]))


def ascend(
    score: Score,
    start: Tensor,
    *,
    steps: int = 100,
    lr: float = 2.0,
    low: float = 0.0,
    high: float = 100.0,
) -> Found:
    """Ascend the gradient of the score by Adam, clipped to the box after each step.

    Args:
        score: see the module; differentiable, and independent between points.
        start: first points of ascents side by side [ascents, dimensions].
        steps: number of updates.
        lr: learning rate of Adam, in the units of the box.
        low: lower bound of every dimension.
        high: upper bound of every dimension.

    Raises:
        UsageError: the score has no gradient.
    """
    if steps < 1 or lr <= 0:
        raise UsageError(f"expected one step or more and a learning rate above 0, got {steps} and {lr}")
    point = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([point], lr=lr, betas=(0.9, 0.99))
    kept: list[tuple[Tensor, Tensor]] = []
    for step in range(steps + 1):
        value = score(point)
        kept.append((point.detach().clone(), value.detach()))
        if step == steps:
            break
        if not value.requires_grad:
            raise UsageError("the score has no gradient in the points; use pattern_search or cma_es instead")
        optimiser.zero_grad()
        # Scores differ in scale (dollars, shares); Adam's epsilon does not.
        (-value / value.detach().abs().clamp(min=1e-12)).sum().backward()
        optimiser.step()
        with torch.no_grad():
            point.clamp_(low, high)
    points, values = torch.cat([p for p, _ in kept]), torch.cat([v for _, v in kept])
    best = int(values.argmax())
    return Found(points[best], float(values[best]), points, values)


def cma_es(
    score: Score,
    start: Tensor,
    generator: torch.Generator,
    *,
    spread: float = 20.0,
    low: float = 0.0,
    high: float = 100.0,
    evaluations: int = 1000,
    population: int | None = None,
) -> Found:
    """Search by CMA-ES (package `cmaes`; Hansen, arXiv 1604.00772), with all points inside the box.

    Args:
        score: see the module.
        start: first mean [dimensions].
        generator: seeds the search.
        spread: first standard deviation, in the units of the box.
        low: lower bound of every dimension.
        high: upper bound of every dimension.
        evaluations: largest number of points.
        population: points per generation; None: 4 + 3 ln(dimensions).

    Raises:
        UsageError: the spread is not above 0, or there are too few evaluations for a generation.
    """
    size = population or 4 + int(3 * math.log(len(start)))
    if spread <= 0 or size < 2 or evaluations < size:
        raise UsageError(
            f"expected a spread above 0, two or more points per generation and evaluations for one, got {spread}, "
            f"{size} and {evaluations}"
        )
    record = _Recorder(score)
    search = CMA(
        start.double().numpy(),
        spread,
        bounds=np.tile([low, high], (len(start), 1)),
        seed=int(torch.randint(2**31, (), generator=generator)),
        population_size=size,
    )
    while record.count + size <= evaluations and not search.should_stop():
        points = np.stack([search.ask() for _ in range(size)])
        values = record(torch.from_numpy(points).to(start.dtype))
        search.tell(list(zip(points, (-values).tolist(), strict=True)))
    return record.found()
