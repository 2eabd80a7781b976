"""Commands and their arguments: names, options of the command, options of a system."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotage.core.configuration import describe_type, field_named, field_types, is_switch, option, read_options
from pilotage.core.docstrings import field_docs
from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class NoOptions:
    """The options of a command that has none."""


@dataclass(frozen=True)
class Command:
    """A command: how it is written, what it does, its own options (a frozen dataclass), and the function behind it."""

    usage: str
    summary: str
    options: type
    main: Callable[..., int]
    details: str = ""


@dataclass(frozen=True)
class ParsedArguments:
    """A parsed command line."""

    names: tuple[str, ...]
    """Arguments before the first option of a system that belong to no option."""
    own: Any
    """An instance of the command's options."""
    rest: tuple[str, ...]
    """Options that are not the command's, with their values."""


def split(arguments: Sequence[str], options: type, label: str) -> ParsedArguments:
    """Parse the arguments of a command.

    What follows an option that is not the command's own belongs to that option, up to the next one.

    Args:
        arguments: what stands after the command's name.
        options: the dataclass of the command's own options.
        label: the command's name, for errors.

    Raises:
        UsageError: for a value that does not fit an option of the command.
    """
    names: list[str] = []
    own: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if not word.startswith("--"):
            (rest if rest else names).append(word)
            continue
        field = _own_field(options, word)
        if field is None:
            rest.append(word)
            while queue and not queue[0].startswith("--"):
                rest.append(queue.pop(0))
            continue
        own.append(word)
        if "=" not in word and not is_switch(field_types(options)[field]) and queue and not queue[0].startswith("--"):
            own.append(queue.pop(0))
    return ParsedArguments(tuple(names), options(**read_options(options, own, label)), tuple(rest))


def exactly(parsed: ParsedArguments, count: int, usage: str) -> tuple[str, ...]:
    """Return the `count` names that a command takes, which takes no further option. Raises UsageError otherwise."""
    if parsed.rest:
        raise UsageError(f"unknown option {parsed.rest[0]}; usage: pilotage {usage}")
    if len(parsed.names) < count:
        raise UsageError(f"{usage.split()[1 + len(parsed.names)]} is missing; usage: pilotage {usage}")
    if len(parsed.names) > count:
        raise UsageError(f"unexpected argument {parsed.names[count]!r}; usage: pilotage {usage}")
    return parsed.names


def option_rows(
    config_type: type, defaults: Any, fields: Sequence[str] | None = None, docs: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Return, for `--help`, every option of a dataclass with its meaning, type and default.

    Args:
        config_type: the dataclass whose fields are the options.
        defaults: an instance that holds the defaults.
        fields: the fields that are wanted; None: all.
        docs: meaning by field; None: the string literals below the fields.
    """
    meanings = field_docs(config_type) if docs is None else docs
    rows = []
    for name, kind in field_types(config_type).items():
        if fields is not None and name not in fields:
            continue
        default = getattr(defaults, name)
        written = option(name)
        if is_switch(kind) and default is not False:
            written = f"{written} / {written.replace('--', '--no-', 1)}"
        rows.append((written, explain(meanings.get(name, ""), kind, default)))
    return rows


def explain(meaning: str, kind: Any, default: Any) -> str:
    """Return one line of help: the meaning, the type in words and the default."""
    shape = "" if is_switch(kind) or kind in (Any, inspect.Parameter.empty) else f"[{describe_type(kind)}]"
    written = "" if "(default: " in meaning else f"(default: {show_value(default)})"
    return " ".join(filter(None, (meaning.rstrip("."), shape, written)))


def show_value(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(show_value(v) for v in value) or "''"
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


def _own_field(options: type, word: str) -> str | None:
    key = word[2:].partition("=")[0]
    field = field_named(options, key)
    if field is None and key.startswith("no-"):
        negated = field_named(options, key[3:])
        return negated if negated is not None and is_switch(field_types(options)[negated]) else None
    return field
