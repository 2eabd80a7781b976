"""`pilotage do NAME ACTION --from RUN`."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from pilotage.cli.arguments import Command, option_rows, split
from pilotage.cli.console import Console
from pilotage.core.atomic_io import write_json
from pilotage.core.configuration import read_options
from pilotage.core.docstrings import argument_docs
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import find_system
from pilotage.core.system import System
from pilotage.core.text import number
from pilotage.experiments.launch import recorded
from pilotage.report.actions import FOLDER, action_record, is_table
from pilotage.runs.manifest import Manifest

ELSEWHERE = {"estimate_cost": "run NAME --dry-run", "play": "play RUN"}
"""Actions that have a command of their own, and that command."""


@dataclass(frozen=True)
class DoOptions:
    """Options of `pilotage do`."""

    from_: Path | None = None
    """The finished run on which the action works; its folder keeps the result, and its report shows it."""
    json: bool = False
    """Print the result as one JSON object for programs."""


def do(arguments: Sequence[str], console: Console) -> int:
    """Run an action of a system on a finished run, or list the actions of a system."""
    parsed = split(arguments, DoOptions, "do")
    if not parsed.names:
        raise UsageError(f"NAME is missing; usage: pilotage {COMMAND.usage}")
    if len(parsed.names) > 2:
        raise UsageError(f"unexpected argument {parsed.names[2]!r}; usage: pilotage {COMMAND.usage}")
    system = find_system(parsed.names[0])
    if len(parsed.names) == 1:
        if parsed.rest:
            raise UsageError(f"option {parsed.rest[0]} before an action; usage: pilotage {COMMAND.usage}")
        list_actions(system, console)
        return 0
    name = parsed.names[1]
    action = action_named(system, name)
    run: Path | None = parsed.own.from_
    if run is None:
        raise UsageError(f"--from RUN is missing; usage: pilotage do {system.name} {name} --from RUN")
    values = read_options(options_of(action, name), parsed.rest, f"{system.name} {name}")
    made_by, config, _ = recorded(run)
    scripted = Manifest.read(run).scripted_components
    if made_by.name != system.name:
        raise UsageError(f"{run} is a run of {made_by.name}, not of {system.name}: pilotage do {made_by.name} …")
    result = action(config, run, **values)
    record = action_record(name, values, result)
    if scripted:
        record["scripted_components"] = scripted
    write_json(run / FOLDER / f"{name}.json", record)
    if parsed.own.json:
        console.line(json.dumps(record))
    else:
        if scripted:
            console.line(f"Scripted stand-in: {'; '.join(scripted)}. The numbers say nothing about a real model.")
        show(result, console)
    return 0


def names_of(system: System) -> list[str]:
    """Return the names of the actions of a system that `pilotage do` runs: `action(config, run, **options)`."""
    return [name for name in system.actions if name not in ELSEWHERE]


def action_named(system: System, name: str) -> Callable[..., Any]:
    """Return the action of a system called `name`. Raises UsageError with the nearest names when there is none."""
    known = names_of(system)
    if name in known:
        return system.load_action(name)
    if name in system.actions:
        command = ELSEWHERE[name].replace("NAME", system.name)
        raise UsageError(f"{name} has a command of its own: pilotage {command}")
    if not known:
        raise UsageError(f"{system.name} has no actions")
    raise UsageError(f"{system.name} has no action {name!r}{nearest(name, known)}; it has {', '.join(known)}")


def options_of(action: Callable[..., Any], name: str) -> type:
    """Return the parameters of an action that have a default, as a frozen dataclass like a command's own options."""
    hints = typing.get_type_hints(action)
    fields: list[Any] = [
        (key, hints.get(key, str), field(default=parameter.default))
        for key, parameter in inspect.signature(action).parameters.items()
        if parameter.default is not parameter.empty
    ]
    return make_dataclass(f"options of {name}".title().replace(" ", ""), fields, frozen=True)


def list_actions(system: System, console: Console) -> None:
    """Write every action of a system with the first line of its docstring."""
    known = names_of(system)
    if not known:
        console.line(f"{system.name} has no actions")
        return
    console.line(f"usage: pilotage do {system.name} ACTION --from RUN", style="bold")
    console.heading(f"actions of {system.name}")
    rows = [("  " + name, (inspect.getdoc(system.load_action(name)) or "").partition("\n")[0]) for name in known]
    console.pairs(rows, style="cyan")


def show_action(system: System, name: str, console: Console) -> None:
    """Write the help of an action: what it does, and its options."""
    action = action_named(system, name)
    console.heading(f"{system.name} {name}")
    console.line((inspect.getdoc(action) or "").partition("\nArgs:")[0].strip())
    options = options_of(action, name)
    rows = option_rows(options, options(), docs=argument_docs(action))
    if rows:
        console.heading(f"options of {name}")
        console.options(rows)


def show(result: Any, console: Console) -> None:
    """Write what an action returned.

    A mapping is written line by line, an entry that is a list of mappings as a table, another value as it is, and None
    not at all.
    """
    if result is None:
        return
    if not isinstance(result, Mapping):
        result = {"": result} if is_table(result) else result
    if not isinstance(result, Mapping):
        console.line(number(result))
        return
    console.pairs([(str(name), number(value)) for name, value in result.items() if not is_table(value)])
    for name, value in result.items():
        if is_table(value):
            if name:
                console.heading(str(name))
            headers = list(dict.fromkeys(column for row in value for column in row))
            numeric = [i for i, h in enumerate(headers) if all(isinstance(r.get(h), (int, float)) for r in value)]
            rows = [[number(row[h]) if h in row else "" for h in headers] for row in value]
            console.table(headers, rows, numeric)


COMMAND = Command(
    "do NAME ACTION --from RUN [options]",
    "Run an action of a system on a finished run.",
    DoOptions,
    do,
    "`pilotage do NAME` lists the actions of a system, `pilotage do NAME ACTION --help` the options of one.",
)
