"""What a run is said to cost before it starts, and the base that it may train first."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pilotage.environments.text import text_task
from pilotage.runs.artifacts import artifact
from pilotage.training.language.config import TextConfig
from pilotage.training.language.cost import estimate_cost
from pilotage.training.language.models import base_settings
from pilotage.training.language.pretraining import EXPECTED_STEPS, Pretraining, expected_steps

CONFIG = TextConfig(
    task="add", difficulties=(1,), prompts_per_step=2, group_size=2, steps=3, num_train_prompts=40, evaluation_prompts=2
)


def make_nothing(directory: Path, config: object) -> None:
    (directory / "base").write_text(str(config))


def test_a_base_that_is_not_made_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    first = estimate_cost(CONFIG)
    assert "trained first, once" in str(first["base"])
    without = estimate_cost(replace(CONFIG, pretrain_to_accuracy=0.0))
    assert "base" not in without
    assert float(first["seconds"]) > float(without["seconds"])
    settings, name = base_settings(CONFIG, text_task("add", (1,)))
    artifact(make_nothing, asdict(settings), name=name)
    assert "base" not in estimate_cost(CONFIG)
    assert "base" in estimate_cost(replace(CONFIG, pretrain_to_accuracy=0.6))


def test_expected_steps_follow_the_measured_accuracy() -> None:
    settings = Pretraining("0.4M", "add", (1,), accuracy=0.3, seed=0, most_steps=1000)
    assert expected_steps(settings, 25, 0.0) == EXPECTED_STEPS
    assert expected_steps(settings, 100, 0.1) == 300
    assert expected_steps(settings, 400, 0.0) == 425
    assert expected_steps(settings, 100, 0.01) == 1000
    assert expected_steps(settings, 100, 0.31) == 100
