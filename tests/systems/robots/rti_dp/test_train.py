"""The trainer of warm starts: one base for all ways to act, passes as listed, refusals at the door."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.experiments.launch import load_policy
from pilotage.runs import Run, read_result
from pilotage.systems.robots.rti_dp import SYSTEM
from pilotage.systems.robots.rti_dp.actions import estimate, latency, short_list
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.train import train
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.trainer import train as train_imitation

TINY = replace(
    SYSTEM.config,
    network="residual_mlp:width=8,depth=1",
    demonstrations=4,
    validation=0.25,
    steps=3,
    batch=8,
    noise_schedule="vp:steps=10",
    sampler="ddpm:steps=10",
    evaluation_episodes=3,
    evaluation_steps=12,
    num_envs=2,
    videos=0,
    timed_decisions=0,
)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def acted(folder: Path, **changes: Any) -> Path:
    config: WarmStartConfig = replace(TINY, **changes)
    with Run.create(folder, system="rti-dp", config=config_to_dict(config), seed=0) as run:
        train(config, run)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "policy" / "model.safetensors").read_bytes()


def episodes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def test_all_ways_to_act_have_the_same_weights_and_their_own_passes(tmp_path: Path) -> None:
    ways = {
        "rti": ({}, lambda steps: 10 + 3 * (steps - 1)),
        "chunks": ({"start": "noise", "n_action_steps": 8}, lambda steps: 10 * -(-steps // 8)),
        "sdedit": ({"start": "renoised", "levels": (5, 0)}, lambda steps: 10 + 2 * (steps - 1)),
        "blind": ({"levels": ()}, lambda steps: 10),  # noqa: ARG005
        "quick": ({"start": "noise", "sampler": "ddim:steps=2"}, lambda steps: 2 * steps),
        "by two": ({"n_action_steps": 2, "update": "ddim"}, lambda steps: 10 + 3 * (-(-steps // 2) - 1)),
    }
    folders = {name: acted(tmp_path / name, **changes) for name, (changes, _) in ways.items()}
    assert len({weights(folder) for folder in folders.values()}) == 1
    for name, (_, passes) in ways.items():
        for episode in episodes(folders[name]):
            assert episode["calls"] == passes(episode["steps"]), name
    result = read_result(folders["blind"])
    assert result is not None
    assert result["evaluation/plan_change"] == 0
    assert result["evaluation/switches"] == 0
    saved = load_policy(folders["rti"])
    saved.reset([0])
    for expected in (10, 13):
        saved.act({"state": np.zeros((1, 4), np.float32)}, [0])
        assert saved.calls[0] == expected


def test_a_killed_run_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = acted(tmp_path / "whole", restart="either")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pilotage.systems.robots.rti_dp.train.evaluate_policy", dies)
        with pytest.raises(KeyboardInterrupt):
            acted(tmp_path / "killed", restart="either")
    killed = acted(tmp_path / "killed", restart="either")
    for name in ("metrics.jsonl", "rollouts.jsonl", "result.json", "policy/config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    start = json.loads((whole / "policy" / "config.json").read_text())["initialiser"]
    assert start["piece"] == "RestartingStart"
    assert start["arguments"]["jump"] > 0
    assert start["arguments"]["residual"] > 0


def test_a_scaled_entry_is_small_in_the_base_and_whole_in_the_world(tmp_path: Path) -> None:
    """Entry 1 of the pillar's actions stands in for a gripper."""
    folder = acted(tmp_path / "scale", binary_dims=(1,))
    normaliser: Any = load_policy(folder).normalisers["action"]
    ends = normaliser.normalise(np_pair(normaliser))
    assert ends[:, 1].tolist() == pytest.approx([-0.1, 0.1])
    assert ends[:, 0].tolist() == pytest.approx([-1, 1])
    policy = load_policy(folder)
    policy.reset(list(range(6)))
    actions = policy.act({"state": np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)}, list(range(6)))
    low, high = float(normaliser.low[1]), float(normaliser.high[1])
    assert all(min(abs(a - low), abs(a - high)) < 1e-6 for a in actions[:, 1].tolist())
    with pytest.raises(UsageError, match="scale it twice"):
        acted(tmp_path / "twice", binary_dims=(1,), gripper="clip", base=str(folder))
    with pytest.raises(UsageError, match="scaled by 10"):
        acted(tmp_path / "other", binary_dims=(1,), scale_dims_by=5.0, base=str(folder))
    clipped = acted(tmp_path / "clip", binary_dims=(1,), gripper="clip")
    assert json.loads((clipped / "policy" / "config.json").read_text())["initialiser"]["arguments"]["alter"] == {
        "piece": "SignedGuess",
        "arguments": {"entries": [1], "magnitude": 1.0},
    }


def np_pair(normaliser: Any) -> Any:
    import torch

    return torch.stack([normaliser.low, normaliser.high])


def trained(folder: Path, **changes: Any) -> Path:
    config = ImitationConfig(
        network="residual_mlp:width=8,depth=1",
        demonstrations=4,
        steps=2,
        batch=4,
        evaluation_episodes=1,
        evaluation_steps=2,
        videos=0,
    )
    config = replace(config, **changes)
    with Run.create(folder, system="imitation", config=config_to_dict(config), seed=0) as run:
        train_imitation(config, run)
    return folder


def test_a_base_of_ones_own_acts_also_a_flow(tmp_path: Path) -> None:
    base = trained(
        tmp_path / "base", head="denoiser:predicts=velocity", noise_schedule="linear", sampler="flow_euler:steps=3"
    )
    flow = {"base": str(base), "sampler": "flow_euler:steps=3", "levels": (0.9, 1.0)}
    folder = acted(tmp_path / "flow", **flow)
    assert weights(folder) == weights(base)
    assert all(e["calls"] == 3 + e["steps"] - 1 for e in episodes(folder))
    with pytest.raises(UsageError, match="variance-preserving"):
        estimate(replace(TINY, **flow), folder, states=5)
    with pytest.raises(UsageError, match="trained in pillar"):
        acted(tmp_path / "elsewhere", **flow, env="ring")
    mean = trained(tmp_path / "mean", head="regression")
    with pytest.raises(UsageError, match="does not denoise"):
        acted(tmp_path / "no", base=str(mean))


def test_estimate_and_latency_look_at_a_finished_run(tmp_path: Path) -> None:
    folder = acted(tmp_path / "run", disturbance="displaced:at=3", delay=1)
    found = estimate(TINY, folder, states=20)
    assert found["states"] <= 20
    assert [row["level"] for row in found["curve"]] == [0, 1, 2, 3, 5, 7]
    assert [row["dim"] for row in found["dims"]] == [0, 1]
    assert all(row["contraction"] >= 0 for row in found["curve"])
    assert found == estimate(TINY, folder, states=20)
    table = latency(TINY, folder, decisions=3)
    assert table["batch"] == 1
    rows = {row["how"]: row for row in table["latency"]}
    assert len(rows) == 3
    assert rows["in full, 1 action"]["calls_per_decision"] == 10
    assert rows["in full, 8 actions"]["calls_per_action"] == pytest.approx(10 / 8, rel=0.3)
    with pytest.raises(UsageError, match="at least 2 states"):
        estimate(TINY, folder, states=1)
    with pytest.raises(UsageError, match="no finished run"):
        estimate(TINY, tmp_path / "nowhere")


def test_short_lists_are_the_papers() -> None:
    assert [short_list(k) for k in (0, 1, 3, 5, 7)] == [[0], [1, 0], [3, 1, 0], [5, 3, 1, 0], [7, 5, 3, 1, 0]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": (3, 1)}, "last level must be 0"),
        ({"levels": (12, 0)}, "within 0 to 9"),
        ({"levels": (0, 3)}, "fall strictly"),
        ({"n_action_steps": 8, "chunk_size": 12}, "leave nothing to start the next from"),
        ({"start": "renoised", "restart": "jump"}, "--start shifted"),
        ({"restart": "jump", "restart_quantile": 1.5}, "above 0 and below 1"),
        ({"disturbance": "slip"}, "pick-place"),
        ({"disturbance": "displaced:how=3"}, "displaced:at=STEP"),
        ({"env": "none"}, "--env"),
        ({"base": "nowhere"}, "finished run"),
        ({"base": "epoch=0550.ckpt"}, "pickled checkpoint"),
        ({"binary_dims": (2,), "gripper": "plain"}, "count from 0"),
        ({"binary_dims": (2,)}, "count from 0"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        acted(tmp_path / "run", **({"chunk_size": 16} | changes))
    assert said in str(caught.value)
