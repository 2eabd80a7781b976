"""`pilotage report FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pilotage.cli.arguments import Command, NoOptions, exactly, split
from pilotage.cli.console import Console
from pilotage.core.errors import UsageError


def report(arguments: Sequence[str], console: Console) -> int:
    """Write the HTML report of a run or a comparison."""
    (name,) = exactly(split(arguments, NoOptions, "report"), 1, COMMAND.usage)
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"given {name}, expected the folder of a run or a comparison; there is no such folder")
    from pilotage.report import write_report

    console.line(str(write_report(folder)))
    return 0


COMMAND = Command("report FOLDER", "Write the report of a run or a comparison and print its path.", NoOptions, report)
