"""What says how good an answer was. `build_rewards("exact+0.5*format", task)`, then `score_answers(...)`.

| name | score |
|---|---|
| exact | 1 or 0 by the task's own check; for tasks whose `verifier` is "math", mathematical equality |
| math | 1 or 0: mathematical equality with the item's answer (extra `math`) |
| partial | share of the answer that is right, where the task has such a measure |
| format | 1 or 0: the task's grammar, or `format:pattern='…'` |
| overlong | 0 to -1: `overlong:maximum=512,buffer=128`, DAPO's penalty |
| length | 0 to -1: `length:maximum=512` |
| `module:function`, `path.py:function` | your own `(text, item) -> float | None`, in workers |
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.rewards.combine import Component, Judged, Term, TooManyFailuresError, parse_expression, score_answers
from pilotage.rewards.components import (
    ByTask,
    InWorkers,
    Journal,
    Length,
    Overlong,
    Pattern,
    TaskCheck,
    UserFunction,
    overlong_penalty,
)
from pilotage.rewards.math_equality import MATH_VERSION, MathEquality, quick_verdict
from pilotage.rewards.workers import Judge, WorkerPool
from pilotage.types import Reward

REWARDS = ("exact", "math", "partial", "format", "overlong", "length")
"""The names that an expression may use, besides functions."""

_METHODS = {"exact": "score", "partial": "partial", "format": "well_formed"}
"""Rewards that are a method of the task."""


class Rewards(tuple[Component, ...]):
    """The components of an expression; a tuple that also holds their workers."""

    pool: WorkerPool | None = None

    def close(self) -> None:
        """End the workers, if there are any. They also end with this process."""
        if self.pool is not None:
            self.pool.close()


def build_rewards(
    expression: str,
    task: Any,
    *,
    workers: int = 1,
    journal: Journal | None = None,
    limit: float = 5.0,
    memory: int = 4 << 30,
) -> Rewards:
    """Return the rewards that an expression names, ready for `score_answers`.

    expression: such as "exact+0.5*format+overlong:maximum=512,buffer=128" or "my.py:reward".
    task: the source of the items, for exact, partial and format.
    workers: processes that judge, shared by all components; they start only when a component needs them, and here, so
        that a reward that cannot be loaded is reported at once.
    journal: where verdicts of workers are recorded, and found again in a repetition.
    limit: seconds for one answer; memory: bytes for one worker.
    Raises UsageError for names, options or functions that there are not.
    """
    terms = parse_expression(expression)
    judges = {term.text: judge for term in terms if (judge := _judge(term, task)) is not None}
    pool = WorkerPool(judges, count=workers, limit=limit, memory=memory)
    rewards = Rewards(
        Component(
            term.weight,
            _in_workers(term, judges[term.text], task, pool, journal) if term.text in judges else _here(term, task),
        )
        for term in terms
    )
    if judges:
        rewards.pool = pool
        pool.start()
    return rewards


def _judge(term: Term, task: Any) -> Judge | None:
    """What a term needs in the workers; None for a reward that is computed here. Raises UsageError for unknown ones."""
    name = term.name
    if name in REWARDS:
        if name not in {"overlong", "length"}:
            _refuse_options(term, frozenset({"pattern"}) if name == "format" else frozenset())
        if name == "math" or (name == "exact" and getattr(task, "verifier", None) == "math"):
            return MathEquality()
        if "pattern" in term.options and name == "format":
            return Pattern(term.options["pattern"])
        if name in _METHODS and getattr(task, "isolate", False):
            return TaskCheck(task, _METHODS[name])
        return None
    if ":" in name:
        _refuse_options(term, frozenset())
        return UserFunction(name)
    raise UsageError(
        f"there is no reward {name!r}{nearest(name, REWARDS)}; there are {', '.join(REWARDS)}, "
        "and your own as module:function or "
        "path.py:function"
    )


def _in_workers(term: Term, judge: Judge, task: Any, pool: WorkerPool, journal: Journal | None) -> Reward:
    if isinstance(judge, MathEquality):
        return InWorkers(term.name, pool, judge=term.text, journal=journal, identity=MATH_VERSION, quick=quick_verdict)
    identity = judge.identity() if isinstance(judge, UserFunction) else getattr(task, "name", "")
    return InWorkers(term.name, pool, judge=term.text, journal=journal, identity=identity)


def _here(term: Term, task: Any) -> Reward:
    if term.name in _METHODS:
        return ByTask(term.name, task, _METHODS[term.name])
    return _penalty(Overlong if term.name == "overlong" else Length, term)


def _penalty(reward: Callable[..., Reward], term: Term) -> Reward:
    """A penalty whose options are whole numbers, all of them needed."""
    needed = frozenset(inspect.signature(reward).parameters)
    _refuse_options(term, needed)
    missing = needed - set(term.options)
    if missing:
        example = ",".join(
            f"{option}=512" if option == "maximum" else f"{option}=128" for option in sorted(needed)[::-1]
        )
        raise UsageError(f"the reward {term.name!r} lacks {', '.join(sorted(missing))}; expected {term.name}:{example}")
    return reward(**{option: _whole(term, option, value) for option, value in term.options.items()})


def _whole(term: Term, option: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{term.name}:{option}={value!r} is not a whole number") from None


def _refuse_options(term: Term, known: frozenset[str]) -> None:
    unknown = sorted(set(term.options) - known)
    if unknown:
        raise UsageError(
            f"the reward {term.name!r} has no option {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )


__all__ = [
    "REWARDS",
    "ByTask",
    "Component",
    "InWorkers",
    "Judge",
    "Judged",
    "Length",
    "MathEquality",
    "Overlong",
    "Pattern",
    "Rewards",
    "TooManyFailuresError",
    "UserFunction",
    "WorkerPool",
    "build_rewards",
    "overlong_penalty",
    "parse_expression",
    "score_answers",
]
