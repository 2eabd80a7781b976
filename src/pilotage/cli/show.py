"""`pilotage show NAME`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pilotage.cli.actions import ELSEWHERE
from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console
from pilotage.cli.listing import count_verdicts
from pilotage.core.claims import Claim
from pilotage.core.registry import find_claims, find_reproduction, find_system
from pilotage.core.system import Card
from pilotage.core.text import number

AT_THE_EDGE = "The best setting lies at the edge of the grid; values beyond it may be better:"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class ShowOptions:
    """Options of `pilotage show`: none."""


def show(arguments: Sequence[str], console: Console) -> int:
    """Print the card of a system and the verdicts of its claims."""
    (name,) = exactly(split(arguments, ShowOptions, "show"), 1, COMMAND.usage)
    system = find_system(name)
    card = system.card
    console.line(card.name, style="bold")
    console.line(card.summary)
    console.line()
    console.pairs(card_rows(card))
    if card.notes:
        console.heading("notes")
        console.markdown(card.notes.strip())
    claims = find_claims(name)
    if claims:
        console.heading("what the paper promises, and what was measured")
        reproduction = find_reproduction(name)
        measured = measured_claims(reproduction)
        console.table(("claim", "statement", "verdict", "difference"), [claim_row(c, measured) for c in claims])
        console.line(f"* primary. {count_verdicts(reproduction, len(claims))}.")
        for made in reproduction["made"] if reproduction else ():
            console.line(describe_source(made))
        edges = edges_of(reproduction)
        if edges:
            console.line(f"{AT_THE_EDGE} {'; '.join(edges)}.")
    verbs = [verb for verb in system.actions if verb not in ELSEWHERE]
    if verbs:
        console.heading("commands for a finished run")
        console.line(", ".join(verbs))
    console.line()
    console.line(f"pilotage run {name} --help lists every hyper-parameter.")
    return 0


def card_rows(card: Card) -> list[tuple[str, str]]:
    """Return the card, line by line."""
    paper = [("paper", f"{card.paper.title} (arXiv {card.paper.arxiv})")] if card.paper else []
    return [
        *paper,
        ("family", card.family + (", a baseline" if card.baseline else "")),
        ("for", card.audience),
        ("use when", card.use_when),
        ("not when", card.avoid_when),
        ("reproducible", card.repeatability.replace("exact", "bit for bit")),
    ]


def measured_claims(reproduction: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a reproduction by the claim's name."""
    return {claim["name"]: claim for claim in reproduction["claims"]} if reproduction else {}


def claim_row(claim: Claim, measured: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str, str]:
    """Return name, statement, verdict and measured difference of a claim."""
    entry = measured.get(claim.name)
    name = claim.name + (" *" if claim.primary else "")
    if entry is None:
        return name, claim.statement, "not measured", ""
    return name, claim.statement, entry["verdict"], describe_difference(entry.get("comparison"))


def describe_source(made: Mapping[str, Any]) -> str:
    """Return "57 jobs made on 2026-11-25 at commit 6a18e7f, version 0.1.0, on AMD EPYC"."""
    days = " to ".join(dict.fromkeys((made["first"][:10], made["last"][:10])))
    where = f"at commit {made['commit'][:7]}" if made["commit"] else "outside of git"
    return f"{made['jobs']} jobs made on {days} {where}, version {made['version']}, on {made['processor']}"


def describe_difference(comparison: Mapping[str, Any] | None) -> str:
    """Return "+0.031 [0.012, 0.05]" of a comparison in a reproduction; empty when there is none."""
    if not comparison or comparison.get("difference") is None:
        return ""
    interval = comparison.get("interval")
    between = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    return f"{comparison['difference']:+.3g}{between}"


def edges_of(reproduction: Mapping[str, Any] | None) -> list[str]:
    """Return settings that tuning chose at the end of its grid, as "carp: --lr 1e-3 (of 3e-4, 1e-3)"."""
    found: dict[str, None] = {}
    for claim in measured_claims(reproduction).values():
        tuning = claim.get("tuning") or {}
        settings = tuning.get("settings")
        for arm, tried in settings.items() if isinstance(settings, Mapping) else ():
            # What differs by rounding alone made no difference.
            if len({str([v if v is None else f"{v:.9g}" for v in setting["values"]]) for setting in tried}) > 1:
                options = [_numbers(setting["options"]) for setting in tried]
                chosen = _numbers(tuning["chosen"][arm])
                found |= dict.fromkeys(f"{arm}: {edge}" for edge in _edges(chosen, options))
    return list(found)


def _edges(chosen: Mapping[str, str], tried: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for name, value in chosen.items():
        texts = sorted({options[name] for options in tried if name in options}, key=float)
        if len(texts) > 1 and value in (texts[0], texts[-1]):
            yield f"{name} {value} (of {', '.join(texts)})"


def _numbers(options: str) -> dict[str, str]:
    """Return the options of a command that have a number as their value."""
    words = shlex.split(options)
    return {name: value for name, value in pairwise(words) if name.startswith("--") and _NUMBER.fullmatch(value)}


COMMAND = Command("show NAME", "Show the card of a system and the verdicts of its claims.", ShowOptions, show)
