"""Folders of runs: their names, what lies in them already, and files that the run was given."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Command


def test_the_folder_bears_the_name_of_the_data_and_the_run_keeps_its_absolute_path_and_hash(
    pilotage: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exams.jsonl").write_text("{}\n")
    code, _, _ = pilotage("run", "fake-pilot", "--data", "exams.jsonl")
    assert code == 0
    about = json.loads((tmp_path / "runs" / "fake-pilot-exams-0-1" / "run.json").read_text())
    assert about["config"]["data"] == str(tmp_path / "exams.jsonl")
    assert len(about["inputs"]["data"]) == 64
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, error = pilotage("run", "--from", str(tmp_path / "runs" / "fake-pilot-exams-0-1"))
    assert code == 0, error
    again = json.loads((tmp_path / "elsewhere" / "runs" / "fake-pilot-exams-0-1" / "run.json").read_text())
    assert again["inputs"] == about["inputs"]


def test_data_that_changed_under_an_interrupted_run_is_refused(pilotage: Command, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("1\n")
    assert pilotage("run", "fake-pilot", "--data", "d.jsonl", "--out", "r")[0] == 0
    (tmp_path / "r" / "result.json").unlink()
    assert pilotage("run", "fake-pilot", "--data", "d.jsonl", "--out", "r")[0] == 0
    (tmp_path / "r" / "result.json").unlink()
    (tmp_path / "d.jsonl").write_text("2\n")
    code, _, error = pilotage("run", "fake-pilot", "--data", "d.jsonl", "--out", "r")
    assert code == 2
    assert "begun with other data" in error
    (tmp_path / "r" / "fake.json").unlink()  # now nothing is left that came out of the run
    assert pilotage("run", "fake-pilot", "--data", "d.jsonl", "--out", "r")[0] == 0


def test_overwrite_removes_the_run_of_the_folder(pilotage: Command, tmp_path: Path) -> None:
    assert pilotage("run", "fake-pilot", "--out", "r")[0] == 0
    code, _, error = pilotage("run", "fake-pilot", "--out", "r", "--lr", "0.1")
    assert (code, "lr was" in error) == (2, True)
    code, output, _ = pilotage("run", "fake-pilot", "--out", "r", "--lr", "0.1", "--overwrite")
    assert (code, "nothing to do" in output) == (0, False)
    assert json.loads((tmp_path / "r" / "run.json").read_text())["config"]["lr"] == 0.1
    assert pilotage("run", "fake-pilot", "--overwrite")[0] == 2


def test_a_run_that_failed_before_its_first_step_does_not_block_its_folder(pilotage: Command) -> None:
    assert pilotage("run", "fake-pilot", "--out", "r", "--fail")[0] == 1
    assert pilotage("run", "fake-pilot", "--out", "r")[0] == 0


def test_a_folder_without_permission_to_write_gives_one_sentence(
    pilotage: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    code, _, error = pilotage("run", "fake-pilot", "--out", "theirs/r")
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert "theirs/r cannot be read and written" in error
