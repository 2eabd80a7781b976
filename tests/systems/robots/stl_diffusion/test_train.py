"""The driving trainer: trains, refines, evaluates, resumes to the bit, and shows its plans."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="the closed loop needs pilotage[robots]")

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.runs import Run, read_result
from pilotage.systems.robots.stl_diffusion.actions import play
from pilotage.systems.robots.stl_diffusion.baselines import SYSTEMS
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.train import DrivingTrainer, train

SMALL = {
    "scenes": 4,
    "test_scenes": 2,
    "draws": 2,
    "plan_steps": 100,
    "steps": 4,
    "batch": 8,
    "shards": 2,
    "shard": 4,
    "refine_batch": 2,
    "width": 16,
    "num_noise_levels": 4,
    "guidance_levels": 2,
    "candidates": 2,
    "samples": 4,
    "closed_scenes": 1,
    "closed_steps": 3,
    "closed_samples": 2,
    "log_every": 2,
    "checkpoint_every": 2,
}
PLANNERS = (
    "constant",
    "random",
    "trajopt",
    "sampled",
    "rejection",
    "candidates",
    "refined",
    "guided",
    "released",
    "ctg",
)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def small(config: DrivingConfig | None = None, **changes: Any) -> DrivingConfig:
    return replace(config or DrivingConfig(refine_steps=3, closed_loop_planners=("guided",)), **{**SMALL, **changes})


def trained(config: DrivingConfig, folder: Path) -> Path:
    with Run.create(folder, system="stl-diffusion", config=config_to_dict(config), seed=0) as run:
        train(config, run)
    return folder


def test_it_trains_refines_evaluates_every_planner_and_shows_its_plans(tmp_path: Path) -> None:
    config = small(planners=PLANNERS)
    folder = trained(config, tmp_path / "run")
    result = read_result(folder)
    assert result is not None
    assert result["success"] == result["open_loop/guided/success"]
    assert {f"open_loop/{name}/area" for name in PLANNERS} <= set(result)
    assert all(np.isfinite(value) for value in result.values())
    assert result["data/logs_satisfied"] == 1
    assert result["closed_loop/guided/progress"] > 0
    described = json.loads((folder / "metrics.json").read_text())
    assert set(result) <= set(described)
    with np.load(folder / "plans.npz", allow_pickle=False) as kept:
        assert kept["places"].shape[1:] == (4, 21, 2)
        assert kept["kept"].mean() == pytest.approx(result["compliance"])
    assert len(list((folder / "videos").glob("episode-*.npz"))) == 2
    played = play(config, folder, 2)
    assert len(played.paths) == len(played.evaluation.episodes) >= 4
    assert len(played.evaluation.frames) == 2
    assert played.plan is not None
    assert len(played.plan.lines) >= 2
    with pytest.raises(UsageError, match="first one from 0 to 1"):
        play(config, folder, 1, 7)


@pytest.mark.parametrize("stop", [1, 5])
def test_killed_and_resumed_equals_undisturbed(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(planners=("guided",), closed_loop_planners=())
    whole = trained(config, tmp_path / "whole")
    calls, original = 0, DrivingTrainer.step

    def dies(self: Any, step: int) -> None:
        nonlocal calls
        calls += 1
        if calls > stop:
            raise KeyboardInterrupt
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(DrivingTrainer, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(config, tmp_path / "killed")
    killed = trained(config, tmp_path / "killed")
    for name in ("metrics.jsonl", "result.json", "planner.safetensors", "plans.npz"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (killed / "candidates.safetensors").exists()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_baseline_trains_and_is_evaluated(system: Any, tmp_path: Path) -> None:
    result = read_result(trained(small(system.config), tmp_path / "run"))
    assert result is not None
    assert np.isfinite(result["success"])


def test_the_mask_keeps_plans_that_break_their_rule_from_the_loss(tmp_path: Path) -> None:
    config = small(planners=("constant",), planner="constant", closed_loop_planners=())
    with Run.create(tmp_path / "run", system="stl-diffusion", config=config_to_dict(config), seed=0) as run:
        trainer = DrivingTrainer(config, run)
    rows = torch.arange(len(trainer.plans))
    losses = []
    for garbage in (0.0, 5.0):
        trainer.plans.plan[~trainer.plans.valid] = garbage
        loss = trainer.planner.learner_loss(trainer.plans, rows, torch.Generator().manual_seed(0))
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_refinement_fills_up_shards_and_returns_what_was_asked_for(tmp_path: Path) -> None:
    config = small(planners=("constant",), planner="constant", closed_loop_planners=(), data="logs")
    with Run.create(tmp_path / "run", system="stl-diffusion", config=config_to_dict(config), seed=0) as run:
        trainer = DrivingTrainer(config, run)
    sets = trainer.drives.sets()
    vector = trainer.planner.vector(sets)
    plans, value = torch.zeros(len(sets), 6, 20, 2), torch.ones(len(sets), 6)
    value[:, 5] = -1
    refined = trainer.planner.refine(vector, plans, value)
    assert refined.shape == plans.shape
    assert torch.equal(refined[:, :5], plans[:, :5])
    assert (refined[:, 5] != 0).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learner": "gan"}, "choose denoiser or vae"),
        ({"data": "dreams"}, "augmented or logs"),
        ({"planners": ("guidde",)}, "did you mean 'guided'"),
        ({"planner": "ctg"}, "not among the planners"),
        ({"refine_steps": 0}, "RefineNet"),
        ({"learner": "vae"}, "reverse process"),
        ({"scenes": 0}, "at least one scene"),
        ({"predicts": "nothing"}, "predicts"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        trained(small(**changes), tmp_path / "run")
    assert said in str(caught.value)
