"""Whole runs of the text trainer, small enough for a property: a policy that has learnt nothing, a graded reward."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pilotage.core.configuration import config_to_dict
from pilotage.core.system import Result
from pilotage.runs import Run
from pilotage.systems.reasoning import baselines, bnpo, gtpo, riskpo, vade
from pilotage.training.language.config import TextConfig
from pilotage.training.language.trainer import train

SYSTEMS = {s.name: s for s in [*baselines.SYSTEMS, gtpo.SYSTEM, bnpo.SYSTEM, riskpo.SYSTEM, vade.SYSTEM]}
DIGITS = Path(__file__).resolve().parents[1] / "training" / "language" / "digits.py"


def small(name: str, **changes: Any) -> TextConfig:
    """The configuration of a system, on few short answers."""
    config = SYSTEMS[name].config
    settings: dict[str, Any] = {
        "difficulties": (1, 2),
        "num_train_prompts": 40,
        "pretrain_to_accuracy": 0.0,
        "prompts_per_step": 6,
        "group_size": 4,
        "steps": 3,
        "max_tokens": 8,
        "evaluate_every": 0,
        "evaluation_prompts": 2,
        "evaluation_samples": 1,
        "checkpoint_every": 100,
        "save_rollouts": -1,
        "minibatches": min(config.minibatches, 2),
        "critic_warmup_steps": 1,
        "reward": f"{DIGITS}:digits",
    }
    if "mvar" in str(config.advantage):
        settings["advantage"] = "mvar:size=2"
    return replace(config, **{**settings, **changes})


@dataclass
class Written:
    """What a run left behind."""

    result: Result
    metrics: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    events: list[dict[str, Any]]

    def at(self, step: int) -> list[Mapping[str, Any]]:
        """The answers that step was trained on."""
        return [row for row in self.rollouts if row["step"] == step]


def run_in(folder: Path, config: TextConfig, seed: int = 0) -> Written:
    with Run.create(folder, system="test", config=config_to_dict(config), seed=seed) as run:
        result = train(config, run)
    return Written(result, *(_lines(folder / f"{name}.jsonl") for name in ("metrics", "rollouts", "events")))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
