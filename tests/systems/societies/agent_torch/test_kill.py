"""Real SIGKILLs of a calibration: killed and resumed it equals an undisturbed run, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runs.fork_server import Ask, served
from tests.runs.what_counts import what_counts

from pilotage.runs.checkpoints import listed

CITY = (
    "agent-torch --agents 300 --weeks 3 --horizon 1 --steps 5 --draws 1 --forecast-seeds 1 --reporting 1 "
    "--checkpoint-every 2 --quiet"
)
WORDS = {"aligned": CITY, "network": f"{CITY} --behaviour rule --parameters calibnn --num-validation-weeks 1"}
"""What is carried from step to step: answers and alignment; a network and the best step so far."""


@pytest.fixture(scope="module")
def play() -> Iterator[Ask]:
    with served(Path(__file__).with_name("kill_server.py")) as ask:
        yield ask


@pytest.mark.parametrize("name", WORDS)
def test_a_calibration_killed_and_resumed_equals_an_undisturbed_one(play: Ask, name: str, tmp_path: Path) -> None:
    words = WORDS[name].split()
    whole = play(tmp_path / "whole", words=words)
    assert whole["status"] == 0
    place = tmp_path / "killed"
    # Between the first checkpoint and the last one.
    assert play(place, words=words, kill_at=whole["calls"] * 4 // 5)["status"] == -9
    assert not (place / "result.json").exists()
    assert listed(place / "checkpoints"), "killed before anything was kept: the test would only begin anew"
    assert play(place, words=words)["status"] == 0
    assert play(place, words=words)["status"] == 3, "a finished run has nothing to do"
    files = ("curves.json", "calibrated.safetensors", *["rollouts.jsonl"] * (name == "aligned"))
    assert what_counts(place, *files) == what_counts(tmp_path / "whole", *files)
