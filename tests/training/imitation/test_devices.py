"""Where policies are trained and in which precision: bfloat16 products, float32 weights, devices that are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pilotage.cli import main
from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import write_npz
from pilotage.experiments.launch import load_policy
from pilotage.runs import Run, read_lines, read_result
from pilotage.systems.robots.baselines import SYSTEMS
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.cost import estimate_cost
from pilotage.training.imitation.trainer import ImitationTrainer, train

ROWS = {system.name: system.config for system in SYSTEMS}
PARTS: dict[str, dict[str, Any]] = {
    "diffusion-mlp": {"network": "residual_mlp:width=16,depth=1"},
    "diffusion-policy-c": {"network": "unet:widths=16|32,groups=4"},
    "diffusion-policy-t": {"network": "transformer:width=16,depth=1,heads=2"},
    "bc-mlp": {"network": "residual_mlp:width=16,depth=1"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    shown = Demonstrations(
        observations={"state": rng.normal(size=(60, 4)).astype(np.float32)},
        actions=rng.uniform(-1, 1, (60, 2)).astype(np.float32),
        episode_ends=np.array([20, 40, 60]),
        meta={"source": "a test"},
    )
    return write_npz(shown, tmp_path_factory.mktemp("data") / "mine.npz")


def small(name: str, data: Path, **changes: Any) -> ImitationConfig:
    settings: dict[str, Any] = {"env": "none", "data": str(data), "validation": 0.34, "steps": 4, "batch": 8}
    settings |= {"log_every": 1, "checkpoint_every": 2, **PARTS[name], **changes}
    return replace(ROWS[name], **settings)


def trained(config: ImitationConfig, folder: Path) -> Path:
    run = Run.create(folder, system="imitation", config=config_to_dict(config), seed=0, precision=config.precision)
    with run:
        train(config, run)
    return folder


@pytest.mark.parametrize("name", PARTS)
def test_bfloat16_trains_with_weights_in_float32(name: str, data: Path, tmp_path: Path) -> None:
    """Products are rounded (the losses differ from float32's), weights and average are not."""
    half = trained(small(name, data, precision="bfloat16"), tmp_path / "half")
    whole = trained(small(name, data), tmp_path / "whole")
    losses, exact = ([line["loss"] for line in read_lines(run / "metrics.jsonl")] for run in (half, whole))
    assert np.isfinite(losses).all()
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.1)
    for tensors in (load_file(half / "policy/model.safetensors"), load_file(whole / "policy/model.safetensors")):
        assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}
    policy = load_policy(half)
    policy.reset([0])
    action = policy.act({"state": np.zeros((1, 4), np.float32)}, [0])
    assert action.dtype == torch.float32
    assert bool(action.isfinite().all())


@pytest.mark.parametrize("stop", [1, 3])
def test_bfloat16_killed_and_resumed_equals_undisturbed(
    stop: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("diffusion-policy-c", data, precision="bfloat16")
    whole = trained(config, tmp_path / "whole")
    original = ImitationTrainer.step

    def dies(self: ImitationTrainer, step: int) -> None:
        if step == stop:
            raise KeyboardInterrupt
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationTrainer, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(config, tmp_path / "killed")
    killed = trained(config, tmp_path / "killed")
    for name in ("metrics.jsonl", "result.json", "policy/model.safetensors", "policy/config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_auto_trains_in_what_the_run_says(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilotage.runs import hardware

    monkeypatch.setattr(hardware, "processor_features", lambda: ["amx_bf16"])
    auto = trained(small("bc-mlp", data, precision="auto"), tmp_path / "auto")
    half = trained(small("bc-mlp", data, precision="bfloat16"), tmp_path / "half")
    weights = "policy/model.safetensors"
    assert (auto / weights).read_bytes() == (half / weights).read_bytes()


@pytest.mark.parametrize("precision", ["float16", "float64", "bf16"])
def test_a_precision_that_it_does_not_train_in_is_refused(precision: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"precision.*{precision}"):
        trained(small("bc-mlp", data, precision=precision), tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "bc-mlp", "--env", "none", "--data", str(data), "--steps", "2", "--device", "cuda"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "finds no GPU here; give --device cpu" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="finds no GPU here"):
        estimate_cost(small("bc-mlp", data, device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_policy_trained_on_a_gpu_acts_on_the_processor(data: Path, tmp_path: Path) -> None:
    config = small("diffusion-policy-c", data, device="cuda", precision="bfloat16")
    run = trained(config, tmp_path / "run")
    assert np.isfinite((read_result(run) or {})["validation/action_error"])
    policy = load_policy(run)
    policy.reset([0])
    assert bool(policy.act({"state": np.zeros((1, 4), np.float32)}, [0]).isfinite().all())
