"""`pilotage list`."""

from __future__ import annotations

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


@dataclass(frozen=True)
class ListOptions:
    """Options of `pilotage list`."""

    family: str | None = None
    """Only this family, such as reasoning."""


def list_systems(arguments: Sequence[str], console: Console) -> int:
    """Print the systems, by family, with their verdicts."""
    parsed = split(arguments, ListOptions, "list")
    exactly(parsed, 0, COMMAND.usage)
    systems = all_systems()
    families = sorted({system.card.family for system in systems})
    if parsed.own.family is not None:
        if parsed.own.family not in families:
            raise UsageError(
                f"there is no family {parsed.own.family!r}{nearest(parsed.own.family, families)}; "
                f"there are {', '.join(families) or 'none'}"
            )
        systems = tuple(s for s in systems if s.card.family == parsed.own.family)
    for family, members in groupby(systems, key=lambda s: s.card.family):
        console.heading(family)
        rows = []
        for system in members:
            card = system.card
            verdicts = "baseline" if card.baseline else count_verdicts(find_reproduction(card.name))
            rows.append(
                (
                    card.name,
                    fit(card.summary, 0 if console.rich else 72),
                    card.paper.arxiv if card.paper else "",
                    verdicts,
                )
            )
        console.table(("name", "what it does", "arXiv", "claims"), rows)
    if not systems:
        console.line("no system is installed")
    return 0


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
        for verdict in ("holds", "does not hold", "undecided")
        if counts[verdict]
    )


COMMAND = Command("list [--family FAMILY]", "List the systems.", ListOptions, list_systems)
