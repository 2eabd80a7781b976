"""The imitation trainer: every row trains, resumes to the bit, and leaves a policy that acts in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.core.system import System
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import write_npz
from pilotage.experiments.launch import load_policy
from pilotage.runs import Run, read_result
from pilotage.systems.robots.baselines import SYSTEMS
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.trainer import train

ROOT = Path(__file__).resolve().parents[2]
ROWS = {system.name: system for system in SYSTEMS}
SMALL = {
    "demonstrations": 4,
    "validation": 0.25,
    "steps": 6,
    "batch": 8,
    "log_every": 2,
    "checkpoint_every": 2,
    "evaluation_episodes": 3,
    "evaluation_steps": 12,
    "num_envs": 2,
    "videos": 0,
}
TINY = {
    "diffusion-policy-c": {
        "network": "unet:widths=16|32,groups=4",
        "noise_schedule": "vp:steps=3",
        "sampler": "ddpm:steps=3",
    },
    "diffusion-policy-t": {
        "network": "transformer:width=16,depth=1,heads=2",
        "noise_schedule": "vp:steps=3",
        "sampler": "ddpm:steps=3",
    },
    "act": {"network": "transformer:width=16,depth=1,heads=2"},
    "bet": {"network": "gpt:width=16,depth=1,heads=2", "head": "bins:bins=4"},
    "ibc": {"head": "contrastive:negatives=4,candidates=8,rounds=2"},
    "lstm-gmm": {"encoder": "recurrent:width=8,depth=1"},
}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def small(system: System, **changes: Any) -> ImitationConfig:
    return replace(system.config, **{**SMALL, **TINY.get(system.name, {}), **changes})


def trained(config: ImitationConfig, folder: Path, seed: int = 0) -> Path:
    run = Run.create(folder, system="imitation", config=config_to_dict(config), seed=seed)
    with run:
        train(config, run)
    return folder


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains_and_leaves_a_policy_that_acts(name: str, tmp_path: Path) -> None:
    folder = trained(small(ROWS[name]), tmp_path / "run")
    metrics = lines(folder, "metrics")
    assert [line["step"] for line in metrics] == [2, 4, 6]
    assert all(np.isfinite(line["loss"]) for line in metrics)
    result = read_result(folder)
    assert result is not None
    assert {"evaluation/success", "validation/action_error", "evaluation/calls"} <= set(result)
    assert len(lines(folder, "rollouts")) == 3
    policy = load_policy(folder)
    policy.reset([0])
    assert policy.act({"state": np.zeros((1, 4), np.float32)}, [0]).shape == (1, 2)


def test_a_denoiser_takes_as_many_passes_as_its_sampler_has_steps(tmp_path: Path) -> None:
    folder = trained(small(ROWS["diffusion-mlp"], sampler="ddim:steps=3", n_action_steps=4), tmp_path / "run")
    result = read_result(folder)
    assert result is not None
    assert result["evaluation/calls"] == 3
    assert result["evaluation/decisions"] == pytest.approx(1 / 4, abs=0.1)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_killed_and_resumed_equals_undisturbed(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(ROWS["diffusion-mlp"])
    whole = trained(config, tmp_path / "whole")
    calls = 0

    def dies(self: Any, step: int) -> None:
        nonlocal calls
        calls += 1
        if calls > stop:
            raise KeyboardInterrupt
        original(self, step)

    from pilotage.training.imitation.trainer import ImitationTrainer

    original = ImitationTrainer.step
    with monkeypatch.context() as patch:
        patch.setattr(ImitationTrainer, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(config, tmp_path / "killed")
    killed = trained(config, tmp_path / "killed")
    for name in ("metrics.jsonl", "rollouts.jsonl", "result.json", "policy/model.safetensors", "policy/config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_seed_alone_decides_the_first_weights_of_the_encoder_too(tmp_path: Path) -> None:
    """S19, for encoders with weights; the global generator stands elsewhere each time."""
    config = small(ROWS["bc-mlp"], encoder="mlp", steps=1)
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        folder = trained(config, tmp_path / str(number), seed)
        weights.append((folder / "policy" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_a_policy_acts_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    """S14, on raw observations."""
    folder = trained(small(ROWS["diffusion-mlp"]), tmp_path / "run")
    code = (
        "import sys, numpy as np, pilotage; p = pilotage.load(sys.argv[1]); p.reset([0, 5], seeds=[3, 4]); "
        "s = np.array([[-1.6, 0, 0, 0], [0.3, 0.4, 0.1, 0.2]], np.float32); "
        "print([p.act({'state': s}, [0, 5]).tolist() for _ in range(3)])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(folder)]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    policy = load_policy(folder)
    policy.reset([0, 5], seeds=[3, 4])
    state = np.array([[-1.6, 0, 0, 0], [0.3, 0.4, 0.1, 0.2]], np.float32)
    here = [policy.act({"state": state}, [0, 5]).tolist() for _ in range(3)]
    np.testing.assert_allclose(np.array(json.loads(there)), np.array(here), rtol=0, atol=1e-6)


def test_results_do_not_depend_on_the_lanes(tmp_path: Path) -> None:
    """S15; networks round differently in other batch sizes, so numbers agree to 1e-4 and starts exactly."""
    one = trained(small(ROWS["diffusion-mlp"], num_envs=1, evaluation_episodes=5), tmp_path / "one")
    five = trained(small(ROWS["diffusion-mlp"], num_envs=5, evaluation_episodes=5), tmp_path / "five")
    for ours, theirs in zip(lines(one, "rollouts"), lines(five, "rollouts"), strict=True):
        assert (ours["start"], ours["seed"], ours["steps"]) == (theirs["start"], theirs["seed"], theirs["steps"])
        assert ours["total_reward"] == pytest.approx(theirs["total_reward"], abs=1e-4)


def test_evaluation_changes_nothing_of_the_training(tmp_path: Path) -> None:
    seldom = trained(small(ROWS["diffusion-mlp"]), tmp_path / "seldom")
    often = trained(small(ROWS["diffusion-mlp"], evaluate_every=2), tmp_path / "often")
    assert (seldom / "policy/model.safetensors").read_bytes() == (often / "policy/model.safetensors").read_bytes()


def demonstrations(constant: bool = False) -> Demonstrations:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    if constant:
        actions[:, 1] = 0.25
    return Demonstrations(
        observations={"state": rng.normal(size=(40, 4)).astype(np.float32)},
        actions=actions,
        episode_ends=np.array([20, 26, 40]),
        meta={"source": "a test"},
    )


def test_data_of_ones_own_needs_no_world(tmp_path: Path) -> None:
    file = write_npz(demonstrations(), tmp_path / "mine.npz")
    config = small(ROWS["bc-mlp"], env="none", data=str(file), validation=0.34)
    result = read_result(trained(config, tmp_path / "run"))
    assert result is not None
    assert "validation/loss" in result
    assert not any(name.startswith("evaluation/") for name in result)


def test_odd_data_is_said(tmp_path: Path) -> None:
    file = write_npz(demonstrations(constant=True), tmp_path / "mine.npz")
    config = small(ROWS["diffusion-mlp"], env="none", data=str(file), validation=0.0)
    folder = trained(config, tmp_path / "run")
    events = {event["kind"]: event["text"] for event in lines(folder, "events")}
    assert "[1]" in events["constant actions"]
    assert "2 of 3 demonstrations" in events["short episodes"]
    policy = load_policy(folder)
    policy.reset([0])
    action = policy.act({"state": np.zeros((1, 4), np.float32)}, [0])
    assert action[0, 1] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "denoisr"}, "did you mean 'denoiser'"),
        ({"network": "residual_mlp:widht=3"}, "did you mean 'width'"),
        ({"network": "unet:widths=16|32|64,groups=4", "chunk_size": 10}, "10"),
        ({"sampler": "flow_euler:steps=3"}, "flow_euler"),
        ({"chunk_size": 8, "n_action_steps": 8}, "expected chunk_size ≥ n_obs_steps - 1 + n_action_steps = 9"),
        ({"env": "push-t"}, "push-t"),
        ({"env": "pilar"}, "did you mean 'pillar'"),
        ({"env": "none"}, "--data"),
        ({"cameras": "top"}, "image"),
        ({"data": "nowhere.npz"}, "nowhere.npz"),
        ({"demonstrations": 0}, "at least 1"),
        ({"lr_schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        trained(small(ROWS["diffusion-mlp"], **changes), tmp_path / "run")
    assert said in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotage.training.imitation.trainer import ImitationTrainer

    monkeypatch.setattr(ImitationTrainer, "loss", lambda *_: torch.full((8,), float("nan"), requires_grad=True))
    with pytest.raises(Exception, match="loss"):
        trained(small(ROWS["bc-mlp"]), tmp_path / "run")
    assert list((tmp_path / "run").glob("failed-batch/*"))


@pytest.mark.parametrize("head", ["energy", "ebt"])
def test_an_energy_resumes_to_the_bit_and_reports_its_passes(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotage.policies.control.heads import energy_optimisation
    from pilotage.systems.robots.ebt_policy import SYSTEM
    from pilotage.training.imitation.trainer import ImitationTrainer

    monkeypatch.setattr(energy_optimisation, "CALIBRATE_EVERY", 2)
    config = small(SYSTEM, head=head)
    whole = trained(config, tmp_path / "whole")
    original = ImitationTrainer.step

    def dies(self: Any, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationTrainer, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(config, tmp_path / "killed")
    killed = trained(config, tmp_path / "killed")
    for name in ("metrics.jsonl", "result.json", "policy/model.safetensors", "policy/config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    result = read_result(whole)
    assert result is not None
    assert result["evaluation/forward_passes"] == result["evaluation/backward_passes"] >= 1
    assert all(line["training/second_passes"] >= 1 for line in lines(whole, "metrics"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"actions": np.zeros((40, 3), np.float32)}, "takes actions [2]; a test shows state [4] and has actions [3]"),
        ({"observations": {"state": np.zeros((40, 5), np.float32)}}, "pillar shows state [4] and .* shows state [5]"),
    ],
)
def test_a_world_that_is_not_that_of_the_data_is_refused_before_training(
    changed: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotage.training.imitation.trainer import ImitationTrainer

    monkeypatch.setattr(ImitationTrainer, "step", lambda *_: pytest.fail("training began"))
    file = write_npz(replace(demonstrations(), **changed), tmp_path / "mine.npz")
    config = small(ROWS["bc-mlp"], data=str(file))
    if not said:
        with pytest.raises(pytest.fail.Exception, match="training began"):
            trained(config, tmp_path / "run")
        return
    with pytest.raises(UsageError) as caught:
        trained(config, tmp_path / "run")
    for part in said.split(" .* "):
        assert part.replace("a test", str(file)) in str(caught.value)
    assert "give --env the one it was recorded in, or none" in str(caught.value)


@pytest.mark.parametrize("name", ["bet", "act"])
def test_dropout_is_governed_by_the_seed_of_the_run(name: str, tmp_path: Path) -> None:
    first = trained(small(ROWS[name]), tmp_path / "first")
    torch.rand(7)
    second = trained(small(ROWS[name]), tmp_path / "second")
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
