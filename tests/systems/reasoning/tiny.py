"""Trainings small enough for a test, run in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.registry import find_system
from pilotage.core.system import Result
from pilotage.experiments import ModuleNames
from pilotage.runs import Run
from pilotage.training.language.trainer import train

TINY = (
    "--difficulties 1,3,4 --pretrain-to-accuracy 0 --num-train-prompts 12 --prompts-per-step 6 --group-size 4 "
    "--max-tokens 6 --evaluate-every 1 --save-rollouts -1 "
    f"--evaluation-prompts 4 --evaluation-samples 1 --reward {Path(__file__).parent / 'graded.py'}:mostly_right"
)


@dataclass
class Context:
    """What a measure gets, without cells."""

    command: str
    directory: Path
    quick: bool = True
    modules: ModuleNames = field(default_factory=ModuleNames)

    def configuration(self) -> Any:
        """Return the configuration that the command names."""
        name, *options = self.command.split()
        return configure(find_system(name), options)

    def train(self, callback: Any = None) -> Result:
        """Train the command with seed 0 in `directory/training`."""
        name, config = self.command.split()[0], self.configuration()
        folder = self.directory / "training"
        with Run.create(folder, system=name, config=config_to_dict(config), seed=0) as run:
            return train(config, run, callback)
