"""The report of a run that is not finished says so, and why; the answer comes before the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_parser import Page
from synthetic import write_run

from pilotage.report import write_report
from pilotage.runs import Run


def report(directory: Path) -> str:
    return Page(write_report(directory).read_text()).text


def begin(directory: Path) -> Run:
    run = Run.create(directory, system="toy", config={}, seed=1)
    run.restore({})
    run.log(7, {"accuracy": 0.5})
    return run


def test_a_failed_run_says_why_and_at_which_step(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), begin(tmp_path / "r"):
        raise RuntimeError("the loss is\ud800 not finite")
    text = report(tmp_path / "r")
    assert "This run failed at step 7: RuntimeError: the loss is\ufffd not finite." in text
    assert "The same command goes on" in text


def test_a_run_that_was_stopped_or_killed_is_called_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begin(tmp_path / "stopped"):
        raise KeyboardInterrupt
    assert "interrupted at step 7, by the user" in report(tmp_path / "stopped")
    begin(tmp_path / "killed").close()
    assert "interrupted at step 7;" in report(tmp_path / "killed")


def test_a_run_at_work_is_called_that_and_a_finished_one_nothing(tmp_path: Path) -> None:
    with begin(tmp_path / "r") as run:
        assert "still at work, at step 7" in report(tmp_path / "r")
        run.finish({})
    assert "Not finished" not in report(tmp_path / "r")


def test_a_run_that_failed_and_then_finished_is_finished(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), begin(tmp_path / "r"):
        raise RuntimeError("no power")
    with Run.open(tmp_path / "r") as run:
        run.restore({})
        run.finish({"accuracy": 1.0})
    text = report(tmp_path / "r")
    assert "Not finished" not in text
    assert "no power" in text


def test_the_answer_comes_first_and_the_machine_last(tmp_path: Path) -> None:
    write_run(tmp_path / "r", "grpo", 0.05, 0)
    sections = [name for name in Page(write_report(tmp_path / "r").read_text()).ids if "-" not in name]
    order = [name for name in sections if name in ("final", "curves", "events", "what", "configuration", "where")]
    assert order == ["final", "curves", "events", "what", "configuration", "where"]


def test_broken_characters_in_what_a_run_wrote_do_not_break_its_report(tmp_path: Path) -> None:
    write_run(tmp_path / "r", "grpo", 0.05, 0, scripted_components=["half \ud83d and \x1b[31m"])
    with (tmp_path / "r" / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 1, "prompt": "\\ud800", "completion": "a \\udc00", "reward": 1.0, "level": 9}\n')
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 500, "odd\\ud800\\u0007": 1.0}\n{"step": 501, "odd\\ud800\\u0007": 2.0}\n')
    assert "half \ufffd and" in report(tmp_path / "r")
