"""A policy that sees videos: from a LeRobot data set through the command line to a policy that acts elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="reading LeRobot videos needs the extra robots")
pytest.importorskip("pyarrow", reason="reading LeRobot tables needs the extra robots")

from tests.data.formats.lerobot_files import picture, write_lerobot

import pilotage
from pilotage.cli import main

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "run diffusion-mlp --env none --encoder image:widths=16|16|32|32,features=8,keypoints=4 --cameras top "
    "--network residual_mlp:width=16,depth=1 --sampler ddim:steps=2 --steps 2 --batch 4 --chunk-size 8 "
    "--n-action-steps 4 --log-every 1 --validation 0.34"
)
ACTS = """
import json, sys
import numpy as np
import pilotage

seen = np.load(sys.argv[2])
policy = pilotage.load(sys.argv[1])
policy.reset([0, 5], seeds=[3, 4])
print(json.dumps([policy.act({"state": s, "image/top": p}, [0, 5]).tolist() for s, p in zip(seen["s"], seen["p"])]))
"""


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on three short episodes filmed as mp4."""
    place = tmp_path_factory.mktemp("image-policy")
    data = write_lerobot(place / "set", [6, 9, 7], [0, 0, 1])
    assert main([*WORDS.split(), "--data", str(data), "--out", str(place / "run")]) == 0
    return place / "run"


def observations(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """States [steps, 2, 3] and pictures [steps, 2, 3, H, W] in [0, 1] of two episodes side by side."""
    states = [[[episode, step, 1000.0 * episode + step] for episode in (0, 1)] for step in range(steps)]
    pixels = np.array([[picture(episode, step) for episode in (0, 1)] for step in range(steps)])
    return np.array(states, np.float32), np.moveaxis(pixels, -1, 2).astype(np.float32) / 255


def test_a_policy_learnt_from_videos_acts_the_same_in_a_fresh_process(learnt: Path, tmp_path: Path) -> None:
    states, pictures = observations(5)
    np.savez(tmp_path / "seen.npz", s=states, p=pictures)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ACTS, str(learnt), str(tmp_path / "seen.npz")]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert there.returncode == 0, there.stderr
    policy = pilotage.load(learnt)
    policy.reset([0, 5], seeds=[3, 4])
    here = [policy.act({"state": s, "image/top": p}, [0, 5]).tolist() for s, p in zip(states, pictures, strict=True)]
    assert np.array(here).shape == (5, 2, 2)
    np.testing.assert_allclose(np.array(json.loads(there.stdout)), np.array(here), rtol=0, atol=1e-5)


def test_the_pictures_decide_what_it_does(learnt: Path) -> None:
    """The camera is no decoration: another picture of the same state gives another action from the same noise."""
    states, pictures = observations(1)
    policy = pilotage.load(learnt)
    actions = []
    for shown in (pictures[0], 1 - pictures[0]):
        policy.reset([0, 1], seeds=[3, 4])
        actions.append(policy.act({"state": states[0], "image/top": shown}, [0, 1]))
    assert not np.allclose(actions[0], actions[1], rtol=0, atol=1e-6)


def test_its_error_on_held_back_videos_is_measured(learnt: Path) -> None:
    metrics = [json.loads(line) for line in (learnt / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2]
    assert np.isfinite(metrics[-1]["validation/action_error"])


def test_a_camera_that_the_data_has_not_is_refused(
    learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = WORDS.replace("--cameras top", "--cameras front").split()
    assert main([*words, "--data", str(learnt.parent / "set"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "image/front" in said
    assert "image/top" in said
