"""The second stage of CARP: learning from demonstrations over the tokens of a tokeniser that is made first."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.windows import WindowBatch, Windows
from pilotage.runs import Run
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.systems.robots.carp.head import NextScaleTokens
from pilotage.systems.robots.carp.tokeniser_training import LEAST_USE, MOST_ERROR, TokeniserTrainer, fit_tokeniser
from pilotage.training.imitation.cost import estimate_cost as imitation_cost
from pilotage.training.imitation.trainer import ImitationTrainer
from pilotage.training.imitation.trainer import train as train_imitation

METRICS = {
    "tokeniser/mse": "Mean squared error of chunks that went through the tokeniser, normalised units, training data.",
    "tokeniser/ready": f"1 when that is below {MOST_ERROR:g} and more than {LEAST_USE:.0%} of the codes are in use at "
    "every scale but the coarsest.",
    "tokeniser/finest_changed": "Share of the finest tokens that change when a reconstruction is tokenised again.",
    "tokeniser/coarse_energy": "Share of high frequencies (from the fourth cosine on) in what scale 1 decodes to.",
}
TIMED_STEPS = 3


class TokensTrainer(ImitationTrainer):
    """Imitation trainer that fits the tokeniser first, and reports on it and on the tokens."""

    def _fit_head(self, training: Demonstrations) -> None:
        if not isinstance(self.head, NextScaleTokens) or not isinstance(self.config, TokensConfig):
            raise UsageError(f"--head {self.config.head} does not answer in tokens; keep the head tokens here")
        for name, text in METRICS.items():
            self.run.describe_metric(name, text)
        tokeniser = self.head.tokeniser
        for k in range(len(tokeniser.scales)):
            self.run.describe_metric(
                f"tokeniser/use/scale_{k + 1}", "Least share, over dimensions, of codes in use there."
            )
            self.run.describe_metric(f"tokeniser/mse/scales_{k + 1}", "Mean squared error with so many scales decoded.")
            self.run.describe_metric(
                f"validation/token_accuracy/scale_{k + 1}", "Share of likeliest tokens that are right."
            )
        for i in range(tokeniser.action_dim):
            self.run.describe_metric(f"tokeniser/rmse/dimension_{i}", "Root mean squared error of one action's number.")
        self.chunks = self._chunks(training)
        self.report = fit_tokeniser(tokeniser, self.chunks, self.config, self.run)
        if not self.report["ready"]:
            uses = [value for name, value in sorted(self.report.items()) if name.startswith("use/")]
            least = min(uses[1:] or uses)
            self.run.log_event(
                None,
                "tokeniser",
                f"its error {self.report['mse']:.2g} should be below {MOST_ERROR:g} and its least use of codes "
                f"{least:.0%} above {LEAST_USE:.0%}; train it longer, or with fewer codes",
            )

    def _chunks(self, training: Demonstrations) -> Tensor:
        """Return all chunks of the training windows, normalised: [window, step, number]."""
        config = self.config
        windows = Windows(
            training,
            n_obs_steps=config.n_obs_steps,
            chunk_size=config.chunk_size,
            n_action_steps=config.n_action_steps,
            names=[],
            normalisers=self.normalisers,
        )
        return windows.take(np.arange(len(windows))).actions

    def _look_at(self, batch: WindowBatch) -> dict[str, float]:
        assert isinstance(self.head, NextScaleTokens)
        condition = self.encoder(batch.observations)
        accuracy = self.head.token_accuracy(batch.actions, condition, ~batch.padded)
        numbers = {f"tokeniser/{name}": value for name, value in self.report.items()}
        return numbers | {f"validation/token_accuracy/scale_{k + 1}": value for k, value in enumerate(accuracy)}


def train(config: TokensConfig, run: Any) -> Result:
    """Train the tokeniser, then the policy over its tokens; goes on from the newest checkpoint of `run`."""
    return train_imitation(config, run, TokensTrainer)


def estimate_cost(config: TokensConfig) -> Mapping[str, float]:
    """Return steps, windows and processor seconds of both stages, from a few timed steps of each.

    "tokeniser_seconds" are part of "seconds", but paid only where no such tokeniser is there yet.
    """
    untrained = replace(config, tokeniser_steps=0)
    stage_two = imitation_cost(untrained, TokensTrainer)
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.create(Path(folder) / "run", system="estimate-cost", config=config_to_dict(untrained), seed=0) as run,
    ):
        trainer = TokensTrainer(untrained, run)
        run.restore(trainer.state())
        settings = {**config_to_dict(config), "tokeniser_steps": max(1, config.tokeniser_steps)}
        first = TokeniserTrainer(settings, trainer.chunks, run)
        first.step(0)
        began = time.process_time()
        for step in range(TIMED_STEPS):
            first.step(step)
        per_step = (time.process_time() - began) / TIMED_STEPS
    seconds = config.tokeniser_steps * per_step
    return {**stage_two, "tokeniser_seconds": seconds, "seconds": stage_two["seconds"] + seconds}
