"""Links, folders and pipes where a run expects files, and a system that gives no more: a sentence, nothing lost."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from pilotage.core.errors import RunError, UsageError
from pilotage.runs import Run, checkpoints, read_lines
from pilotage.runs.reader import read_run


def opened(directory: Path) -> Run:
    return Run.create(directory, system="toy", config={}, seed=1)


def steps(directory: Path, *numbers: int) -> None:
    with opened(directory) as run:
        run.restore({"a": {}} if numbers[0] > 1 else {})
        for step in numbers:
            run.log(step, {"loss": step})
            run.save(step, {"a": {"weights": torch.full((100,), float(step))}})


def as_folder(path: Path) -> None:
    path.mkdir()


def as_link(path: Path) -> None:
    target = path.with_name("precious")
    target.write_text("of the user")
    path.symlink_to(target)


KINDS: dict[str, Callable[[Path], None]] = {"a folder": as_folder, "a symbolic link": as_link, "a pipe": os.mkfifo}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "rollouts.jsonl"])
def test_a_file_of_another_kind_is_refused_and_named(tmp_path: Path, name: str, kind: str) -> None:
    steps(tmp_path / "r", 1)
    (tmp_path / "r" / name).unlink()
    KINDS[kind](tmp_path / "r" / name)
    with pytest.raises(UsageError, match=f"{name} is {kind}, expected an ordinary file"):
        opened(tmp_path / "r")
    if kind == "a symbolic link":
        assert (tmp_path / "r" / "precious").read_text() == "of the user"
    elif name == "metrics.jsonl":
        with pytest.raises(UsageError, match=f"is {kind}"):
            read_run(tmp_path / "r")


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.json"])
def test_a_pipe_in_place_of_a_small_file_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    steps(tmp_path / "r", 1)
    (tmp_path / "r" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "r" / name)
    with pytest.raises(UsageError, match="is a pipe"):
        read_run(tmp_path / "r")
    if name != "result.json":
        with pytest.raises(UsageError, match="is a pipe"):
            opened(tmp_path / "r")


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("make", [os.mkfifo, as_folder])
def test_a_checkpoint_with_a_file_of_another_kind_is_skipped(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    steps(tmp_path / "r", 1, 2)
    victim = tmp_path / "r" / "checkpoints" / "step-00000002" / name
    victim.unlink()
    make(victim)
    with opened(tmp_path / "r") as run:
        assert run.restore({"a": {}}) == 1
    assert name in read_lines(tmp_path / "r" / "events.jsonl")[-1]["text"]


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_a_file_in_place_of_the_checkpoints_is_refused_instead_of_beginning_anew(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    steps(tmp_path / "r", 1)
    (tmp_path / "r" / "checkpoints").rename(tmp_path / "kept")
    make(tmp_path / "r" / "checkpoints")
    with pytest.raises(UsageError, match="checkpoints is no folder"):
        opened(tmp_path / "r")
    (tmp_path / "r" / "checkpoints").unlink()
    (tmp_path / "r" / "checkpoints").symlink_to(tmp_path / "kept")  # on another disk, say
    with opened(tmp_path / "r") as run:
        assert run.restore({"a": {}}) == 1


def test_a_checkpoint_that_is_a_link_is_read_and_its_removal_leaves_what_it_points_to(tmp_path: Path) -> None:
    steps(tmp_path / "r", 1)
    place = tmp_path / "r" / "checkpoints" / "step-00000001"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    steps(tmp_path / "r", 2, 3, 4)
    assert sorted(os.listdir(tmp_path / "r" / "checkpoints")) == ["step-00000003", "step-00000004"]
    assert checkpoints.read(tmp_path / "elsewhere").step == 1


def test_a_link_at_the_place_of_a_new_checkpoint_makes_way(tmp_path: Path) -> None:
    steps(tmp_path / "r", 1)
    (tmp_path / "r" / "checkpoints" / "step-00000002").symlink_to(tmp_path / "nowhere")
    with opened(tmp_path / "r") as run:
        assert run.restore({"a": {}}) == 1
        run.save(2, {"a": {}})
        assert run.restore({"a": {}}) == 2


def test_with_too_few_file_descriptors_the_last_checkpoint_stays_and_is_not_called_broken(tmp_path: Path) -> None:
    steps(tmp_path / "r", 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened(tmp_path / "r") as run:
        run.restore({"a": {}})
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(RunError, match="ulimit -n") as saving:
                run.save(2, {"a": {"weights": torch.ones(9)}})
            with pytest.raises(RunError, match="ulimit -n") as restoring:
                run.restore({"a": {}})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert not isinstance(restoring.value, checkpoints.BrokenCheckpoint)
        assert "untouched" in str(saving.value)
        assert run.restore({"a": {}}) == 1
    opened(tmp_path / "r").close()
    assert os.listdir(tmp_path / "r" / "checkpoints") == ["step-00000001"]
    assert read_lines(tmp_path / "r" / "events.jsonl") == []


def test_a_checkpoint_that_does_not_fit_into_memory_is_not_skipped_for_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(tmp_path / "r", 1, 2)

    def small(_: Any) -> None:
        raise SafetensorError("I/O error: Cannot allocate memory (os error 12)")

    monkeypatch.setattr(checkpoints, "load_file", small)
    with opened(tmp_path / "r") as run, pytest.raises(OSError, match="allocate") as caught:
        run.restore({"a": {}})
    assert caught.value.errno == errno.ENOMEM
    monkeypatch.undo()
    with opened(tmp_path / "r") as run:
        assert run.restore({"a": {}}) == 2


def test_a_write_that_runs_out_of_memory_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(tmp_path / "r", 1)

    def small(*_: Any) -> None:
        raise MemoryError

    with opened(tmp_path / "r") as run:
        run.restore({"a": {}})
        monkeypatch.setattr(checkpoints, "save_tensors", small)
        with pytest.raises(MemoryError):
            run.save(2, {"a": {}})
        assert run.restore({"a": {}}) == 1
    assert os.listdir(tmp_path / "r" / "checkpoints") == ["step-00000001"]
