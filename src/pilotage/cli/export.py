"""`pilotage export RUN FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pilotage.cli.arguments import Command, NoOptions, exactly, split
from pilotage.cli.console import Console
from pilotage.core.errors import UsageError


def export(arguments: Sequence[str], console: Console) -> int:
    """Write the policy of a run as a Hugging Face folder."""
    run, target = exactly(split(arguments, NoOptions, "export"), 2, COMMAND.usage)
    folder = Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; name a new one")
    from pilotage.experiments.launch import export_policy

    opener = export_policy(Path(run), folder)
    console.line(str(folder))
    console.note(f'opens with {opener}("{folder}")')
    return 0


COMMAND = Command("export RUN FOLDER", "Write the policy of a run as a Hugging Face folder.", NoOptions, export)
