"""`pilotage list`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console as Screen
from pilotage.cli.console import fit
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import all_systems, find_reproduction


@dataclass(frozen=True)
class ListOptions:
    family: str | None = None
    """Only this family, such as reasoning."""


def list_systems(words: Sequence[str], screen: Screen) -> int:
    taken = split(words, ListOptions, "list")
    exactly(taken, 0, COMMAND.usage)
    systems = all_systems()
    families = sorted({system.card.family for system in systems})
    if taken.own.family is not None:
        if taken.own.family not in families:
            raise UsageError(
                f"there is no family {taken.own.family!r}{nearest(taken.own.family, families)}; "
                f"there are {', '.join(families) or 'none'}"
            )
        systems = tuple(s for s in systems if s.card.family == taken.own.family)
    for family, members in groupby(systems, key=lambda s: s.card.family):
        screen.heading(family)
        rows = []
        for system in members:
            card = system.card
            verdicts = "baseline" if card.baseline else count_verdicts(find_reproduction(card.name))
            rows.append(
                (
                    card.name,
                    fit(card.summary, 0 if screen.rich else 72),
                    card.paper.arxiv if card.paper else "",
                    verdicts,
                )
            )
        screen.table(("name", "what it does", "arXiv", "claims"), rows)
    if not systems:
        screen.line("no system is installed")
    return 0


def count_verdicts(reproduction: Mapping[str, Any] | None) -> str:
    """ "2 hold, 1 undecided": how many claims of a reproduction got which verdict."""
    if reproduction is None or not reproduction["claims"]:
        return "not measured"
    counts = Counter(claim["verdict"] for claim in reproduction["claims"])
    words = {"holds": "hold", "does not hold": "do not hold"}
    order = ["holds", "does not hold", "undecided", "not measured"]
    known = [verdict for verdict in order if counts[verdict]]
    return ", ".join(
        f"{counts[verdict]} {words.get(verdict, verdict) if counts[verdict] > 1 else verdict}" for verdict in known
    )


COMMAND = Command("list [--family FAMILY]", "List the systems.", ListOptions, list_systems)
