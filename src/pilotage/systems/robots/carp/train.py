"""The cost of CARP's two stages; the second is the training of every imitation, with the head `tokens`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pilotage.core.configuration import config_to_dict
from pilotage.runs import Run
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.systems.robots.carp.tokeniser_training import TokeniserTrainer
from pilotage.training.imitation.cost import estimate_cost as imitation_cost
from pilotage.training.imitation.trainer import ImitationTrainer

TIMED_STEPS = 3


def estimate_cost(config: TokensConfig) -> Mapping[str, float]:
    """Return steps, windows and processor seconds of both stages, from a few timed steps of each.

    "tokeniser_seconds" are part of "seconds", but paid only where no such tokeniser is there yet.
    """
    untrained = replace(config, tokeniser_steps=0)
    stage_two = imitation_cost(untrained)
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.create(Path(folder) / "run", system="estimate-cost", config=config_to_dict(untrained), seed=0) as run,
    ):
        trainer = ImitationTrainer(untrained, run)
        run.restore(trainer.state())
        settings = {**config_to_dict(config), "tokeniser_steps": max(1, config.tokeniser_steps)}
        first = TokeniserTrainer(settings, trainer.training_data.chunks(), run)
        first.step(0)
        began = time.process_time()
        for step in range(TIMED_STEPS):
            first.step(step)
        per_step = (time.process_time() - began) / TIMED_STEPS
    seconds = config.tokeniser_steps * per_step
    return {**stage_two, "tokeniser_seconds": seconds, "seconds": stage_two["seconds"] + seconds}
