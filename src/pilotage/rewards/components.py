"""The rewards there are, each a class: options by constructor, then `(texts, items, rollouts) -> list of scores`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.references import dump_functions, load_function, load_functions
from pilotage.rewards.workers import WorkerPool
from pilotage.types import Failed, Item, Score


class Journal(Protocol):
    """Where verdicts are recorded and found again, such as `pilotage.runs.Journal`. Values are plain JSON."""

    def get(self, key: str) -> Any:
        """Return the value kept under a key."""
        ...

    def put(self, key: str, value: Any) -> Any:
        """Keep a value under a key."""
        ...


class InWorkers:
    """A reward whose judge runs in workers.

    name: as it stands in metrics; judge: its name in the pool; identity: what else the verdict depends on (a version,
    a file's hash), for the journal; quick: a verdict where no worker is needed, or None.
    A verdict is made once for each (item, text); with a journal also when the run is resumed or repeated.
    """

    def __init__(
        self,
        name: str,
        pool: WorkerPool,
        *,
        judge: str,
        journal: Journal | None = None,
        identity: str = "",
        quick: Callable[[str, str], float | None] | None = None,
    ) -> None:
        self.name, self._pool, self._judge, self._journal = name, pool, judge, journal
        self._identity, self._quick = identity, quick

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        del rollouts
        verdicts: dict[str, Score] = {}
        jobs: dict[str, tuple[str, str, Item]] = {}
        keys = []
        for text, item in zip(texts, items, strict=True):
            score = self._quick(item.answer, text) if self._quick is not None else None
            key = _key(self._judge, self._identity, item.id, item.answer, text)
            keys.append(key)
            if score is not None:
                verdicts[key] = score
            elif key not in verdicts and key not in jobs:
                recorded = self._journal.get(key) if self._journal is not None else None
                if recorded is None:
                    jobs[key] = (self._judge, text, item)
                else:
                    verdicts[key] = _from_plain(recorded)
        for key, verdict in zip(jobs, self._pool.judge(list(jobs.values())), strict=True):
            verdicts[key] = verdict
            if self._journal is not None:
                self._journal.put(key, _to_plain(verdict))
        return [verdicts[key] for key in keys]


class ByTask:
    """A method of the task as a reward, in this process; where it raises, the score is Failed.

    name: as it stands in metrics; method: `score` (1.0 for a right answer, else 0.0), `partial` (how much of it is
    right, in [0, 1]) or `well_formed` (whether it obeys the task's grammar).
    """

    def __init__(self, name: str, task: Any, method: str) -> None:
        self.name = name
        self._check = TaskCheck(task, method)

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        del rollouts
        scores: list[Score] = []
        for text, item in zip(texts, items, strict=True):
            try:
                scores.append(self._check(text, item))
            except Exception as error:  # a task of another package; its mistake is no zero and no end of the run
                scores.append(Failed("exception", f"{type(error).__name__}: {error}"))
        return scores


class Overlong:
    """DAPO's soft penalty for length (arXiv 2503.14476, eq. 13): 0 up to `maximum - buffer` tokens, falling to -1 at
    `maximum`, -1 beyond.

    maximum: L_max in tokens; buffer: L_cache, 0 < buffer ≤ maximum.
    """

    name = "overlong"

    def __init__(self, *, maximum: int, buffer: int) -> None:
        if not 0 < buffer <= maximum:
            raise UsageError(f"overlong was given maximum={maximum}, buffer={buffer}; expected 0 < buffer ≤ maximum")
        self._maximum, self._buffer = maximum, buffer

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        del texts, items
        return overlong_penalty(token_lengths(rollouts), self._maximum, self._buffer).tolist()


class Length:
    """Minus the number of tokens over `maximum`, at least -1: a price on every token.

    maximum: tokens that cost 1.
    """

    name = "length"

    def __init__(self, *, maximum: int) -> None:
        if maximum < 1:
            raise UsageError(f"length was given maximum={maximum}; expected at least 1 token")
        self._maximum = maximum

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Any) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        del texts, items
        return (-np.minimum(token_lengths(rollouts) / self._maximum, 1.0)).tolist()


def token_lengths(rollouts: Any) -> np.ndarray:
    """Return tokens that the policy wrote, from `rollouts.length` (tensor or array), [N] float64."""
    length = rollouts.length
    return np.asarray(length.cpu() if hasattr(length, "cpu") else length, dtype=np.float64)


def overlong_penalty(lengths: np.ndarray, maximum: int, buffer: int) -> np.ndarray:
    """Return penalties in [-1, 0] for [N] lengths in tokens: DAPO, arXiv 2503.14476, eq, [N]. 13."""
    return -np.clip((lengths - (maximum - buffer)) / buffer, 0.0, 1.0)


class TaskCheck:
    """A judge: a method of the task. In a WorkerPool for tasks whose check may hang (`isolate`).

    Raises UsageError when the task has no such method.
    """

    def __init__(self, task: Any, method: str) -> None:
        if not callable(getattr(task, method, None)):
            raise UsageError(
                f"task {getattr(task, 'name', task)!r} cannot say {method!r} of an answer; {_INSTEAD[method]}"
            )
        self._task, self._method = task, method

    def prepare(self) -> None:
        """Nothing to load: unpickling has done it."""

    def __call__(self, text: str, item: Item) -> float | None:
        """Return the score of an answer, None where it cannot be judged."""
        value = getattr(self._task, self._method)(item, text)
        return None if value is None else float(value)


_INSTEAD = {
    "score": "expected a Task with score(item, text)",
    "partial": "use the reward 'exact'",
    "well_formed": "give the form, such as format:pattern='.*#[0-9]+'",
}


class Pattern:
    """A judge: 1.0 for a text that matches a regular expression as a whole (`.` matches line breaks), else 0.0.

    In a WorkerPool, because some expressions take exponential time on some texts.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._compiled = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise UsageError(f"format:pattern={pattern!r} is not a regular expression: {error}") from error

    def prepare(self) -> None:
        """Nothing to load."""

    def __call__(self, text: str, item: Item) -> float:
        """Return the score of an answer."""
        del item
        return float(self._compiled.fullmatch(text) is not None)


class UserFunction:
    """A judge for a WorkerPool: a user's `(text, item) -> float | None`, loaded in the worker.

    reference: `package.module:function` or `path.py:function`.
    """

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self._sent = dump_functions([reference])
        self._function: Callable[[str, Item], float | None] | None = None

    def prepare(self) -> None:
        """Load the function. Raises UsageError when there is none."""
        if self._sent:
            load_functions(self._sent)
            self._function = load_function(self.reference)
            return
        where, _, name = self.reference.rpartition(":")
        module = _load(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        function = getattr(module, name, None)
        if not callable(function):
            there = ", ".join(sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_")))
            raise UsageError(f"{where} has no function {name!r}; it has {there or 'none'}")
        self._function = function

    def __call__(self, text: str, item: Item) -> float | None:
        """Return a score, or a failure with its reason, for each answer."""
        assert self._function is not None
        return self._function(text, item)

    def identity(self) -> str:
        """Return the hash of the file, so that recorded verdicts of an older version are not replayed."""
        where, _, name = self.reference.rpartition(":")
        if where == "session" and self._sent:
            return name  # it ends in a digest of what the function does
        if where.endswith(".py"):
            path: Path | None = Path(where)
            if not Path(where).is_file():
                raise UsageError(
                    f"the reward {self.reference!r} names the file {Path(where).resolve()}, which is not there"
                )
        else:
            try:
                spec = importlib.util.find_spec(where)
            except ModuleNotFoundError:
                spec = None
            if spec is None:
                raise UsageError(f"the reward {self.reference!r} names the module {where!r}, which cannot be found")
            path = Path(spec.origin) if spec.origin else None
        return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path and path.is_file() else ""


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be loaded as Python")
    sys.path.insert(0, str(path.resolve().parent))
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while it is executed.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _key(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _to_plain(score: Score) -> dict[str, Any]:
    return {"failed": score.reason, "detail": score.detail} if isinstance(score, Failed) else {"score": score}


def _from_plain(value: dict[str, Any]) -> Score:
    return Failed(value["failed"], value["detail"]) if "failed" in value else value["score"]
