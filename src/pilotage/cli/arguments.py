"""How the words of a command line are told apart: names, options of the command, options of a system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pilotage.core.configuration import describe_type, field_named, field_types, is_switch, option, read_options
from pilotage.core.errors import UsageError
from pilotage.core.system import field_docs


@dataclass(frozen=True)
class Verb:
    """A command: how it is written, what it does, its own options (a frozen dataclass), and the function behind it."""

    usage: str
    summary: str
    options: type
    main: Callable[..., int]
    details: str = ""


@dataclass(frozen=True)
class Words:
    """A command line taken apart."""

    names: tuple[str, ...]
    """Words before the first foreign option that belong to no option."""
    own: Any
    """An instance of the verb's options."""
    rest: tuple[str, ...]
    """Options that are not the verb's, with their values."""


def split(words: Sequence[str], options: type, label: str) -> Words:
    """Take `words` apart. What follows an option that is not the verb's own belongs to it, up to the next option."""
    names: list[str] = []
    own: list[str] = []
    rest: list[str] = []
    queue = list(words)
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
    return Words(tuple(names), options(**read_options(options, own, label)), tuple(rest))


def exactly(words: Words, count: int, usage: str) -> tuple[str, ...]:
    """The names of a verb that takes `count` of them and no further option. Raises UsageError otherwise."""
    if words.rest:
        raise UsageError(f"unknown option {words.rest[0]}; usage: pilotage {usage}")
    if len(words.names) != count:
        given = " ".join(words.names) or "nothing"
        raise UsageError(
            f"given {given}, expected {count or 'no'} name{'s' if count > 1 else ''}; usage: pilotage {usage}"
        )
    return words.names


def option_rows(config_type: type, defaults: Any, fields: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """For `--help`: every option with what it takes, and its meaning with the default."""
    docs = field_docs(config_type)
    rows = []
    for name, kind in field_types(config_type).items():
        if fields is not None and name not in fields:
            continue
        default = getattr(defaults, name)
        takes = option(name)
        if is_switch(kind) and default is not False:
            takes = f"{takes} / {takes.replace('--', '--no-', 1)}"
        meaning = docs.get(name, "").rstrip(".")
        shape = "" if is_switch(kind) else f" [{describe_type(kind)}]"
        rows.append((takes, f"{meaning}{shape} (default: {show_value(default)})".strip()))
    return rows


def show_value(value: Any) -> str:
    """A value as it would be written on the command line."""
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
