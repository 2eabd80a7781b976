"""What says how good an answer was. `build_rewards("exact+0.5*format", task)`, then `score_answers(...)`.

The pieces of the slot `reward` that come with this package:

| name | score |
|---|---|
| exact | 1 or 0 by the task's own check; for tasks whose `verifier` is "math", mathematical equality |
| math | 1 or 0: mathematical equality with the item's answer (extra `math`) |
| partial | share of the answer that is right, where the task has such a measure |
| format | 1 or 0: the task's grammar, or `format:pattern='…'` |
| overlong | 0 to -1: `overlong:maximum=512,buffer=128`, DAPO's penalty |
| length | 0 to -1: `length:maximum=512` |

`module:function` and `path.py:function` name your own, such as `(text, item) -> float | None`, which runs in workers;
other packages add theirs by an entry point (see `pilotage.core.registry`).
exact, math and partial score the answer that follows the reasoning of a model; reasoning without an answer scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Term, load_term, parse_sum
from pilotage.core.registry import find_pieces
from pilotage.core.text import escape_unprintable
from pilotage.rewards.combine import Component, ScoredAnswers, TooManyFailuresError, score_answers
from pilotage.rewards.components import (
    ByTask,
    InWorkers,
    Pattern,
    ScoreRecord,
    TaskCheck,
    overlong_penalty,
)
from pilotage.rewards.math_equality import MathEquality, boxed, is_read_at_once
from pilotage.rewards.user_function import UserFunction, calling_convention
from pilotage.rewards.workers import Scorer, WorkerPool
from pilotage.types import Item


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
    record: ScoreRecord | None = None,
    limit: float = 5.0,
    memory: int = 4 << 30,
    columns: Sequence[str] | None = None,
) -> Rewards:
    """Return the rewards that an expression names, ready for `score_answers`.

    Args:
        expression: such as "exact+0.5*format+overlong:maximum=512,buffer=128" or "my.py:reward".
        task: the source of the items, for exact, partial and format.
        workers: processes that score, shared by all components; they start only when a component needs them, and here,
            so that a reward that cannot be loaded is reported at once.
        record: where scores of workers are recorded, and found again in a repetition.
        limit: seconds for one answer.
        memory: bytes for one worker.
        columns: names of the further columns of the data, which a reward function may take by name; None when they
            are not known.

    Raises:
        UsageError: for names, options or functions that there are not, and for functions with other arguments.
    """
    terms = parse_sum(expression)
    if not terms:
        raise UsageError(f"the reward {expression!r} names nothing; expected such as 'exact+0.5*format'")
    made = [(term, _make(term, task, columns)) for term in terms]
    scorers = {_key(term): piece for term, piece in made if hasattr(piece, "prepare")}
    pool = WorkerPool(scorers, count=workers, limit=limit, memory=memory)
    rewards = Rewards(
        Component(
            term.weight,
            InWorkers(term.reference, pool, _key(term), piece, record) if hasattr(piece, "prepare") else piece,
        )
        for term, piece in made
    )
    if scorers:
        rewards.pool = pool
        pool.start()
    return rewards


def _key(term: Term) -> str:
    """Return a text that is equal for equal pieces, whatever their weights."""
    return ":".join([term.reference, *(f"{name}={value!r}" for name, value in sorted(term.options.items()))])


def _make(term: Term, task: Any, columns: Sequence[str] | None) -> Any:
    """Return the reward, or the scorer for the workers, that a term names."""
    reference = find_pieces("reward").get(term.reference, term.reference)
    try:
        piece = load_term("reward", term)
        if getattr(piece, "of_task", False):
            return piece(task, **term.options)
        calling_convention(piece, columns, reference)
    except UsageError:
        raise
    except Exception as error:  # it is the user's file: the message has to name it, whatever was raised
        raise UsageError(
            f"the reward {term.reference} cannot be loaded: {escape_unprintable(f'{type(error).__name__}: {error}')}"
        ) from error
    return UserFunction(reference, term.options, columns)


def is_own(expression: str) -> bool:
    """Return whether an expression holds a reward that does not come with this package."""
    known = find_pieces("reward")
    return any(not known.get(term.reference, "").startswith("pilotage.rewards.") for term in parse_sum(expression))


def check_golds(rewards: Sequence[Component], items: Sequence[Item]) -> list[str]:
    r"""Return one line for each item whose answer the math verifier cannot read: it does not equal itself in a box.

    Short answers in words are compared by their characters, and need not be read.
    """
    found: dict[str, str] = {}
    doubtful = [item for item in items if not is_read_at_once(item.answer)]
    for reward in (component.reward for component in rewards):
        if isinstance(reward, InWorkers) and isinstance(reward.scorer, MathEquality):
            scores = reward.score([rf"\boxed{{{item.answer}}}" for item in doubtful], doubtful, quick=False)
            for item, score in zip(doubtful, scores, strict=True):
                if score != 1.0 or boxed(rf"\boxed{{{item.answer}}}") is None:  # its braces do not match
                    place = item.meta.get("place") or item.meta.get("line") or item.id
                    found[item.id] = f"{place}: {item.answer!r:.100}"
    return list(found.values())


__all__ = [
    "ByTask",
    "Component",
    "InWorkers",
    "MathEquality",
    "Pattern",
    "Rewards",
    "ScoreRecord",
    "ScoredAnswers",
    "Scorer",
    "TaskCheck",
    "TooManyFailuresError",
    "UserFunction",
    "WorkerPool",
    "build_rewards",
    "check_golds",
    "is_own",
    "overlong_penalty",
    "score_answers",
]
