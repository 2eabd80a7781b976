"""`pilotage report FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotage.cli.arguments import Verb, exactly, split
from pilotage.cli.console import Screen
from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class ReportOptions:
    pass


def report(words: Sequence[str], screen: Screen) -> int:
    (name,) = exactly(split(words, ReportOptions, "report"), 1, VERB.usage)
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"given {name}, expected the folder of a run or a comparison; there is none by that name")
    from pilotage.report import write_report

    screen.line(str(write_report(folder)))
    return 0


VERB = Verb("report FOLDER", "Write the report of a run or a comparison and print its path.", ReportOptions, report)
