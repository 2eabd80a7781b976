"""`pilotage reproduce NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import find_claims


@dataclass(frozen=True)
class ReproduceOptions:
    """Options of `pilotage reproduce`."""

    quick: bool = False
    """Two seeds and a few steps, to see that everything runs; the verdicts mean nothing."""
    long: bool = False
    """Also the claims that take hours."""
    fresh: bool = False
    """Run jobs that another commit made again instead of using them."""
    audit: int | None = None
    """Run so many stored jobs again, chosen at random, and say whether their numbers come out again."""
    only: str | None = None
    """Only the claim of this name."""
    budget: float | None = None
    """CPU-minutes that may be spent; a forecast above it is refused. none: 25."""
    workers: int | None = None
    """Processes of one thread each; none: one per core."""
    out: Path = Path("results")
    """Folder for NAME.json (verdicts) and NAME.jsonl (finished jobs)."""


def reproduce(arguments: Sequence[str], console: Console) -> int:
    """Measure the claims of a system, or audit what was measured."""
    parsed = split(arguments, ReproduceOptions, "reproduce")
    (name,) = exactly(parsed, 1, COMMAND.usage)
    own = parsed.own
    claims = [claim.name for claim in find_claims(name)]
    if not claims:
        raise UsageError(
            f"nothing is claimed for {name}, so there is nothing to reproduce (`pilotage run {name}` runs it)"
        )
    if own.only is not None and own.only not in claims:
        raise UsageError(f"{name} has no claim {own.only!r}{nearest(own.only, claims)}; there are {', '.join(claims)}")
    if own.audit is not None and own.audit < 1:
        raise UsageError(f"--audit: given {own.audit}, expected the number of jobs to run again, at least 1")
    from pilotage import experiments

    if own.audit is not None:
        return 0 if experiments.audit(name, own.audit, out=own.out, workers=own.workers, say=console.line) else 1
    path = experiments.reproduce(
        name,
        quick=own.quick,
        long=own.long,
        fresh=own.fresh,
        only=own.only,
        budget=own.budget,
        workers=own.workers,
        out=own.out,
        say=console.line,
    )
    console.line(str(path))
    return 0


COMMAND = Command(
    "reproduce NAME [options]",
    "Measure what the paper of a system promises, and write results/NAME.json.",
    ReproduceOptions,
    reproduce,
    "Says first what is there, from which commit, and what the rest will take; only what is missing runs.",
)
