"""The rewards of the slot `reward`, and what runs them: in this process, or in workers.

A piece of this slot is one of two things.

- A function of an answer, such as `(text, item) -> float | None`: it runs in workers, one answer at a time. See
  `pilotage.rewards.user_function` for the arguments that it may take.
- A function of the task, declared by `declare(of_task=True)`: it returns a `pilotage.types.Reward`, which scores a
  batch in this process, or a `pilotage.rewards.workers.Scorer`, which is sent to the workers.

Keyword-only arguments are options of either: `overlong:maximum=512,buffer=128`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.model_text import read_model_text
from pilotage.core.pieces import declare
from pilotage.core.text import escape_unprintable
from pilotage.rewards.math_equality import MathEquality
from pilotage.rewards.workers import Scorer, WorkerPool
from pilotage.types import Failed, Item, Reward, Score


class ScoreRecord(Protocol):
    """Where scores of workers are recorded and found again, such as a run's journal. Values are plain JSON."""

    def get(self, key: str) -> Any:
        """Return the value kept under a key."""
        ...

    def put(self, key: str, value: Any) -> Any:
        """Keep a value under a key."""
        ...


class InWorkers:
    """A reward whose scorer runs in workers.

    A score is made once for each (item, text); with a record also when the run is resumed or repeated.
    """

    def __init__(
        self,
        name: str,
        pool: WorkerPool,
        key: str,
        scorer: Scorer,
        record: ScoreRecord | None = None,
    ) -> None:
        """Make the reward.

        Args:
            name: as it stands in metrics.
            pool: the workers.
            key: name of the scorer in the pool.
            scorer: the scorer.
            record: where scores are kept.
        """
        self.name, self.scorer, self._pool, self._key, self._record = name, scorer, pool, key, record
        self._identity = getattr(scorer, "identity", "")
        self._answer_only = getattr(scorer, "answer_only", False)
        self._quick = getattr(scorer, "quick", None)

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        del rollouts
        return self.score(texts, items)

    def score(self, texts: Sequence[str], items: Sequence[Item], *, quick: bool = True) -> list[Score]:
        """Return the scores; those of workers alone when `quick` is False."""
        found: dict[str, Score] = {}
        jobs: dict[str, tuple[str, str, Item]] = {}
        keys = []
        for text, item in zip(texts, items, strict=True):
            key = _hash(self._key, self._identity, item.id, item.answer, text)
            keys.append(key)
            if key in found or key in jobs:
                continue
            read = read_model_text(text) if self._answer_only else None
            answer = text if read is None else read.answer
            score = self._quick(item, answer) if quick and self._quick is not None else None
            if read is not None and not read.complete:
                found[key] = 0.0
            elif score is not None:
                found[key] = score
            elif (recorded := self._record.get(key) if self._record is not None else None) is not None:
                found[key] = _from_plain(recorded)
            else:
                jobs[key] = (self._key, answer, item)
        for key, made in zip(jobs, self._pool.score(list(jobs.values())), strict=True):
            found[key] = made
            if self._record is not None:
                self._record.put(key, _to_plain(made))
        return [found[key] for key in keys]


class ByTask:
    """A method of the task as a reward, in this process; where it raises, the score is Failed."""

    def __init__(self, name: str, check: TaskCheck) -> None:
        self.name, self._check = name, check

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        del rollouts
        return [self._score(text, item) for text, item in zip(texts, items, strict=True)]

    def _score(self, text: str, item: Item) -> Score:
        read = read_model_text(text)
        if not read.complete:
            return 0.0
        try:
            return self._check(read.answer, item)
        except Exception as error:  # a task of another package; its mistake is no zero and no end of the run
            return Failed("exception", escape_unprintable(f"{type(error).__name__}: {error}"))


class TaskCheck:
    """Scorer that is a method of the task. In workers for tasks whose check may hang (`isolate`).

    Raises UsageError when the task has no such method.
    """

    answer_only = True

    def __init__(self, task: Any, method: str) -> None:
        """Make the scorer.

        Args:
            task: the source of the items.
            method: `score` (1.0 for a right answer, else 0.0), `partial` (how much of it is right, in [0, 1]) or
                `well_formed` (whether it obeys the task's grammar).
        """
        if not callable(getattr(task, method, None)):
            raise UsageError(
                f"task {getattr(task, 'name', task)!r} cannot say {method!r} of an answer; {_INSTEAD[method]}"
            )
        self._task, self._method = task, method
        self.identity = str(getattr(task, "name", ""))

    def prepare(self) -> None:
        """Do nothing: unpickling has loaded the task."""

    def __call__(self, text: str, item: Item) -> float | None:
        """Return the score of an answer, None where the task has no opinion."""
        value = getattr(self._task, self._method)(item, text)
        return None if value is None else float(value)


_INSTEAD = {
    "score": "expected a Task with score(item, text)",
    "partial": "use the reward 'exact'",
    "well_formed": "give the form, such as format:pattern='.*#[0-9]+'",
}


class Pattern:
    """Scorer: 1.0 for a text that matches a regular expression as a whole (`.` matches line breaks), else 0.0.

    In workers, because some expressions take exponential time on some texts.
    """

    answer_only = False
    identity = ""

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str):
            raise UsageError(f"format:pattern={pattern} is no text; write it in quotes, format:pattern='{pattern}'")
        try:
            self._compiled = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise UsageError(f"format:pattern={pattern!r} is not a regular expression: {error}") from error

    def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    def __call__(self, text: str, item: Item) -> float:
        """Return the score of an answer."""
        del item
        return float(self._compiled.fullmatch(text) is not None)


class ByLength:
    """A reward that depends on the number of tokens alone, in this process."""

    def __init__(self, name: str, score: Callable[[np.ndarray], np.ndarray]) -> None:
        self.name, self._score = name, score

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score for each answer."""
        del texts, items
        return self._score(token_lengths(rollouts)).tolist()


def token_lengths(rollouts: Any) -> np.ndarray:
    """Return tokens that the policy wrote, from `rollouts.length` (tensor or array), [N] float64."""
    length = rollouts.length
    return np.asarray(length.cpu() if hasattr(length, "cpu") else length, dtype=np.float64)


def overlong_penalty(lengths: np.ndarray, maximum: int, buffer: int) -> np.ndarray:
    """Return DAPO's penalties in [-1, 0] for [N] lengths in tokens (arXiv 2503.14476, eq. 13)."""
    return -np.clip((lengths - (maximum - buffer)) / buffer, 0.0, 1.0)


def _by_task(name: str, task: Any, method: str) -> Reward | Scorer:
    check = TaskCheck(task, method)
    return check if getattr(task, "isolate", False) else ByTask(name, check)


@declare(of_task=True)
def exact(task: Any) -> Reward | Scorer:
    """Score 1 or 0 by the task's own check, which is mathematical equality for tasks whose `verifier` is "math"."""
    return MathEquality() if getattr(task, "verifier", None) == "math" else _by_task("exact", task, "score")


@declare(of_task=True)
def mathematical(task: Any) -> Scorer:
    """Score 1 or 0 by mathematical equality with the item's answer (extra `math`)."""
    del task
    return MathEquality()


@declare(of_task=True)
def partial(task: Any) -> Reward | Scorer:
    """Score the share of the answer that is right, where the task has such a measure."""
    return _by_task("partial", task, "partial")


@declare(of_task=True)
def well_formed(task: Any, *, pattern: str | None = None) -> Reward | Scorer:
    """Score 1 or 0 by the form of the answer: the task's grammar, or a pattern.

    Args:
        task: the source of the items.
        pattern: a regular expression that the whole text must match, reasoning included, in quotes.
    """
    return _by_task("format", task, "well_formed") if pattern is None else Pattern(pattern)


@declare(of_task=True)
def overlong(task: Any, *, maximum: int, buffer: int) -> Reward:
    """Score 0 to -1 by DAPO's soft penalty for length (arXiv 2503.14476, eq. 13).

    Args:
        task: not used.
        maximum: tokens at which the penalty reaches -1.
        buffer: tokens before `maximum` over which it grows from 0; 0 < buffer ≤ maximum.
    """
    del task
    _whole("overlong", maximum=maximum, buffer=buffer)
    if not 0 < buffer <= maximum:
        raise UsageError(f"overlong was given maximum={maximum}, buffer={buffer}; expected 0 < buffer ≤ maximum")
    return ByLength("overlong", lambda lengths: overlong_penalty(lengths, maximum, buffer))


@declare(of_task=True)
def length(task: Any, *, maximum: int) -> Reward:
    """Score 0 to -1: minus the number of tokens over `maximum`, a price on every token.

    Args:
        task: not used.
        maximum: tokens that cost 1.
    """
    del task
    _whole("length", maximum=maximum)
    if maximum < 1:
        raise UsageError(f"length was given maximum={maximum}; expected at least 1 token")
    return ByLength("length", lambda lengths: -np.minimum(lengths / maximum, 1.0))


def _whole(name: str, **options: Any) -> None:
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"{name}:{option}={value!r} is not a whole number")


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _to_plain(score: Score) -> dict[str, Any]:
    return {"failed": score.reason, "detail": score.detail} if isinstance(score, Failed) else {"score": score}


def _from_plain(value: dict[str, Any]) -> Score:
    return Failed(value["failed"], value["detail"]) if "failed" in value else value["score"]
