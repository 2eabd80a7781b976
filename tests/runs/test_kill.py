"""Real SIGKILLs: a run that was killed and resumed equals one that was not, byte for byte."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runs.fork_server import Ask as Train
from tests.runs.fork_server import served

from pilotage.runs.checkpoints import listed
from pilotage.runs.metrics import read_lines

STEPS = 12


@pytest.fixture(scope="module")
def train() -> Iterator[Train]:
    with served(Path(__file__).with_name("toy_training.py"), steps=STEPS) as ask:
        yield ask


@pytest.fixture(scope="module")
def undisturbed(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run from beginning to end, and the number of calls by which it changed the disk."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    answer = train(directory)
    assert answer["status"] == 0
    assert answer["calls"] > 50
    return directory, answer["calls"]


def what_counts(directory: Path) -> dict[str, Any]:
    """Everything of a run that must not depend on kills: all but clocks and the lengths of their file."""
    newest = listed(directory / "checkpoints")
    files = ["metrics.jsonl", "rollouts.jsonl", "result.json", "metrics.json", "journals/verdicts.jsonl"]
    tensors = [str(path.relative_to(directory) / "tensors.safetensors") for _, path in newest]
    found: dict[str, Any] = {name: (directory / name).read_bytes() for name in files + tensors}
    found["state"] = [json.loads((path / "state.json").read_text())["state"] for _, path in newest]
    found["steps timed"] = [record["step"] for record in read_lines(directory / "timing.jsonl")]
    found["events"] = [r for r in read_lines(directory / "events.jsonl") if r["step"] is not None]
    return found


def left_behind(directory: Path) -> list[str]:
    return [str(path) for path in directory.rglob(".*")]


def resume_until_done(train: Train, directory: Path) -> None:
    assert train(directory)["status"] == 0
    assert train(directory)["status"] == 3, "a finished run has nothing to do"


def killed_at_random(train: Train, undisturbed: Path, directory: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    done = number = 0
    span = 0.25
    while done < kills:
        place = directory / f"{number}"
        number += 1
        while done < kills:
            status = train(place, kill_after=draw.uniform(0, span))["status"]
            if status == 0:
                span *= 0.8
                break
            assert status in (-9, 3), "died of something else than the kill"
            done += status == -9
            if status == 3:
                break
        if train(place)["status"] == 0:
            assert train(place)["status"] == 3
        assert what_counts(place) == what_counts(undisturbed)


def test_killed_at_20_random_moments_equals_undisturbed(
    train: Train, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    killed_at_random(train, undisturbed[0], tmp_path, kills=20, seed=0)


@pytest.mark.slow
def test_killed_at_200_random_moments_equals_undisturbed(
    train: Train, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    killed_at_random(train, undisturbed[0], tmp_path, kills=200, seed=1)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_call_that_changes_the_disk_equals_undisturbed(
    train: Train, undisturbed: tuple[Path, int], tmp_path: Path, stride: int
) -> None:
    """Points inside the creation, the saves and the end, each half-written line and half-removed folder. The saves
    are alike, so that a stride that shares no factor with their length meets all kinds of points."""
    directory, calls = undisturbed
    expected = what_counts(directory)
    for point in [*range(1, calls, stride), calls]:
        place = tmp_path / str(point)
        assert train(place, kill_at=point)["status"] == -9
        # Killed after result.json is in place, there is nothing left to do.
        assert train(place)["status"] in (0, 3)
        assert what_counts(place) == expected, f"killed at call {point}"
        assert left_behind(place / "checkpoints") == []


def test_killed_again_inside_the_resumption_equals_undisturbed(
    train: Train, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    directory, calls = undisturbed
    for second in (1, 4, 9, 14):
        place = tmp_path / str(second)
        assert train(place, kill_at=calls * 2 // 3)["status"] == -9
        assert train(place, kill_at=second)["status"] == -9
        resume_until_done(train, place)
        assert what_counts(place) == what_counts(directory)


def test_global_generators_change_nothing(train: Train, undisturbed: tuple[Path, int], tmp_path: Path) -> None:
    assert train(tmp_path / "run", disturb=True)["status"] == 0
    assert what_counts(tmp_path / "run") == what_counts(undisturbed[0])


def test_kept_are_the_newest_two_checkpoints(undisturbed: tuple[Path, int]) -> None:
    assert [step for step, _ in listed(undisturbed[0] / "checkpoints")] == [12, 9]
