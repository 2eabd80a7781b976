"""Holding a policy still: what is measured there is what training does."""

from __future__ import annotations

import pytest
import torch
from tests.training.language.test_trainer import run_in, small

from pilotage.systems.reasoning import bnpo, gtpo
from pilotage.training.language import trainer as text
from pilotage.training.language.frozen_policy import batches, frozen_trainer, gradient


@pytest.mark.parametrize("system", [bnpo.SYSTEM, gtpo.SYSTEM], ids=lambda system: system.name)
def test_the_gradient_is_that_of_trainings_first_step(system, tmp_path):
    config = small(system.config, steps=1)
    _, metrics, _ = run_in(tmp_path / "run", config, seed=4)
    with frozen_trainer(config, tmp_path / "still", 4) as trainer:
        if system is gtpo.SYSTEM:
            trainer.counts["initial_entropy"] = metrics[0]["held_out/entropy"]
        before = {name: p.clone() for name, p in trainer.model.named_parameters()}
        rollouts = next(batches(trainer, 1))
        norm = float(gradient(trainer, rollouts).double().norm())
        assert all(torch.equal(before[name], p) for name, p in trainer.model.named_parameters()), "held still"
        assert all(p.grad is None for p in trainer.model.parameters())
        assert float(gradient(trainer, rollouts).double().norm()) == norm, "nothing is left over from the call before"
    assert norm == pytest.approx(metrics[1]["gradient_norm"], rel=1e-5)


def test_batches_differ_and_can_be_drawn_again(tmp_path):
    config = small(bnpo.SYSTEM.config)
    with frozen_trainer(config, tmp_path / "a", 1) as trainer:
        first = list(batches(trainer, 2))
    with frozen_trainer(config, tmp_path / "b", 1) as trainer:
        again = list(batches(trainer, 2))
    assert all(torch.equal(x.ids, y.ids) for x, y in zip(first, again, strict=True))
    assert first[0].ids.shape != first[1].ids.shape or not torch.equal(first[0].ids, first[1].ids)


def test_an_initial_entropy_that_nobody_measured_is_not_passed_off_as_high(tmp_path):
    """NaN is not below ln 2: it would switch GTPO's filter off without a word."""
    with frozen_trainer(small(gtpo.SYSTEM.config), tmp_path / "run", 0) as trainer:
        assert isinstance(trainer, text.TextTrainer)
        assert trainer.context()["initial_entropy"] is None
        trainer.counts["initial_entropy"] = 0.2
        assert trainer.context()["initial_entropy"] == 0.2
