from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pilotage.core.errors import UsageError
from pilotage.experiments import Job, Wiring
from pilotage.experiments.jobs import function_reference, place
from pilotage.experiments.worker import finish_job


def key(wiring: Wiring, root: Path, **cell: object) -> str:
    return place(Job(**{"arm": "a", "unit": 0, "command": "bandit", **cell}), wiring, root).key  # type: ignore[arg-type]


def test_a_cells_place_depends_on_what_decides_its_numbers(wiring: Wiring, tmp_path: Path) -> None:
    plain = key(wiring, tmp_path)
    assert key(wiring, tmp_path, command="bandit --lr 0.3") == plain, "the default, said aloud"
    assert key(wiring, tmp_path, arm="another name") == plain, "a training does not know its arm's name"
    measured = {"measure": "fake_system:measure_draw"}
    others = [
        key(wiring, tmp_path, command="bandit --lr 0.4"),
        key(wiring, tmp_path, unit=1),
        key(wiring, tmp_path, **measured),
        key(wiring, tmp_path, **measured, arm="b"),
        key(wiring, tmp_path, **measured, quick=True),
    ]
    assert len({plain, *others}) == 6


def test_a_cells_place_depends_on_the_code(wiring: Wiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(wiring, tmp_path)
    monkeypatch.setattr("pilotage.experiments.jobs.code_hash", lambda _: "other code")
    assert key(wiring, tmp_path) != before


def test_the_home_is_taken_from_the_environment(
    wiring: Wiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    placed = place(Job("a", 0, "bandit"), wiring)
    assert placed.directory == tmp_path / "home" / "cells" / placed.key


def test_a_finished_cell_is_taken_as_it_is(wiring: Wiring, tmp_path: Path) -> None:
    placed = place(Job("a", 0, "bandit --steps 3"), wiring, tmp_path)
    assert placed.outcome() is None
    first = finish_job(placed)
    again = finish_job(placed)
    assert again.metrics == first.metrics == placed.outcome().metrics  # type: ignore[union-attr]
    assert len((placed.run_directory / "starts.log").read_text().splitlines()) == 1


def test_a_measure_trains_through_a_cell_that_others_share(wiring: Wiring, tmp_path: Path) -> None:
    command = "bandit --steps 3"
    measured = finish_job(place(Job("slow", 4, command, "fake_system:measure_trained"), wiring, tmp_path))
    trained = place(Job("any", 4, command), wiring, tmp_path)
    assert trained.outcome() is not None
    assert measured.metrics == {
        "twice": 2 * trained.outcome().metrics["held_out/accuracy"],  # type: ignore[union-attr]
        "arm": 1.0,
        "unit": 4.0,
    }


def test_a_number_that_is_not_finite_is_stored_as_none(wiring: Wiring, tmp_path: Path) -> None:
    placed = place(Job("a", 1, "bandit", "fake_system:measure_nothing"), wiring, tmp_path)
    assert finish_job(placed).metrics == {"value": None}
    assert json.loads((placed.directory / "outcome.json").read_text())["metrics"] == {"value": None}


def test_what_cannot_work_is_refused_before_anything_runs(wiring: Wiring, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no system 'nobody'"):
        place(Job("a", 0, "nobody"), wiring, tmp_path)
    with pytest.raises(UsageError, match="an arm is empty"):
        place(Job("a", 0, " "), wiring, tmp_path)
    with pytest.raises(UsageError, match="cannot be imported by a worker"):
        function_reference(lambda *_: {})


def test_modules_that_answer_to_every_name_do_not_disturb(wiring: Wiring, tmp_path: Path) -> None:
    """torch.classes and torch.ops are such modules: a measure trains after torch was imported."""
    before = key(wiring, tmp_path)

    class Anything:
        def __getattr__(self, name: str) -> object:
            return object()

    sys.modules["answers_to_every_name"] = Anything()  # type: ignore[assignment]
    try:
        assert key(wiring, tmp_path) == before
    finally:
        del sys.modules["answers_to_every_name"]
