"""`pilotage export RUN FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotage.cli.arguments import Verb, exactly, split
from pilotage.cli.console import Screen
from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class ExportOptions:
    pass


def export(words: Sequence[str], screen: Screen) -> int:
    run, target = exactly(split(words, ExportOptions, "export"), 2, VERB.usage)
    folder = Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; name a new one, so that nothing is overwritten")
    from pilotage.experiments.launch import ACTION_POLICY, export_policy

    export_policy(Path(run), folder)
    screen.line(str(folder))
    acts = (folder / ACTION_POLICY).is_file()
    opener = "pilotage.load" if acts else "transformers.AutoModelForCausalLM.from_pretrained"
    screen.note(f'opens with {opener}("{folder}")')
    return 0


VERB = Verb("export RUN FOLDER", "Write the policy of a run as a Hugging Face folder.", ExportOptions, export)
