"""Planners that set tax rates without a language model: they read the text a model would read, and answer as it would.

The text ends with `STATE {...}`: rates, welfare, history, best, advice, phase (see `environments/economy`)."""

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
    """The JSON after the last "STATE". Raises UsageError for a text without one."""
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
    """Never changes anything: a baseline."""

    scripted = True

    def reply(self, state: str) -> str:
        return _answer([0.0] * len(read_state(state)["rates"]))


class RandomPlanner:
    """Changes every rate by −20, −10, 0, 10 or 20 points at random: a control."""

    scripted = True

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def reply(self, state: str) -> str:
        drawn = torch.randint(-2, 3, (len(read_state(state)["rates"]),), generator=self.generator)
        return _answer([10.0 * int(change) for change in drawn])


def _known(told: dict[str, Any]) -> tuple[dict[tuple[float, ...], float], tuple[float, ...]]:
    """Every schedule that the text names with its welfare, and the best of them."""
    known = {tuple(rates): welfare for rates, welfare in [*told.get("history", []), *told.get("best", [])]}
    known.setdefault(tuple(float(rate) for rate in told["rates"]), told["welfare"])
    best = max(known, key=lambda rates: known[rates])
    if told.get("best"):
        best = tuple(told["best"][0][0])  # the memory averages years with equal rates
    return known, best


class HillClimbPlanner:
    """From the best schedule that the text names, every rate by −20, −10, 0, 10 or 20 points at random; when it is told
    to settle, to the best."""

    scripted = True

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def reply(self, state: str) -> str:
        told = read_state(state)
        _, best = _known(told)
        drawn = (10.0 * torch.randint(-2, 3, (len(best),), generator=self.generator)).tolist()
        target = best if told.get("phase") == "settle" else [goal + d for goal, d in zip(best, drawn, strict=True)]
        inside = [min(100.0, max(0.0, rate)) for rate in target]
        return _answer([goal - rate for goal, rate in zip(inside, told["rates"], strict=True)])


class TargetPlanner:
    """Walks to rates that somebody computed, at most 20 points a year, and stays there."""

    scripted = True

    def __init__(self, find: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """find: from the first rates [B] in percent to the target [B]; asked once."""
        self.find = find
        self.target: torch.Tensor | None = None

    def reply(self, state: str) -> str:
        rates = torch.tensor(read_state(state)["rates"], dtype=torch.float64)
        if self.target is None:
            self.target = self.find(rates)
        return _answer((self.target - rates).tolist())

    def state_dict(self) -> dict[str, Any]:
        return {"target": self.target}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.target = state["target"]


class PatternPlanner:
    """Pattern search by what the text says, without a memory of its own: from the best schedule that the text names it
    tries a neighbour that it does not name, one rate by 20 points, later by 10, in the direction that the advice hints
    at; when none is left, or it is told to settle, it goes to the best."""

    scripted = True
    steps = (20.0, 10.0)

    def reply(self, state: str) -> str:
        told = read_state(state)
        now = [float(rate) for rate in told["rates"]]
        known, best = _known(told)
        target = best
        if told.get("phase") != "settle":
            target = next(
                (trial for trial in self._neighbours(best, told.get("advice", []), now) if trial not in known), best
            )
        return _answer([goal - rate for goal, rate in zip(target, now, strict=True)])

    def _neighbours(
        self, best: Sequence[float], advice: Sequence[str], now: Sequence[float]
    ) -> Iterator[tuple[float, ...]]:
        """Within reach of a year's change, the hinted ones first."""
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
