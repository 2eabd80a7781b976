"""Measurements at a frozen policy: batches with rewards and advantages as in training, and their gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from pilotage.core.configuration import config_to_dict
from pilotage.runs import Run
from pilotage.training.language.config import TextConfig
from pilotage.training.language.credit import assign_credit
from pilotage.training.language.trainer import TextTrainer
from pilotage.training.language.update import accumulate_gradient, parameters_of
from pilotage.types import Rollouts


@contextmanager
def frozen_trainer(config: TextConfig, directory: Path, seed: int) -> Iterator[TextTrainer]:
    """Yield the trainer of `config` before its first step; `directory` is that of a run, for what it needs to write.

    Equal seeds give equal prompts and equal noise, so that methods meet the same answers of the same policy.
    """
    with Run.create(directory, system="frozen-policy", config=config_to_dict(config), seed=seed) as run:
        trainer = TextTrainer(config, run)
        trainer.load_engine(0)
        try:
            yield trainer
        finally:
            trainer.close()


def batches(trainer: TextTrainer, count: int) -> Iterator[Rollouts]:
    """Yield `count` independent batches with rewards, advantages and token weights."""
    for step in range(count):
        rollouts, _ = trainer.score_rollouts(trainer.roll_out(step, 0))
        trainer.prepare(rollouts)
        assign_credit(trainer.pieces, rollouts, trainer.context())
        yield rollouts


def gradient(trainer: TextTrainer, rollouts: Rollouts) -> Tensor:
    """Return the gradient [parameter] of the loss of a whole batch; the model is left without gradients."""
    trainer.model.zero_grad(set_to_none=True)
    rows = torch.arange(len(rollouts))
    accumulate_gradient(trainer.pieces, trainer.model, trainer.likelihood, rollouts, rows, on_policy=True)
    parameters = list(parameters_of(trainer.model))
    gradient = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    trainer.model.zero_grad(set_to_none=True)
    return gradient
