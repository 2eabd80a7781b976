"""`pilotage pieces`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pilotage.cli.arguments import Command, split
from pilotage.cli.console import Console, fit
from pilotage.core.configuration import code_fields, field_types, option
from pilotage.core.docstrings import field_docs
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import all_pieces, all_systems

WIDTH = 100
"""Columns of the list, in a terminal or not."""


@dataclass(frozen=True)
class PiecesOptions:
    """Options of `pilotage pieces`."""

    json: bool = False
    """Print one JSON object for programs: slot to name to summary and reference."""


def list_pieces(arguments: Sequence[str], console: Console) -> int:
    """Print the slots, or the pieces of one slot or of all, with one line each."""
    parsed = split(arguments, PiecesOptions, "pieces")
    if parsed.rest or len(parsed.names) > 1:
        unexpected = [*parsed.rest, *parsed.names[1:]][0]
        raise UsageError(f"unexpected argument {unexpected!r}; usage: pilotage {COMMAND.usage}")
    slots = {slot: all_pieces()[slot] for slot in sorted(all_pieces())}
    if parsed.names:
        slot = parsed.names[0].removeprefix("--").replace("-", "_")
        if slot not in slots:
            raise UsageError(f"there is no slot {slot!r}{nearest(slot, slots)}; there are {', '.join(slots)}")
        slots = {slot: slots[slot]}
    if parsed.own.json:
        found = {
            slot: {name: {"summary": summary_of(reference), "reference": reference} for name, reference in of.items()}
            for slot, of in slots.items()
        }
        console.line(json.dumps(found, indent=1))
        return 0
    meanings = dict(reversed(list(_meanings())))  # the family that comes first says what a slot is
    for slot, of in slots.items():
        written, meaning = meanings.get(slot, ("", ""))
        console.heading(f"{slot}{f' ({written})' if written else ''}{f': {meaning}' if meaning else ''}")
        width = max(map(len, of))
        for name, reference in sorted(of.items()):
            console.line(f"  {name:<{width}}  {fit(summary_of(reference), WIDTH - width - 4)}".rstrip())
    console.line()
    console.note("in Python: the same name, or the function; `pilotage run NAME --SLOT PIECE --help` lists its options")
    return 0


def summary_of(reference: str) -> str:
    """Return the first sentence of a piece's docstring, read from its source without importing it; empty if none."""
    module, _, name = reference.partition(":")
    spec = find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return ""
    return " ".join(_docstrings(Path(spec.origin)).get(name, "").split("\n\n")[0].split())


@cache
def _docstrings(file: Path) -> Mapping[str, str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, kinds)}


def _meanings() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each slot that an option chooses from, with the option and the first sentence of its help."""
    kinds: dict[Any, None] = dict.fromkeys(type(system.config) for system in all_systems())
    for kind in kinds:
        for field in field_types(kind):
            text = field_docs(kind).get(field, "")
            if field in code_fields(kind):
                yield getattr(kind, "slots", {}).get(field, field), (option(field), fit(text.partition(":")[0], 60))


COMMAND = Command(
    "pieces [SLOT]",
    "List the slots of methods and the pieces that fill them.",
    PiecesOptions,
    list_pieces,
    "A piece has one name here, on the command line (--advantage mvar) and in Python (advantage='mvar').",
)
