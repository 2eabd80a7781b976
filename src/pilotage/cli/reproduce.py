"""`pilotage reproduce NAME`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console as Screen
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.registry import find_claims


@dataclass(frozen=True)
class ReproduceOptions:
    quick: bool = False
    """About a minute: small runs that show the machinery at work; its verdicts mean nothing."""
    long: bool = False
    """Also the claims that take hours."""
    only: str | None = None
    """Only the claim of this name."""
    budget: float | None = None
    """CPU-minutes that may be spent; a forecast above it is refused. none: 45."""
    workers: int | None = None
    """Processes of one thread each; none: one per core."""
    out: Path | None = None
    """Folder for NAME.json, plots and cells; none: reproductions/."""


def reproduce(words: Sequence[str], screen: Screen) -> int:
    taken = split(words, ReproduceOptions, "reproduce")
    (name,) = exactly(taken, 1, COMMAND.usage)
    own = taken.own
    claims = [claim.name for claim in find_claims(name)]
    if not claims:
        raise UsageError(
            f"nothing is claimed for {name}, so there is nothing to reproduce (`pilotage run {name}` runs it)"
        )
    if own.only is not None and own.only not in claims:
        raise UsageError(f"{name} has no claim {own.only!r}{nearest(own.only, claims)}; there are {', '.join(claims)}")
    from pilotage import experiments as experiment

    path = experiment.reproduce(
        name,
        quick=own.quick,
        long=own.long,
        only=own.only,
        budget=own.budget,
        workers=own.workers,
        command=shlex.join(["pilotage", "reproduce", *words]),
        say=screen.line,
        **({} if own.out is None else {"out": own.out}),
    )
    screen.line(str(path))
    return 0


COMMAND = Command(
    "reproduce NAME [options]",
    "Measure what the paper of a system promises, and write reproductions/NAME.json with plots.",
    ReproduceOptions,
    reproduce,
    "Prints a forecast before it starts. Finished cells are kept: the same command goes on where it stopped.",
)
