"""How long a policy takes to decide, and how many network passes that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.policies.control.policy import ActionPolicy


class MeteredPolicy:
    """A policy that times its decisions: the same `reset` and `act`, and a `summary`.

    The first `warm_up` calls of `act` that decided are left out, since they pay for caches and compilation. A call of
    `act` that only hands out an action already decided counts as an action, not as a decision.
    """

    def __init__(
        self, policy: ActionPolicy, *, warm_up: int = 20, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.policy, self.warm_up, self.clock = policy, warm_up, clock
        self.seconds: list[float] = []
        self.passes: list[int] = []
        self._served: list[int] = []
        self._actions, self._seen = 0, 0

    def reset(self, rows: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        """Begin an episode."""
        self.policy.reset(rows, seeds)

    def act(self, observations: Mapping[str, Any] | np.ndarray, rows: Sequence[int]) -> Tensor:
        """Return the next action of each row."""
        served = sum(self.policy.calls.values())
        passes, decisions, began = self.policy.passes, self.policy.decisions, self.clock()
        actions = self.policy.act(observations, rows)
        elapsed = self.clock() - began
        decided = self.policy.decisions - decisions
        self._seen += decided > 0
        if self._seen > self.warm_up:
            self._actions += len(rows)
            if decided:
                self.seconds.append(elapsed)
                self.passes.append(self.policy.passes - passes)
                self._served.append(sum(self.policy.calls.values()) - served)
        return actions

    def summary(self) -> dict[str, float]:
        """p50_ms and p95_ms of calls of `act` that decided, network passes per such call and per executed action and
        row, and their number. Raises UsageError when nothing was measured after the warm-up.
        """
        if not self.seconds:
            raise UsageError(f"no decision after the first {self.warm_up}; act longer, or warm up less")
        p50, p95 = np.percentile(np.array(self.seconds) * 1e3, [50, 95])
        return {
            "p50_ms": float(p50),
            "p95_ms": float(p95),
            "calls_per_decision": sum(self.passes) / len(self.passes),
            "calls_per_action": sum(self._served) / self._actions,
            "decisions": float(len(self.seconds)),
        }
