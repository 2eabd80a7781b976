"""`pilotage clean`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pilotage.cli.arguments import Command, exactly, split
from pilotage.cli.console import Console
from pilotage.core.errors import UsageError
from pilotage.core.paths import home
from pilotage.core.text import duration

_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class CleanOptions:
    """Options of `pilotage clean`."""

    older_than: str | None = None
    """Only what was not used for this long: 12h, 30d, 4w (default: any age)."""
    larger_than: str | None = None
    """Only what takes at least this much room: 500k, 20M, 1.5G bytes (default: any size)."""
    keep: int = 0
    """Number of jobs, and of artifacts, used last that stay in any case."""
    yes: bool = False
    """Remove what is listed; without it nothing is removed."""


def clean(arguments: Sequence[str], console: Console) -> int:
    """List stored jobs and artifacts that can be made again, and remove them with `--yes`."""
    parsed = split(arguments, CleanOptions, "clean")
    exactly(parsed, 0, COMMAND.usage)
    own: CleanOptions = parsed.own
    if own.keep < 0:
        raise UsageError(f"--keep: given {own.keep}, expected a number of 0 or more")
    age = _amount("--older-than", own.older_than, _SECONDS, "12h, 30d or 4w")
    size = _amount("--larger-than", own.larger_than, _BYTES, "500k, 20M or 1.5G")
    if own.yes and own.older_than is None and own.larger_than is None and not own.keep:
        raise UsageError("--yes needs --older-than, --larger-than or --keep; --older-than 0d means everything")
    from pilotage.runs.storage import remove_stored, select, stored_folders

    stored = stored_folders(home())
    chosen = select(stored, older_than=age, larger_than=int(size), keep=own.keep)
    if not chosen:
        console.line(f"nothing to remove in {home()}: {len(stored)} folders are stored there")
        return 0
    now = time.time()
    console.table(
        ("kind", "size", "unused for", "folder"),
        [(one.kind, room(one.bytes), duration(now - one.last_used), str(one.path)) for one in chosen],
        numbers=(1, 2),
    )
    total = room(sum(one.bytes for one in chosen))
    if not own.yes:
        console.line(f"{len(chosen)} folders, {total}; the same command with --yes removes them")
        console.note("a comparison whose jobs are removed keeps its report; its jobs and artifacts can be made again")
        return 0
    kept = [one for one in chosen if not remove_stored(one)]
    for one in kept:
        console.line(f"kept, in use: {one.path}")
    console.line(f"removed {len(chosen) - len(kept)} folders, {room(sum(o.bytes for o in chosen if o not in kept))}")
    return 0


def room(count: float) -> str:
    """Return a number of bytes such as "12 kB", "3.4 MB" or "1.3 GB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _amount(option: str, text: str | None, units: dict[str, float] | dict[str, int], examples: str) -> float:
    if text is None:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]?)(?:i?[bB])?", text)
    if not match or match[2] not in units:
        raise UsageError(f"{option}: given {text!r}, expected an amount such as {examples}")
    return float(match[1]) * units[match[2]]


COMMAND = Command(
    "clean [options]",
    "List stored jobs of comparisons and artifacts with their sizes, and remove them with --yes.",
    CleanOptions,
    clean,
    "They lie in $PILOTAGE_HOME and are made again when they are needed. What a process uses is left alone.",
)
