"""What a text run will cost, before it starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pilotage.core.configuration import config_to_dict
from pilotage.core.text import duration
from pilotage.runs import Run
from pilotage.training.language.config import TextConfig
from pilotage.training.language.models import EMBEDDED, base_settings
from pilotage.training.language.pretraining import estimate_seconds, is_made
from pilotage.training.language.trainer import TextTrainer

TIMED_STEPS = 2


def estimate_cost(config: TextConfig) -> Mapping[str, float | str]:
    """Return steps, answers, tokens (at most, without refills) and processor seconds, from two timed steps.

    They are those of an untrained policy, whose answers rarely end: an upper estimate. A base that is not made yet is
    counted with the seconds that it takes once for all runs.
    """
    timed = replace(config, pretrain_to_accuracy=0.0, refill_rounds=0)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", system="estimate-cost", config=config_to_dict(timed), seed=0)
        with run:
            trainer = TextTrainer(timed, run)
            run.restore(trainer.state())
            trainer.step(0)
            began = time.process_time()
            for step in range(TIMED_STEPS):
                trainer.step(step + 1)
            per_step = (time.process_time() - began) / TIMED_STEPS
            began = time.process_time()
            trainer.evaluate(0)
            evaluation = time.process_time() - began
            first = _base_seconds(config, trainer)
            longest = max(trainer.max_tokens(item) for item in trainer.items)
            trainer.close()
    evaluations = 2 if not config.evaluate_every else 1 + -(-config.steps // config.evaluate_every)
    answers = config.prompts_per_step * config.group_size * config.steps
    expected: dict[str, float | str] = {
        "steps": config.steps,
        "answers": answers,
        "tokens": answers * longest,
        "seconds": first + config.steps * per_step + evaluations * evaluation,
    }
    if first:
        expected["base"] = f"is trained first, once for all runs: about {duration(first)} of the expected time"
    return expected


def _base_seconds(config: TextConfig, trainer: TextTrainer) -> float:
    """Return the seconds of a base that has to be trained first; 0 when there is none or it is made."""
    if not config.model.startswith(EMBEDDED) or config.pretrain_to_accuracy <= 0:
        return 0.0
    settings, name = base_settings(config, trainer.task)
    return 0.0 if is_made(name, settings) else estimate_seconds(settings, trainer.task)
