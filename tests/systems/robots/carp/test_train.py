"""Two stages: a tokeniser that is made once and goes on after a kill, and a policy over its tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import write_npz
from pilotage.experiments.launch import load_policy
from pilotage.runs import Run, read_result
from pilotage.runs.artifacts import artifact_root
from pilotage.systems.robots.carp import SYSTEM, tokeniser_training
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.systems.robots.carp.tokeniser_training import TokeniserTrainer
from pilotage.systems.robots.carp.train import estimate_cost
from pilotage.training.imitation.trainer import ImitationTrainer, train

SMALL = {
    "demonstrations": 4,
    "validation": 0.25,
    "steps": 4,
    "batch": 8,
    "log_every": 2,
    "checkpoint_every": 2,
    "evaluation_episodes": 2,
    "evaluation_steps": 12,
    "num_envs": 2,
    "videos": 0,
    "network": "next_scale:width=16,depth=2",
    "tokeniser": "multiscale:codes=16,channels=2",
    "tokeniser_steps": 6,
    "tokeniser_batch": 8,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tokeniser_training, "CHECKPOINT_EVERY", 2)


def small(**changes: Any) -> TokensConfig:
    return replace(SYSTEM.config, **{**SMALL, **changes})


def trained(config: TokensConfig, folder: Path, seed: int = 0) -> Path:
    run = Run.create(folder, system="carp", config=config_to_dict(config), seed=seed)
    with run:
        train(config, run)
    return folder


def tokenisers() -> list[Path]:
    return sorted(artifact_root().glob("action-tokeniser-*"))


def test_it_trains_acts_and_reports_on_its_tokens(tmp_path: Path) -> None:
    folder = trained(small(), tmp_path / "run")
    result = read_result(folder)
    assert result is not None
    assert result["evaluation/calls"] == 4
    assert {f"validation/token_accuracy/scale_{k}" for k in (1, 2, 3, 4)} <= set(result)
    assert {"tokeniser/mse", "tokeniser/use/scale_1", "tokeniser/ready", "validation/action_error"} <= set(result)
    events = [json.loads(line)["kind"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert "tokeniser" in events  # six steps are too few, and that is said
    policy = load_policy(folder)
    policy.reset([0])
    assert policy.act({"state": np.zeros((1, 4), np.float32)}, [0]).shape == (1, 2)


def test_arms_and_seeds_share_a_tokeniser_and_variants_have_their_own(tmp_path: Path) -> None:
    first = trained(small(steps=1), tmp_path / "a")
    trained(small(steps=1, network="next_scale:width=16,depth=2,order=token"), tmp_path / "b", seed=1)
    assert len(tokenisers()) == 1
    trained(small(steps=1, tokeniser="multiscale:scales=4,codes=16,channels=2"), tmp_path / "c")
    trained(small(steps=1, demonstrations=3, validation=0.0), tmp_path / "d")  # other data
    assert len(tokenisers()) == 3
    weights = load_policy(first).head.tokeniser.state_dict()
    kept = tokeniser_training.load_file(
        str(
            Path(json.loads((first / "run.json").read_text())["artifacts"]["action-tokeniser"]["path"])
            / tokeniser_training.WEIGHTS
        )
    )
    for name, tensor in kept.items():
        assert torch.equal(weights[name], tensor)


@pytest.mark.parametrize(("stage", "stop"), [(TokeniserTrainer, 3), (TokeniserTrainer, 5), (ImitationTrainer, 3)])
def test_killed_in_either_stage_and_resumed_equals_undisturbed(
    stage: type, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, steps = small(), []
    whole = trained(config, tmp_path / "whole")
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "other home"))
    original = stage.step

    def dies(self: Any, step: int) -> Any:
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(step)
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(config, tmp_path / "killed")
    seen: list[int] = []
    monkeypatch.setattr(stage, "step", lambda self, step: (seen.append(step), original(self, step))[1])
    killed = trained(config, tmp_path / "killed")
    assert seen[0] == stop // 2 * 2  # from the last checkpoint, not from the beginning
    for name in ("metrics.jsonl", "rollouts.jsonl", "result.json", "policy/model.safetensors", "policy/config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list((artifact_root() / ".unfinished").iterdir())


def test_the_cost_counts_both_stages_and_makes_no_tokeniser() -> None:
    cost = estimate_cost(small())
    assert 0 < cost["tokeniser_seconds"] < cost["seconds"]
    assert tokenisers() == []


def data(actions: np.ndarray, folder: Path) -> str:
    length = len(actions)
    demonstrations = Demonstrations(
        observations={"state": np.random.default_rng(0).normal(size=(length, 4)).astype(np.float32)},
        actions=actions.astype(np.float32),
        episode_ends=np.array([length // 2, length]),
        meta={"source": "a test"},
    )
    return str(write_npz(demonstrations, folder / "mine.npz"))


def test_grippers_and_constant_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    actions = np.stack([rng.uniform(-1, 1, 40), rng.choice([0.0, 0.04], 40), np.full(40, 0.25)], 1)
    folder = trained(small(env="none", data=data(actions, tmp_path), validation=0.0), tmp_path / "run")
    policy = load_policy(folder)
    assert policy.head.tokeniser.binary_dims.tolist() == [False, True, False]
    policy.reset([0])
    action = policy.act({"state": np.zeros((1, 4), np.float32)}, [0])
    assert min(abs(float(action[0, 1]) - end) for end in (0.0, 0.04)) < 1e-6
    assert action[0, 2] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chunk_size": 18}, "give 16 or 20"),
        ({"tokeniser": "multiscale:scales=1|2"}, "end with 4"),
        ({"tokeniser": "multiscal"}, "did you mean 'multiscale'"),
        ({"network": "residual_mlp"}, "takes no scales"),
        ({"network": "next_scale:width=15,depth=2"}, "heads=2"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        trained(small(**changes), tmp_path / "run")
    assert said in str(caught.value)


def test_another_system_cannot_answer_in_tokens(tmp_path: Path) -> None:
    from pilotage.systems.robots.baselines import SYSTEMS
    from pilotage.training.imitation.trainer import train as train_imitation

    (bc,) = [system for system in SYSTEMS if system.name == "bc-mlp"]
    config = replace(bc.config, head="tokens", demonstrations=2, videos=0)
    run = Run.create(tmp_path / "run", system="bc-mlp", config=config_to_dict(config), seed=0)
    with run, pytest.raises(UsageError, match="pilotage run carp"):
        train_imitation(config, run)
