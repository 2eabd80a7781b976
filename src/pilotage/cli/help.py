"""`--help` of a command, and of a system: every hyper-parameter with its meaning and default."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from pilotage.cli.arguments import Command, explain, option_rows, split
from pilotage.cli.console import Console
from pilotage.core.configuration import code_fields, configure, field_types, option
from pilotage.core.docstrings import argument_docs
from pilotage.core.pieces import is_piece_choice, load_piece, parse_pieces, piece_options, references_in
from pilotage.core.registry import find_pieces, find_system
from pilotage.core.system import System


def show_help(name: str, command: Command, arguments: Sequence[str], console: Console) -> None:
    """Write the help of a command; for `run NAME` also that of the system, for `do NAME ACTION` that of the action.

    Args:
        name: the command.
        command: what the module of the command declares.
        arguments: what else stands on the command line; options of a system change the defaults and pieces shown.
        console: where the help is written.
    """
    console.line(f"usage: pilotage {command.usage}", style="bold")
    console.line(command.summary)
    if command.details:
        console.line()
        console.line(command.details)
    if dataclasses.fields(command.options):
        console.heading(f"options of {name}")
        console.options(option_rows(command.options, command.options()))
    if name not in ("run", "do"):
        return
    parsed = split(arguments, command.options, name)
    if name == "run" and parsed.names:
        system = find_system(parsed.names[0])
        system = dataclasses.replace(system, config=configure(system, parsed.rest))
        show_options(system, console)
        show_piece_options(system.config, console)
    elif parsed.names:
        from pilotage.cli.actions import list_actions, show_action

        system = find_system(parsed.names[0])
        if len(parsed.names) > 1:
            show_action(system, parsed.names[1], console)
        else:
            list_actions(system, console)


def show_options(system: System, console: Console) -> None:
    """Write every option of a system, grouped by the configuration class that defines it."""
    for title, fields in option_groups(system.config, system.name):
        console.heading(title)
        console.options(option_rows(type(system.config), system.config, fields))


def show_piece_options(config: Any, console: Console) -> None:
    """Write the options of every piece that a configuration chooses: `--advantage mvar:alpha=0.1` sets `alpha`."""
    for written, slot, name, target, chosen in _chosen_pieces(config):
        docs, parameters = argument_docs(target), inspect.signature(target, eval_str=True).parameters
        rows = []
        for key in piece_options(target):
            default = chosen.get(key, parameters[key].default)
            if default is None or isinstance(default, str | int | float):  # the others cannot be written as text
                rows.append((key, explain(docs.get(key, ""), parameters[key].annotation, default)))
        if rows:
            console.heading(f"options of the {slot} piece {name}, written {written} {name}:option=value,…")
            console.options(rows)


def _chosen_pieces(config: Any) -> Iterator[tuple[str, str, str, Any, Any]]:
    """Yield option, slot, name, function or class, and given options of every piece that a configuration names.

    An option is called as its slot, unless the configuration's `slots` says which slot it chooses from.
    """
    for field, kind in field_types(config.__class__).items():
        slot = getattr(config, "slots", {}).get(field, field)
        choice, known, written = getattr(config, field), find_pieces(slot), option(field)
        if callable(choice):
            yield written, slot, getattr(choice, "__name__", type(choice).__name__), choice, {}
        elif choice != "none" and known and field in code_fields(config.__class__):
            for term in parse_pieces(choice):
                simple = is_piece_choice(kind) and ":" not in term.reference
                if simple or term.reference in known or references_in(term.reference):
                    yield written, slot, term.reference, load_piece(slot, term.reference), term.options


def option_groups(config: Any, name: str) -> list[tuple[str, list[str]]]:
    """Return the title and the fields of each group of options.

    A field belongs to the class that first declares it. Groups in which the system differs most from the defaults of
    its class come first, the derived class before its bases. A class whose docstring is its own (not the signature
    that `dataclass` writes) gives the title with its first line.
    """
    groups = []
    all_names = [f.name for f in dataclasses.fields(config)]
    for cls in type(config).__mro__:
        if not dataclasses.is_dataclass(cls):
            continue
        inherited = {
            f.name for base in cls.__mro__[1:] if dataclasses.is_dataclass(base) for f in dataclasses.fields(base)
        }
        declared = set(vars(cls).get("__annotations__", {})) - inherited
        fields = [n for n in all_names if n in declared]
        if fields:
            groups.append((_title(cls, name), fields))
    chosen = own_choices(config)
    return sorted(groups, key=lambda group: -len(chosen & set(group[1])))


def own_choices(config: Any) -> set[str]:
    """Return the fields in which a system's configuration differs from the defaults of its class."""
    return {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default}


def _title(cls: type, name: str) -> str:
    doc = (cls.__doc__ or "").strip()
    if not doc or doc.startswith(cls.__name__ + "("):
        return f"options of {name} ({cls.__name__})"
    return doc.splitlines()[0].rstrip(".")
