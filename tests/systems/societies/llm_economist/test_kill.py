"""Real SIGKILLs of a tax game: killed and resumed it equals an undisturbed run, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runs.fork_server import Ask, served
from tests.runs.what_counts import what_counts

pytest.importorskip("pydantic", reason="workers played by a model need pilotage[llm]")

GAME = "llm-economist --agents 20 --years 5 --tax-year 3 --checkpoint-every 2 --satisfaction --quiet"
WORDS = {
    "learning": f"{GAME} --planner hill-climb",
    "elected": f"{GAME} --workers persona --planner elected",
    "model": f"{GAME} --workers llm --planner elected-llm --skill-bins 2 --draws 2 --transcripts 1",
}
"""What carries state over a tax year: bandits and a random planner, habits and a leader, a model's memory."""
FILES = ("rollouts.jsonl", "schedules.json")


@pytest.fixture(scope="module")
def play() -> Iterator[Ask]:
    with served(Path(__file__).with_name("kill_server.py")) as ask:
        yield ask


@pytest.mark.parametrize("name", WORDS)
def test_a_game_killed_twice_equals_an_undisturbed_one(play: Ask, name: str, tmp_path: Path) -> None:
    words = WORDS[name].split()
    whole = play(tmp_path / "whole", words=words)
    assert whole["status"] == 0
    place = tmp_path / "killed"
    # After the first checkpoint, and inside what writes a later one.
    assert play(place, words=words, kill_at=whole["calls"] // 2)["status"] == -9
    play(place, words=words, kill_at=whole["calls"] // 3)
    assert play(place, words=words)["status"] in (0, 3)
    assert play(place, words=words)["status"] == 3, "a finished run has nothing to do"
    assert what_counts(place, *FILES) == what_counts(tmp_path / "whole", *FILES)
