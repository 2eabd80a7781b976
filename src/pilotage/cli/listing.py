"""`pilotage list`."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console, fit
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import all_systems, find_reproduction
from pilotage.core.system import System

VERDICTS = ("holds", "does not hold", "undecided")


WIDTH = 80
"""Columns of the list, in a terminal or not."""


@dataclass(frozen=True)
class ListOptions:
    """Options of `pilotage list`."""

    family: str | None = None
    """Only this family, such as reasoning; the same as naming it without the option."""
    baselines: bool = False
    """Show the baselines too, which are counted otherwise."""
    json: bool = False
    """Print one JSON array for programs."""


def list_systems(arguments: Sequence[str], console: Console) -> int:
    """Print the systems, by family, one line each, with their verdicts."""
    parsed = split(arguments, ListOptions, "list")
    own: ListOptions = parsed.own
    named = parsed.names or ((own.family,) if own.family else ())
    exactly(parsed, len(parsed.names[:1]), COMMAND.usage)
    systems = all_systems()
    families = sorted({system.card.family for system in systems})
    if named:
        if named[0] not in families:
            raise UsageError(
                f"there is no family {named[0]!r}{nearest(named[0], families)}; "
                f"there are {', '.join(families) or 'none'}"
            )
        systems = tuple(s for s in systems if s.card.family == named[0])
    if own.json:
        console.line(json.dumps([_entry(system) for system in systems], indent=1))
        return 0
    listed = [system for system in systems if own.baselines or not system.card.baseline]
    name_width = max((len(system.name) for system in listed), default=0)
    for family, members in groupby(systems, key=lambda s: s.card.family):
        console.heading(family)
        hidden = []
        for system in members:
            if system not in listed:
                hidden.append(system.name)
                continue
            verdicts = "baseline" if system.card.baseline else _short(find_reproduction(system.name))
            room = WIDTH - name_width - len(verdicts) - 4
            console.line(f"{system.name:<{name_width}}  {fit(system.card.summary, room):<{room}}  {verdicts}")
        if hidden:
            for line in textwrap.wrap(f"baselines (--baselines describes them): {', '.join(hidden)}", WIDTH):
                console.line(line, style="dim")
    if not systems:
        console.line("no system is installed")
        return 0
    console.line()
    console.line("claims: hold · do not hold · undecided (pilotage show NAME has them)", style="dim")
    return 0


def _short(reproduction: Mapping[str, Any] | None) -> str:
    """Return how many claims hold, do not hold and are undecided, as "3 · 4 · 1"; "not measured" without any."""
    counts = _verdict_counts(reproduction["claims"] if reproduction else [])
    return " · ".join(str(counts[verdict]) for verdict in VERDICTS) if counts else "not measured"


def _verdict_counts(entries: Sequence[Mapping[str, Any]]) -> Counter[str]:
    return Counter(entry["verdict"] for entry in entries if not entry["verdict"].startswith("not measured"))


def _entry(system: System) -> dict[str, Any]:
    """Return what `--json` says of a system."""
    card, reproduction = system.card, find_reproduction(system.name)
    return {
        "name": card.name,
        "family": card.family,
        "summary": card.summary,
        "arxiv": card.paper.arxiv if card.paper else None,
        "baseline": card.baseline,
        "verdicts": dict(_verdict_counts(reproduction["claims"] if reproduction else [])),
    }


def count_verdicts(reproduction: Mapping[str, Any] | None, of: int = 0) -> str:
    """Return how many claims got which verdict: "primary: 2 hold; others: 1 undecided; 3 not measured".

    Args:
        reproduction: what was measured; None when nothing was.
        of: number of claims that the system makes, of which some may stand in no reproduction yet.
    """
    entries = reproduction["claims"] if reproduction else []
    measured = [entry for entry in entries if not entry["verdict"].startswith("not measured")]
    if not measured:
        return "not measured"
    primary = _counts([entry["verdict"] for entry in measured if entry.get("primary")])
    others = _counts([entry["verdict"] for entry in measured if not entry.get("primary")])
    missing = max(of, len(entries)) - len(measured)
    parts = [f"primary: {primary}" if primary else "", f"others: {others}" if primary and others else others]
    return "; ".join(filter(None, [*parts, f"{missing} not measured" if missing else ""]))


def _counts(verdicts: Sequence[str]) -> str:
    """Return "2 hold, 1 undecided"."""
    counts = Counter(verdicts)
    plural = {"holds": "hold", "does not hold": "do not hold"}
    return ", ".join(
        f"{counts[verdict]} {plural.get(verdict, verdict) if counts[verdict] > 1 else verdict}"
        for verdict in VERDICTS
        if counts[verdict]
    )


COMMAND = Command("list [FAMILY]", "List the systems, one line each.", ListOptions, list_systems)
