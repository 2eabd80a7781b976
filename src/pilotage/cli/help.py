"""`--help` of a command, and of a system: every hyper-parameter with meaning, the paper's symbol and default."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pilotage.cli.arguments import Verb, option_rows
from pilotage.cli.console import Screen
from pilotage.core.system import System


def show_help(name: str, verb: Verb, names: Sequence[str], screen: Screen) -> None:
    """The help of the command `name`; for `run SYSTEM`, that of the system."""
    screen.line(f"usage: pilotage {verb.usage}", style="bold")
    screen.line(verb.summary)
    if verb.details:
        screen.line()
        screen.line(verb.details)
    if dataclasses.fields(verb.options):
        screen.heading(f"options of {name}")
        screen.options(option_rows(verb.options, verb.options()))
    if name == "run" and names:
        from pilotage.core.registry import find_system

        show_options(find_system(names[0]), screen)
    elif name == "do" and names:
        from pilotage.cli.actions import list_verbs, show_action
        from pilotage.core.registry import find_system

        system = find_system(names[0])
        if len(names) > 1:
            show_action(system, names[1], screen)
        else:
            list_verbs(system, screen)
    elif name == "run":
        screen.line()
        screen.line("`pilotage run NAME --help` lists the options of a system, `pilotage list` the names.")


def show_options(system: System, screen: Screen) -> None:
    """Every option of a system, grouped by the configuration class that defines it."""
    for title, fields in option_groups(system.config, system.name):
        screen.heading(title)
        screen.options(option_rows(type(system.config), system.config, fields))


def option_groups(config: Any, name: str) -> list[tuple[str, list[str]]]:
    """Title and fields of each group: fields belong to the class that first declares them, the derived class first;
    but groups in which this system chooses most by itself come before the others.

    A class whose docstring is its own (not the signature that `dataclass` writes) gives the title with its first
    line."""
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
    """Fields in which a system's configuration differs from the defaults of its class."""
    return {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default}


def _title(cls: type, name: str) -> str:
    doc = (cls.__doc__ or "").strip()
    if not doc or doc.startswith(cls.__name__ + "("):
        return f"options of {name} ({cls.__name__})"
    return doc.splitlines()[0].rstrip(".")
