"""Means of numbers over the steps since the last line of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RunningMeans:
    """`add` at every step, `pop_metrics` at every line of metrics. Part of a checkpoint."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, **values: float) -> None:
        """Take in the numbers of a step, by name."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def pop_metrics(self) -> dict[str, float]:
        """Return the mean of each name since the last call; counting begins anew."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` gave."""
        self.sums = {name: float(value) for name, value in state["sums"].items()}
        self.counts = {name: int(value) for name, value in state["counts"].items()}
