"""Planners that set tax rates without a language model: they read a model's prompt and answer in a model's format.

The prompt ends with `STATE {...}`: rates, welfare, history, best, advice, phase (see `env.planner_state`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pilotage.core.errors import UsageError

LARGEST = 20.0
"""Points by which a rate may change in a year."""


def read_state(text: str) -> dict[str, Any]:
    """Return the JSON after the last "STATE". Raises UsageError for a text without one."""
    try:
        state = json.loads(text.rpartition("STATE ")[2])
    except ValueError:
        state = None
    if not isinstance(state, dict) or "rates" not in state:
        raise UsageError('expected a text that ends with "STATE " and a JSON object with "rates"')
    return state


def _answer(delta: Sequence[float]) -> str:
    return json.dumps({"DELTA": [max(-LARGEST, min(LARGEST, change)) for change in delta]})


class ConstantPlanner:
    """Planner that never changes the rates (baseline)."""

    scripted = True

    def reply(self, state: str) -> str:
        """Return the changes of rates as JSON."""
        return _answer([0.0] * len(read_state(state)["rates"]))


class RandomPlanner:
    """Planner that changes every rate by −20, −10, 0, 10 or 20 points at random (control)."""

    scripted = True

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def reply(self, state: str) -> str:
        """Return the changes of rates as JSON."""
        drawn = torch.randint(-2, 3, (len(read_state(state)["rates"]),), generator=self.generator)
        return _answer([10.0 * int(change) for change in drawn])


def _tried_schedules(given: dict[str, Any]) -> tuple[dict[tuple[float, ...], float], tuple[float, ...]]:
    """Return every schedule in the state with its welfare, and the best of them."""
    known = {tuple(rates): welfare for rates, welfare in [*given.get("history", []), *given.get("best", [])]}
    known.setdefault(tuple(float(rate) for rate in given["rates"]), given["welfare"])
    best = max(known, key=lambda rates: known[rates])
    if given.get("best"):
        best = tuple(given["best"][0][0])  # the memory averages years with equal rates
    return known, best


class HillClimbPlanner:
    """Random hill-climbing planner.

    From the best schedule in the state it changes every rate by −20, −10, 0, 10 or 20 points; in the phase "settle" it
    goes to the best schedule.
    """

    scripted = True

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def reply(self, state: str) -> str:
        """Return the changes of rates as JSON."""
        given = read_state(state)
        _, best = _tried_schedules(given)
        drawn = (10.0 * torch.randint(-2, 3, (len(best),), generator=self.generator)).tolist()
        target = best if given.get("phase") == "settle" else [goal + d for goal, d in zip(best, drawn, strict=True)]
        inside = [min(100.0, max(0.0, rate)) for rate in target]
        return _answer([goal - rate for goal, rate in zip(inside, given["rates"], strict=True)])


class TargetPlanner:
    """Planner that goes to computed rates by at most 20 points a year and stays there."""

    scripted = True

    def __init__(self, find: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Create the planner; `find` returns the target for the first rates, both [bracket] in percent, once."""
        self.find = find
        self.target: torch.Tensor | None = None

    def reply(self, state: str) -> str:
        """Return the changes of rates as JSON."""
        rates = torch.tensor(read_state(state)["rates"], dtype=torch.float64)
        if self.target is None:
            self.target = self.find(rates)
        return _answer((self.target - rates).tolist())

    def state_dict(self) -> dict[str, Any]:
        """Return the target."""
        return {"target": self.target}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the target."""
        self.target = state["target"]


class PatternPlanner:
    """Pattern-search planner without a memory of its own.

    From the best schedule in the state it tries a neighbour that the state does not hold: one rate by 20 points, later
    by 10, first in the direction of the advice. When none is left, or in the phase "settle", it goes to the best.
    """

    scripted = True
    steps = (20.0, 10.0)

    def reply(self, state: str) -> str:
        """Return the changes of rates as JSON."""
        given = read_state(state)
        now = [float(rate) for rate in given["rates"]]
        known, best = _tried_schedules(given)
        target = best
        if given.get("phase") != "settle":
            target = next(
                (trial for trial in self._neighbours(best, given.get("advice", []), now) if trial not in known), best
            )
        return _answer([goal - rate for goal, rate in zip(target, now, strict=True)])

    def _neighbours(
        self, best: Sequence[float], advice: Sequence[str], now: Sequence[float]
    ) -> Iterator[tuple[float, ...]]:
        """Yield neighbours within reach of a year's change, those in the direction of the advice first."""
        hints = {}
        for sentence in advice:
            if found := re.search(r"bracket (\d+) .*too (low|high)", sentence):
                hints[int(found[1]) - 1] = 1.0 if found[2] == "low" else -1.0
        for step in self.steps:
            moves = [(axis, sign) for sign in (1.0, -1.0) for axis in range(len(best))]
            moves.sort(key=lambda move: hints.get(move[0]) != move[1])
            for axis, sign in moves:
                trial = list(best)
                trial[axis] = min(100.0, max(0.0, trial[axis] + sign * step))
                if max(abs(goal - rate) for goal, rate in zip(trial, now, strict=True)) <= LARGEST:
                    yield tuple(trial)
