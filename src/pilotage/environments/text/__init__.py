"""Verifiable text tasks: prompts that a program makes and whose answers a program checks.

`text_task("add")` makes one by name. Tasks are pieces of the slot `task`, declared by systems and other packages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import PieceChoice, fill, load_piece, parse_term, split_values
from pilotage.environments.text.reasoning_gym import PREFIX, RGTask
from pilotage.environments.text.task import TextTask, content_hash, split_of
from pilotage.types import Task

__all__ = ["RGTask", "TextTask", "content_hash", "split_of", "text_task"]

_NEEDED = ("name", "difficulties", "pool", "score", "max_new")


def text_task(choice: PieceChoice, difficulties: Sequence[int] | None = None) -> Task:
    """Return a text task at the given difficulties.

    Args:
        choice: a piece of the slot `task` with its options ("add"), a generator of reasoning-gym
            ("reasoning-gym:countdown"), a class of your own ("my.py:MyTask", or the class itself).
        difficulties: those to draw from; None: the task's default.

    Raises:
        UsageError: for an unknown name, with the nearest ones, for a difficulty that the task does not have, and for a
            class that makes no task.
    """
    if callable(choice):
        return _make(choice, getattr(choice, "__name__", str(choice)), {}, difficulties)
    term = parse_term(choice)
    name, options = term.reference, split_values(term.options)
    if name.startswith(PREFIX):
        kind: Callable[..., Any] = partial(RGTask, name.removeprefix(PREFIX))
    else:
        kind = load_piece("task", name)
    return _make(kind, name, options, difficulties)


def _make(kind: Callable[..., Any], name: str, options: Mapping[str, Any], difficulties: Sequence[int] | None) -> Task:
    given = {"difficulties": difficulties} if "difficulties" in inspect.signature(kind).parameters else {}
    if difficulties is not None and not given:
        raise UsageError(f"the task {name} has no difficulties to choose from; {list(difficulties)} were given")
    made = fill(kind, options, given, name=f"task {name}")
    lacking = [attribute for attribute in _NEEDED if not hasattr(made, attribute)]
    if lacking:
        raise UsageError(
            f"the task {name} makes a {type(made).__name__} without {', '.join(lacking)}; a task has "
            f"{', '.join(_NEEDED)}: see pilotage.types.Task"
        )
    task: Task = made
    return task
