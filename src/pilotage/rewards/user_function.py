"""Reward functions of users: which arguments they may take, and how they are called in a worker."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.references import dump_functions, load_function, load_functions
from pilotage.types import Item

SIGNATURES = (
    "(text, item) with the model's text and the row; names of the text (text, completion), of fields (prompt, answer, "
    "solution, difficulty) and of columns of your data, one answer at a time; or lists, as for trl's trainers: "
    "(prompts, completions, further columns by name, **kwargs), which returns a list"
)
"""What a reward function may take; it returns a number, or None where it has no opinion."""

_TEXT = ("text", "completion", "response")
_FIELDS = ("prompt", "answer", "solution", "difficulty", "id")
_LISTS = ("prompts", "completions")
_Call = Callable[[Callable[..., Any], str, Item], Any]


class UserFunction:
    """Scorer for workers: a user's function, or an instance of a user's class, loaded in the worker."""

    answer_only = False

    def __init__(
        self, reference: str, options: Mapping[str, Any] | None = None, columns: Sequence[str] | None = None
    ) -> None:
        """Make the scorer.

        Args:
            reference: `package.module:function` or `path.py:function`.
            options: its keyword-only arguments, or those of the constructor of a class.
            columns: names of the further columns of the data; None when they are not known.
        """
        self.reference, self._options = reference, dict(options or {})
        self._columns = None if columns is None else tuple(columns)
        self._sent = dump_functions([reference])
        self._function: Callable[..., Any] | None = None
        self._call: _Call | None = None

    def prepare(self) -> None:
        """Load the function. Raises UsageError when there is none, or when it takes other arguments."""
        if self._sent:
            load_functions(self._sent)
        file = self.reference.rpartition(":")[0]
        if file.endswith(".py"):
            sys.path.insert(0, str(Path(file).resolve().parent))
        function: Any = load_function(self.reference)
        self._call = calling_convention(function, self._columns, self.reference)
        options = self._options
        made: Any = function(**options) if inspect.isclass(function) else partial(function, **options)
        self._function = made

    def __call__(self, text: str, item: Item) -> float | None:
        """Return the score of an answer, None where the function has no opinion."""
        assert self._function is not None
        assert self._call is not None
        result: float | None = self._call(self._function, text, item)
        return result

    @property
    def identity(self) -> str:
        """The hash of the file, so that recorded scores of an older version are not used again."""
        if self._sent:
            return self.reference  # the name of a session's function ends in a digest of what it does
        function = inspect.unwrap(load_function(self.reference))
        path = inspect.getsourcefile(function) if inspect.isfunction(function) or inspect.isclass(function) else None
        code = Path(path).read_bytes() if path and Path(path).is_file() else b""
        return hashlib.blake2b(code + repr(sorted(self._options.items())).encode(), digest_size=8).hexdigest()


def calling_convention(function: Callable[..., Any], columns: Sequence[str] | None, name: str) -> _Call:
    """Return how a reward function is called, from the names of its arguments.

    Args:
        function: the function, or a class whose instances are called.
        columns: names of the further columns of the data; None when they are not known.
        name: how the function was given, for errors.

    Raises:
        UsageError: when the function takes arguments that a reward is not given.
    """
    called = function.__call__ if inspect.isclass(function) else function
    if inspect.iscoroutinefunction(called):
        raise UsageError(f"the reward {name} is an async function; expected a plain one: {SIGNATURES}")
    parameters = list(inspect.signature(called).parameters.values())[1 if inspect.isclass(function) else 0 :]
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not needed:
        return _call_pair
    known = {*_TEXT, *_FIELDS, "item", *(columns or ())}
    if set(_LISTS) & set(needed):
        strange = [one for one in needed if one not in {*_LISTS, *_FIELDS, *(columns or ())} and columns is not None]
        if not strange:
            return lambda call, text, item: _call_lists(call, text, item, positional, rest)
    elif len(needed) == 2 and (needed[1] == "item" or not set(needed) & known):
        return _call_pair
    elif len(needed) == 1 and needed[0] not in known:
        return lambda call, text, item: call(text)  # noqa: ARG005
    else:
        strange = [one for one in needed if one not in known and columns is not None]
        if needed and not strange:
            return lambda call, text, item: call(**_by_name(text, item, positional, rest))
    there = f"; the columns of the data are {', '.join(columns)}" if columns else ""
    what = f"is given no {', '.join(strange)}" if needed else "takes no argument"
    written = ", ".join(p.name for p in parameters)
    raise UsageError(f"the reward {name} {what}: it is written ({written}); expected {SIGNATURES}{there}")


def _call_pair(function: Callable[..., Any], text: str, item: Item) -> Any:
    return function(text, item)


def _call_lists(function: Callable[..., Any], text: str, item: Item, names: Sequence[str], rest: bool) -> Any:
    values = {"prompts": item.prompt, "completions": text, **_fields(item)}
    wanted = values if rest else {name: values[name] for name in names if name in values}
    result = function(**{name: [value] for name, value in wanted.items()})
    if isinstance(result, str | bytes) or not hasattr(result, "__len__") or len(result) != 1:
        raise TypeError(f"expected a list with one score for each of 1 completions, not {result!r:.80}")
    return result[0]


def _by_name(text: str, item: Item, names: Sequence[str], rest: bool) -> dict[str, Any]:
    values = {**_fields(item), **dict.fromkeys(_TEXT, text), "item": item}
    return {name: value for name, value in values.items() if name in names or (rest and name not in ("item", *_TEXT))}


def _fields(item: Item) -> dict[str, Any]:
    return {**item.meta, **{name: getattr(item, name) for name in _FIELDS}}
