"""Trainings small enough for a test, run in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotage.core.registry import config_to_dict, configure, find_system
from pilotage.core.system import Result
from pilotage.experiments import Wiring
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
    wiring: Wiring = field(default_factory=Wiring)

    def train(self, callback: Any = None) -> Result:
        """Train the command with seed 0 in `directory/training`."""
        name, *options = self.command.split()
        config = configure(find_system(name), options)
        folder = self.directory / "training"
        with Run.create(folder, system=name, config=config_to_dict(config), seed=0) as run:
            return train(config, run, callback)
