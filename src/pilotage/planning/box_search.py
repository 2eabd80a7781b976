"""Search for the best point of a box when only its score is known: enumeration, patterns, hill-climbing, CMA-ES, and
ascent where the score has a gradient.

All take `score`: from points [K, D] to values [K], the higher the better, evaluated as one batch; and return a
`Found` with every point tried, so that methods can be compared by evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Found:
    """What a search found and what it tried, in order."""

    point: Tensor
    """[D], the best one; of equally good ones the first."""
    value: float
    points: Tensor
    """[E, D] of E evaluations."""
    values: Tensor
    """[E]."""

    @property
    def evaluations(self) -> int:
        return len(self.values)

    def best_so_far(self) -> Tensor:
        """[E]: the best value after each evaluation."""
        return self.values.cummax(0).values


class _Recorder:
    """Scores points and remembers them."""

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
    """Every combination of levels: the exact optimum on the grid, such as the leader's of a Stackelberg game whose
    followers respond within `score`.

    levels [L] for each of D dimensions, L^D points in lexicographic order; batch: points scored at once.
    Raises UsageError above ten million points."""
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
    """Coordinate by coordinate, a step up or down, kept when it is better; the next smaller step when none is.

    start [D]; steps: from large to small; evaluations: at most so many, `start` included."""
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


def hill_climb(
    score: Score,
    start: Tensor,
    generator: torch.Generator,
    *,
    changes: Sequence[float] = (-20.0, -10.0, 0.0, 10.0, 20.0),
    low: float = 0.0,
    high: float = 100.0,
    evaluations: int = 20,
) -> Found:
    """A random change of every coordinate from the best point, kept when it is better. start [D]."""
    if evaluations < 1:
        raise UsageError(f"expected one evaluation or more, got {evaluations}")
    record = _Recorder(score)
    best, value = start.clone(), float(record(start[None])[0])
    table = torch.as_tensor(changes, dtype=start.dtype)
    while record.count < evaluations:
        drawn = table[torch.randint(0, len(table), best.shape, generator=generator)]
        trial = (best + drawn).clamp(low, high)
        if (new := float(record(trial[None])[0])) > value:
            best, value = trial, new
    return record.found()


def restarts(search: Callable[[Tensor], Found], starts: Tensor) -> Found:
    """One search from each of the starts [S, D]; all their evaluations together."""
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
    rate: float = 2.0,
    low: float = 0.0,
    high: float = 100.0,
) -> Found:
    """Adam on the gradient of the score, cut back to the box after each step; a differentiable planner.

    start [K, D]: K ascents side by side, whose scores must not depend on each other; rate: in the units of the box.
    Raises UsageError where the score has no gradient."""
    if steps < 1 or rate <= 0:
        raise UsageError(f"expected one step or more and a rate above 0, got {steps} and {rate}")
    point = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([point], lr=rate, betas=(0.9, 0.99))
    kept: list[tuple[Tensor, Tensor]] = []
    for step in range(steps + 1):
        value = score(point)
        kept.append((point.detach().clone(), value.detach()))
        if step == steps:
            break
        if not value.requires_grad:
            raise UsageError("the score has no gradient in the points; use pattern_search or cma_es instead")
        optimiser.zero_grad()
        # Scales differ by score: dollars or shares. Adam does not mind, but its epsilon does.
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
    """Evolution with an adapted covariance matrix (Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772,
    with its default strategy parameters and positive weights only).

    start [D]: the first mean; spread: first standard deviation, in the units of the box; evaluations: at most so many;
    population: points per generation, 4 + 3 ln D by default. Points outside are scored at the nearest one inside and
    are kept there, so that what is returned lies in the box."""
    size, dims = population or 4 + int(3 * math.log(len(start))), len(start)
    if spread <= 0 or size < 2 or evaluations < size:
        raise UsageError(
            f"expected a spread above 0, two or more points per generation and evaluations for one, got {spread}, "
            f"{size} and {evaluations}"
        )
    parents = size // 2
    weights = math.log((size + 1) / 2) - torch.arange(1, parents + 1, dtype=torch.float64).log()
    weights = weights / weights.sum()
    effective = float(1 / weights.square().sum())
    c_sigma = (effective + 2) / (dims + effective + 5)
    damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (dims + 1)) - 1) + c_sigma
    c_path = (4 + effective / dims) / (dims + 4 + 2 * effective / dims)
    c_one = 2 / ((dims + 1.3) ** 2 + effective)
    c_mu = min(1 - c_one, 2 * (effective - 2 + 1 / effective) / ((dims + 2) ** 2 + effective))
    expected = math.sqrt(dims) * (1 - 1 / (4 * dims) + 1 / (21 * dims**2))

    record = _Recorder(score)
    mean, sigma = start.double().clone(), float(spread)
    covariance = torch.eye(dims, dtype=torch.float64)
    path, sigma_path = torch.zeros(dims, dtype=torch.float64), torch.zeros(dims, dtype=torch.float64)
    generation = 0
    while record.count + size <= evaluations:
        generation += 1
        eigenvalues, basis = torch.linalg.eigh((covariance + covariance.T) / 2)
        scale = eigenvalues.clamp(min=1e-20).sqrt()
        noise = torch.randn(size, dims, generator=generator, dtype=torch.float64)
        points = (mean + sigma * (noise * scale) @ basis.T).clamp(low, high)
        order = record(points.to(start.dtype)).argsort(descending=True)
        moves = (points[order[:parents]] - mean) / sigma
        move = weights @ moves
        mean = mean + sigma * move
        whitened = basis @ ((basis.T @ move) / scale)
        sigma_path = (1 - c_sigma) * sigma_path + math.sqrt(c_sigma * (2 - c_sigma) * effective) * whitened
        length = float(sigma_path.norm())
        short = length / math.sqrt(1 - (1 - c_sigma) ** (2 * generation)) < (1.4 + 2 / (dims + 1)) * expected
        path = (1 - c_path) * path + short * math.sqrt(c_path * (2 - c_path) * effective) * move
        lost = (1 - short) * c_path * (2 - c_path)
        covariance = (
            (1 - c_one - c_mu + c_one * lost) * covariance
            + c_one * torch.outer(path, path)
            + c_mu * (moves.T * weights) @ moves
        )
        sigma = min(sigma * math.exp(c_sigma / damping * (length / expected - 1)), high - low)
        if sigma * float(scale.max()) < 1e-9 * (high - low):
            break
    return record.found()
