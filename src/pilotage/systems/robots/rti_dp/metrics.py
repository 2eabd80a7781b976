"""Metrics of a policy that decides by warm starts: how much its plans change, and how it acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pilotage.policies.control.execution.executors import Executor
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.restarts import RestartingStart
from pilotage.rollouts.episodes import Evaluation
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.env import DisturbedTask

SWITCH = 0.5
"""Distance between consecutive plans, root mean square of normalised units, that counts as a switch."""
OWN_METRICS = {
    "evaluation/plan_change": "Mean distance between consecutive plans where they speak of the same steps, root mean "
    "square of normalised units.",
    "evaluation/switches": f"Decisions per episode whose plan differs from the one before by more than {SWITCH}.",
    "evaluation/restarts": "Share of decisions that the restart rule made in full.",
    "evaluation/coverage/best": "Mean over episodes of the highest coverage of the goal.",
    "evaluation/coverage/last": "Mean over episodes of the last coverage of the goal.",
    "evaluation/jerk": "Mean size of the second difference of executed actions, root mean square over entries of "
    "normalised units.",
}


class WatchedPlans:
    """Executor that compares every chunk with the one before in its episode, over the steps that both plan.

    Args:
        executor: the executor that carries the chunks out.
        callback: called with the row of the episode and its chunk [step, number].

    Attributes:
        changes: the distances, root mean square of normalised units, in the order in which they came.
    """

    def __init__(self, executor: Executor, callback: Callable[[int, Tensor], None] | None = None) -> None:
        self.executor, self.callback = executor, callback
        self.frames, self.horizon, self.executed = executor.frames, executor.horizon, executor.executed
        self.changes: list[float] = []
        self._last: dict[int, Tensor] = {}

    def reset(self, rows: Sequence[int]) -> None:
        """Forget the chunks of these rows."""
        self.executor.reset(rows)
        for row in rows:
            self._last.pop(row, None)

    def due(self, row: int) -> bool:
        """Return whether a row needs a new chunk."""
        return self.executor.due(row)

    def receive(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Compare the chunks with the ones before, and hand them on."""
        overlap = self.horizon - self.executed
        for row, chunk in zip(rows, chunks, strict=True):
            before = self._last.get(row)
            if before is not None and overlap > 0:
                change = chunk[:overlap] - before[self.executed :]
                self.changes.append(float(change.double().square().mean().sqrt()))
            self._last[row] = chunk
            if self.callback is not None:
                self.callback(row, chunk)
        self.executor.receive(rows, chunks)

    def next(self, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row."""
        return self.executor.next(rows)


def evaluate_policy(
    world: DisturbedTask, policy: ActionPolicy, config: WarmStartConfig
) -> tuple[dict[str, float], Evaluation]:
    """Run every declared episode once; return the metrics, those of `OWN_METRICS` too, and the evaluation."""
    plain, watched = policy.executor, WatchedPlans(policy.executor)
    policy.executor = watched
    try:
        happened = world.evaluate(policy, config.videos, keep=True)
    finally:
        policy.executor = plain
    steps, decisions = sum(e.steps for e in happened.episodes), max(1, policy.decisions)
    metrics = happened.metrics()
    metrics["evaluation/calls"] = sum(policy.calls.values()) / decisions
    metrics["evaluation/decisions"] = policy.decisions / steps
    metrics["evaluation/plan_change"] = float(np.mean(watched.changes)) if watched.changes else 0.0
    metrics["evaluation/switches"] = sum(c > SWITCH for c in watched.changes) / len(happened.episodes)
    metrics["evaluation/jerk"] = _jerk(policy, happened)
    if isinstance(policy.initialiser, RestartingStart):
        metrics["evaluation/restarts"] = policy.initialiser.restarts / decisions
    return metrics, happened


def _jerk(policy: ActionPolicy, happened: Evaluation) -> float:
    normaliser = policy.normalisers["action"]
    sizes = []
    for trajectory in happened.trajectories.values():
        actions = normaliser.normalise(torch.from_numpy(np.asarray(trajectory.actions, np.float32)))
        second = actions[2:] - 2 * actions[1:-1] + actions[:-2]
        sizes += second.square().mean(-1).sqrt().tolist()
    return float(np.mean(sizes)) if sizes else 0.0
