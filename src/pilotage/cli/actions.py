"""`pilotage do NAME VERB --from RUN`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from pilotage.cli.arguments import Verb, option_rows, split
from pilotage.cli.console import Screen
from pilotage.core.configuration import read_options
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import find_system
from pilotage.core.system import System
from pilotage.core.text import number
from pilotage.experiments.launch import recorded

ELSEWHERE = ("estimate_cost", "play")
"""Actions that have commands of their own: `pilotage run --dry-run` and `pilotage play`."""


@dataclass(frozen=True)
class DoOptions:
    from_: Path | None = None
    """The finished run on which the verb acts."""


def do(words: Sequence[str], screen: Screen) -> int:
    taken = split(words, DoOptions, "do")
    if not 1 <= len(taken.names) <= 2:
        given = " ".join(taken.names) or "nothing"
        raise UsageError(f"given {given}, expected a system and one of its verbs; usage: pilotage {VERB.usage}")
    system = find_system(taken.names[0])
    if len(taken.names) == 1:
        if taken.rest:
            raise UsageError(f"option {taken.rest[0]} before a verb; usage: pilotage {VERB.usage}")
        list_verbs(system, screen)
        return 0
    verb = taken.names[1]
    action = action_named(system, verb)
    run: Path | None = taken.own.from_
    if run is None:
        raise UsageError(f"on which run? usage: pilotage do {system.name} {verb} --from RUN")
    options = options_of(action, verb)
    values = read_options(options, taken.rest, f"{system.name} {verb}")
    made_by, config, _ = recorded(run)
    if made_by.name != system.name:
        raise UsageError(f"{run} is a run of {made_by.name}, not of {system.name}: pilotage do {made_by.name} …")
    show(action(config, run, **values), screen)
    return 0


def verbs(system: System) -> dict[str, Callable[..., Any]]:
    """The actions of a system that `do` runs: `action(config, run, **options)`."""
    return {name: system.load_action(name) for name in system.actions if name not in ELSEWHERE}


def action_named(system: System, verb: str) -> Callable[..., Any]:
    """Raises UsageError with the nearest verbs when there is no such action."""
    there = verbs(system)
    if verb in there:
        return there[verb]
    if verb in ELSEWHERE and verb in system.actions:
        command = "play RUN" if verb == "play" else f"run {system.name} --dry-run"
        raise UsageError(f"{verb} is a command of its own: pilotage {command}")
    if not there:
        raise UsageError(f"{system.name} has no verbs")
    raise UsageError(f"{system.name} has no verb {verb!r}{nearest(verb, there)}; it has {', '.join(there)}")


def options_of(action: Callable[..., Any], verb: str) -> type:
    """The keyword parameters of an action, those with a default, as a frozen dataclass like a command's own options."""
    hints = typing.get_type_hints(action)
    fields: list[Any] = [
        (name, hints.get(name, str), field(default=parameter.default))
        for name, parameter in inspect.signature(action).parameters.items()
        if parameter.default is not parameter.empty
    ]
    return make_dataclass(f"options of {verb}".title().replace(" ", ""), fields, frozen=True)


def list_verbs(system: System, screen: Screen) -> None:
    """Every verb with the first line of its docstring."""
    there = verbs(system)
    if not there:
        screen.line(f"{system.name} has no verbs")
        return
    screen.line(f"usage: pilotage do {system.name} VERB --from RUN", style="bold")
    screen.heading(f"verbs of {system.name}")
    screen.pairs([("  " + name, first_line(action)) for name, action in there.items()], style="cyan")


def show_action(system: System, verb: str, screen: Screen) -> None:
    """For `--help`: what a verb does, and its options."""
    action = action_named(system, verb)
    screen.heading(f"{system.name} {verb}")
    screen.line(inspect.cleandoc(action.__doc__ or ""))
    options = options_of(action, verb)
    rows = option_rows(options, options())
    if rows:
        screen.heading(f"options of {verb}")
        screen.options(rows)


def first_line(action: Callable[..., Any]) -> str:
    return (inspect.getdoc(action) or "").partition("\n")[0]


def show(answer: Any, screen: Screen) -> None:
    """What an action gave: a mapping is written line by line, an entry that is a list of mappings as a table; other
    values as they are; None says nothing."""
    if answer is None:
        return
    if not isinstance(answer, Mapping):
        answer = {"": answer} if _is_table(answer) else answer
    if not isinstance(answer, Mapping):
        screen.line(number(answer))
        return
    screen.pairs([(str(name), number(value)) for name, value in answer.items() if not _is_table(value)])
    for name, value in answer.items():
        if _is_table(value):
            if name:
                screen.heading(str(name))
            headers = list(dict.fromkeys(column for row in value for column in row))
            numeric = [i for i, h in enumerate(headers) if all(isinstance(r.get(h), (int, float)) for r in value)]
            rows = [[number(row[h]) if h in row else "" for h in headers] for row in value]
            screen.table(headers, rows, numeric)


def _is_table(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


VERB = Verb(
    "do NAME VERB --from RUN [options]",
    "What else a system can do with a finished run.",
    DoOptions,
    do,
    "`pilotage do NAME` lists the verbs of a system, `pilotage do NAME VERB --help` the options of one.",
)
