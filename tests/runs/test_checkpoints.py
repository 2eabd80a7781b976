"""Checkpoints: complete or skipped, and safe when the disk is full."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotage.core.errors import DiskFull, RunError, UsageError
from pilotage.runs import Run, checkpoints, read_lines
from pilotage.runs import state as state_files


def opened(directory: Path) -> Run:
    return Run.create(directory, system="toy", config={}, seed=1)


def three_steps(directory: Path) -> None:
    with opened(directory) as run:
        run.restore({})
        for step in (1, 2, 3):
            run.log(step, {"loss": step})
            run.log_event(step, "note", "x")
            run.save(step, {"a": {"weights": torch.full((100,), float(step))}})


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("how", ["missing", "cut", "altered", "empty"])
def test_a_broken_checkpoint_is_skipped_with_an_event_that_stays(tmp_path: Path, name: str, how: str) -> None:
    three_steps(tmp_path / "r")
    victim = tmp_path / "r" / "checkpoints" / "step-00000003" / name
    data = victim.read_bytes()
    spoiled = {"cut": data[:-7], "altered": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "empty": b""}
    if how == "missing":
        victim.unlink()
    else:
        victim.write_bytes(spoiled[how])
    for _ in range(2):
        with opened(tmp_path / "r") as run:
            state: dict[str, Any] = {"a": {}}
            assert run.restore(state) == 2
            assert state["a"]["weights"][0] == 2
    assert [line["step"] for line in read_lines(tmp_path / "r" / "metrics.jsonl")] == [1, 2]
    events = read_lines(tmp_path / "r" / "events.jsonl")
    assert [event["kind"] for event in events] == ["note", "note", "broken checkpoint", "broken checkpoint"]
    with opened(tmp_path / "r") as run:
        run.restore({"a": {}})
        run.save(3, {"a": {"weights": torch.zeros(1)}})
        assert run.restore({"a": {}}) == 3


def test_when_all_are_broken_nothing_is_thrown_away(tmp_path: Path) -> None:
    three_steps(tmp_path / "r")
    for _, path in checkpoints.listed(tmp_path / "r" / "checkpoints"):
        (path / "state.json").unlink()
    with opened(tmp_path / "r") as run:
        with pytest.raises(RunError, match=r"no checkpoint .* can be read"):
            run.restore({"a": {}})
        with pytest.raises(RunError, match="call restore"):
            run.log(1, {"loss": 1})
    assert len(read_lines(tmp_path / "r" / "metrics.jsonl")) == 3


def test_a_checkpoint_that_counts_more_lines_than_there_are_is_skipped(tmp_path: Path) -> None:
    three_steps(tmp_path / "r")
    metrics = tmp_path / "r" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-3])
    with opened(tmp_path / "r") as run:
        assert run.restore({"a": {}}) == 2
    assert "metrics.jsonl has" in read_lines(tmp_path / "r" / "events.jsonl")[-1]["text"]


def test_entries_that_do_not_match_are_refused_by_name(tmp_path: Path) -> None:
    three_steps(tmp_path / "r")
    with opened(tmp_path / "r") as run:
        with pytest.raises(UsageError, match=r"no 'aa' .did you mean 'a'"):
            run.restore({"a": {}, "aa": {}})
        with pytest.raises(UsageError, match="also holds a;"):
            run.restore({})


def test_a_value_that_cannot_be_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    three_steps(tmp_path / "r")
    with opened(tmp_path / "r") as run:
        run.restore({"a": {}})
        with pytest.raises(UsageError, match=r"state\.a\.bad"):
            run.save(4, {"a": {"bad": {1}}})
    assert sorted(os.listdir(tmp_path / "r" / "checkpoints")) == ["step-00000002", "step-00000003"]


def assert_safe(run: Run, error: DiskFull) -> None:
    folder = run.directory / "checkpoints"
    assert error.path == folder / "step-00000004"
    assert str(error.path) in str(error)
    assert "MiB are free" in str(error)
    assert sorted(os.listdir(folder)) == ["step-00000002", "step-00000003"]
    state: dict[str, Any] = {"a": {}}
    assert run.restore(state) == 3
    assert state["a"]["weights"][0] == 3


@pytest.mark.parametrize("where", ["tensors", "fsync", "rename"])
def test_a_full_disk_leaves_the_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    three_steps(tmp_path / "r")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(tmp_path / "r") as run:
        run.restore({"a": {}})
        target = {"tensors": (state_files, "save_file"), "fsync": (checkpoints, "sync")}
        place, name = target.get(where, (checkpoints, "replace_directory"))
        monkeypatch.setattr(place, name, full)
        with pytest.raises(DiskFull) as caught:
            run.save(4, {"a": {"weights": torch.ones(9)}})
        monkeypatch.undo()
        assert_safe(run, caught.value)


def test_a_real_limit_of_the_system_leaves_the_earlier_checkpoints(tmp_path: Path) -> None:
    """The system itself refuses to write on, half-way through the tensors (RLIMIT_FSIZE)."""
    three_steps(tmp_path / "r")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path / "r") as run:
        run.restore({"a": {}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            with pytest.raises(DiskFull) as caught:
                run.save(4, {"a": {"weights": torch.ones(200_000)}})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert_safe(run, caught.value)
