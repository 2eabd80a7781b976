"""What a text run will cost, before it starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pilotage.core.configuration import config_to_dict
from pilotage.runs import Run
from pilotage.training.language.config import TextConfig
from pilotage.training.language.trainer import TextTrainer

TIMED_STEPS = 2


def estimate_cost(config: TextConfig) -> Mapping[str, float]:
    """Return steps, answers, tokens (at most, without refills) and processor seconds, from two timed steps.

    They are those of an untrained policy, whose answers rarely end: an upper estimate. A warm-up that is not made yet
    comes on top.
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
            longest = max(trainer.max_tokens(item) for item in trainer.items)
            trainer.close()
    evaluations = 2 if not config.evaluate_every else 1 + -(-config.steps // config.evaluate_every)
    answers = config.prompts_per_step * config.group_size * config.steps
    return {
        "steps": config.steps,
        "answers": answers,
        "tokens": answers * longest,
        "seconds": config.steps * per_step + evaluations * evaluation,
    }
