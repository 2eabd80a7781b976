"""What a token costs in our trainer as the batch, the answers and the model grow: no worse than linear."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks import workload
from benchmarks.harness import Figure, Side, Target, alternate, figure

NAME = "scaling"
TARGETS = {"batch": Target(1.5, at_most=True), "length": Target(1.5, at_most=True), "model": Target(1.5, at_most=True)}
BASE: dict[str, Any] = {**workload.ROWS, "width": 8, "natural": False, "size": "1.6M"}
RANGES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "batch": ("prompts", (8, 32, 128)),
    "length": ("length", (16, 64, 256)),
    "model": ("size", tuple(workload.SIZES)),
}
QUICK: dict[str, tuple[Any, ...]] = {"batch": (2, 4, 8), "length": (4, 8, 16), "model": tuple(workload.SIZES)}


def weights_of(size: str) -> int:
    """Weights that take part in products of matrices, of one forward pass of one token."""
    model = workload.qwen2(size)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)


def measure(quick: bool) -> Iterator[Figure]:
    """Largest against smallest of three points, per token; for the model per token and weight."""
    base = {**BASE, **workload.QUICK_ROWS} if quick else BASE
    for kind, (setting, points) in RANGES.items():
        chosen = QUICK[kind] if quick else points
        sides = [Side("benchmarks.step:ours", {**base, setting: point}) for point in chosen]
        readings = alternate(sides, threads=1, rounds=2 if quick else 3)
        unit = [weights_of(point) / 1e6 if kind == "model" else 1.0 for point in chosen]
        costs = [
            [1e6 * reading["seconds"] / reading["tokens"] / weight for reading in side]
            for side, weight in zip(readings, unit, strict=True)
        ]
        shown = ", ".join(f"{point}: {statistics.median(cost):.2f}" for point, cost in zip(chosen, costs, strict=True))
        per = "token and million weights" if kind == "model" else "token"
        # "ours" is the smallest point, so that the ratio says how many times as much a token costs at the largest.
        yield figure(
            f"{NAME}/{kind}",
            costs[0],
            costs[-1],
            peer_version="ours at the largest point",
            note=f"µs per {per} of a whole step; {setting} {shown}",
        )
