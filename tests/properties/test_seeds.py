"""S19: the run's seed governs, and nothing else does. (Another process: tests/training/test_kill.py.)"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.properties.runs import run_in, small

from pilotage.rollouts import groups as groups
from pilotage.training.language import trainer as text
from pilotage.training.language.trainer import TextTrainer


def draw_from_everything() -> None:
    random.random()
    np.random.rand(3)
    torch.rand(3)


@pytest.mark.parametrize("name", ["ppo", "riskpo", "vade"])
def test_drawing_from_the_global_generators_between_steps_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(name)
    quiet = run_in(tmp_path / "quiet", config)
    for method in ("step", "learn", "evaluate", "score_rollouts"):
        plain = getattr(TextTrainer, method)

        def disturbed(self, *given, plain=plain):
            draw_from_everything()
            return plain(self, *given)

        monkeypatch.setattr(TextTrainer, method, disturbed)
    noisy = run_in(tmp_path / "noisy", config)
    assert noisy.metrics == quiet.metrics
    assert noisy.rollouts == quiet.rollouts
    weights = [(tmp_path / run / "policy" / "model.safetensors").read_bytes() for run in ("quiet", "noisy")]
    assert weights[0] == weights[1]
    assert run_in(tmp_path / "other", config, seed=1).rollouts != quiet.rollouts


def test_a_run_leaves_the_global_generators_where_they_were(tmp_path: Path) -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state())
    run_in(tmp_path / "run", small("ppo", steps=1))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])


def test_no_two_prompts_of_a_run_share_the_seed_of_their_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two instances of a prompt, or two rounds, or two processes would repeat each other's answers."""
    seeds: list[int] = []

    def spied(*given, **options):
        seeds.extend(options["seeds"])
        return groups.sample_groups(*given, **options)

    monkeypatch.setattr(text, "sample_groups", spied)
    # A pool of as many prompts as a batch holds: every step asks the same ones again.
    written = run_in(
        tmp_path / "run", small("dapo", num_train_prompts=6, refill_rounds=3, filter="informative", steps=4)
    )
    assert len(seeds) == len(set(seeds)) >= 4 * 6
    answers = [[row["completion"] for row in written.at(step)] for step in range(1, 5)]
    assert len({tuple(a) for a in answers}) == 4
