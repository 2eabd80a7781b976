"""What learning from demonstrations will cost, before it starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pilotage.core.configuration import config_to_dict
from pilotage.runs import Run
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.trainer import ImitationTrainer

TIMED_STEPS = 3
TIMED_EPISODES = 2


def estimate_cost(config: ImitationConfig) -> Mapping[str, float]:
    """Return steps, windows and processor seconds, from a few timed steps and episodes of an untrained policy.

    Demonstrations that are not made yet are made on the way, once.
    """
    timed = replace(config, evaluation_episodes=min(TIMED_EPISODES, config.evaluation_episodes), videos=0)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", system="estimate-cost", config=config_to_dict(timed), seed=0)
        with run:
            trainer = ImitationTrainer(timed, run)
            run.restore(trainer.state())
            trainer.step(0)
            began = time.process_time()
            for step in range(TIMED_STEPS):
                trainer.step(step + 1)
            per_step = (time.process_time() - began) / TIMED_STEPS
            began = time.process_time()
            trainer.tried(0)
            per_episode = (time.process_time() - began) / timed.evaluation_episodes
    evaluations = 1 if not config.evaluate_every else -(-config.steps // config.evaluate_every)
    return {
        "steps": config.steps,
        "windows": config.steps * config.batch,
        "episodes": evaluations * config.evaluation_episodes,
        "seconds": config.steps * per_step + evaluations * config.evaluation_episodes * per_episode,
    }
