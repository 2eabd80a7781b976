"""A policy held still: batches judged and credited as training does it, and the gradient they give, without a step."""

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
def held_still(config: TextConfig, directory: Path, seed: int) -> Iterator[TextTrainer]:
    """The trainer of `config` before its first step; `directory` is a run's, for what it needs to write.

    Equal seeds give equal prompts and equal noise, so that methods meet the same answers of the same policy."""
    with Run.create(directory, system="held-still", config=config_to_dict(config), seed=seed) as run:
        trainer = TextTrainer(config, run)
        trainer.load_engine(0)
        try:
            yield trainer
        finally:
            trainer.close()


def batches(trainer: TextTrainer, count: int) -> Iterator[Rollouts]:
    """`count` independent batches, judged and with advantages and token weights."""
    for step in range(count):
        rollouts, _ = trainer.judge(trainer.roll_out(step, 0))
        trainer.prepare(rollouts)
        assign_credit(trainer.plan, rollouts, trainer.context())
        yield rollouts


def gradient(trainer: TextTrainer, rollouts: Rollouts) -> Tensor:
    """[parameter]: the gradient of the loss of a whole batch from `batches`. The model is left without gradients."""
    trainer.model.zero_grad(set_to_none=True)
    rows = torch.arange(len(rollouts))
    accumulate_gradient(trainer.plan, trainer.model, trainer.likelihood, rollouts, rows, on_policy=True)
    parameters = list(parameters_of(trainer.model))
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    trainer.model.zero_grad(set_to_none=True)
    return flat
