"""The journal: answers stay, through kills, and the first one stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotage.core.errors import RunError, UsageError
from pilotage.runs import Journal, Run


def test_answers_are_replayed_by_the_next_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.put("a", {"score": 1.5, "why": [None, "é\ud800"], "inf": float("inf")})
    journal.put("none", None)
    again = Journal(tmp_path / "j.jsonl")
    assert again.get("a") == {"score": 1.5, "why": [None, "é\ud800"], "inf": float("inf")}
    assert "none" in again
    assert again.get("none", 7) is None
    assert again.get("b", 7) == 7
    assert len(again) == 2


def test_the_first_answer_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.put("a", 1) == 1
    assert journal.put("a", 2) == 1
    assert Journal(tmp_path / "j.jsonl").put("a", 3) == 1


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_by_a_kill_is_dropped_and_the_next_one_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.put("a", 1)
    journal.put("b", "x" * 30)
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path)
    assert again.get("a") == 1
    assert "b" not in again
    again.put("c", 3)
    assert Journal(path).get("c") == 3


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "j.jsonl").write_text('{"key":"a","value":1}\n{"kee\n')
    with pytest.raises(RunError, match=r"j\.jsonl, line 2"):
        Journal(tmp_path / "j.jsonl")


def test_a_value_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the answer to 'a'"):
        Journal(tmp_path / "j.jsonl").put("a", object())


def test_going_back_to_a_checkpoint_keeps_the_answers(tmp_path: Path) -> None:
    def run() -> Run:
        return Run.create(tmp_path / "run", system="toy", config={}, seed=1)

    with run() as first:
        first.restore({})
        first.save(1, {})
        first.journal("verdicts").put("late", "first answer")
    with run() as second:
        assert second.restore({}) == 1
        assert second.journal("verdicts").put("late", "second answer") == "first answer"
