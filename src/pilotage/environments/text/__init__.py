"""Verifiable text tasks: prompts that a program makes and whose answers a program checks.

`text_task("add")` makes one by name. A completion is `steps` separated by commas, then `#answer`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.environments.text.arithmetic import Add, Chain10
from pilotage.environments.text.puzzles import Countdown, Maze, Sort
from pilotage.environments.text.reasoning_gym import PREFIX, RGTask
from pilotage.environments.text.task import TextTask, content_hash, split_of

TEXT_TASKS: dict[str, type[TextTask]] = {task.name: task for task in (Add, Chain10, Countdown, Sort, Maze)}
"""The tasks that need no extra, by name."""


def text_task(name: str, difficulties: Sequence[int] | None = None) -> TextTask:
    """Return the task called `name` at the given difficulties (None: the task's default).

    name: one of TEXT_TASKS, or `reasoning-gym:GENERATOR`.
    Raises UsageError for an unknown name, with the nearest ones, or for a difficulty that the task does not have.
    """
    if name.startswith(PREFIX):
        return RGTask(name.removeprefix(PREFIX), difficulties)
    if name in TEXT_TASKS:
        return TEXT_TASKS[name](difficulties)
    raise UsageError(
        f"there is no text task {name!r}{nearest(name, TEXT_TASKS)}; there are {', '.join(TEXT_TASKS)}, and "
        f"{PREFIX}GENERATOR for those of "
        "reasoning-gym"
    )


__all__ = [
    "TEXT_TASKS",
    "Add",
    "Chain10",
    "Countdown",
    "Maze",
    "RGTask",
    "Sort",
    "TextTask",
    "content_hash",
    "split_of",
    "text_task",
]
