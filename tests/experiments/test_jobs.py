from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import fake_system
import pytest

from pilotage.core.errors import UsageError
from pilotage.experiments import Job, ModuleNames
from pilotage.experiments.inputs import inputs_hash
from pilotage.experiments.jobs import function_reference, place
from pilotage.experiments.worker import finish_job
from pilotage.training.language.config import TextConfig


def key(modules: ModuleNames, root: Path, **job: object) -> str:
    return place(Job(**{"arm": "a", "seed": 0, "command": "bandit", **job}), modules, root).key  # type: ignore[arg-type]


def test_a_jobs_key_depends_on_what_decides_its_numbers(
    modules: ModuleNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = key(modules, tmp_path)
    assert key(modules, tmp_path, command="bandit --lr 0.3") == plain, "the default, stated"
    assert key(modules, tmp_path, arm="another name") == plain, "a training does not know its arm's name"
    measured = {"measure": "fake_system:measure_draw"}
    others = [
        key(modules, tmp_path, command="bandit --lr 0.4"),
        key(modules, tmp_path, seed=1),
        key(modules, tmp_path, **measured),
        key(modules, tmp_path, **measured, arm="b"),
        key(modules, tmp_path, **measured, quick=True),
    ]
    revised = dataclasses.replace(fake_system.BANDIT, revision=2)
    monkeypatch.setattr(fake_system, "BANDIT", revised)
    assert len({plain, *others, key(modules, tmp_path)}) == 7


def test_a_job_says_in_plain_words_what_it_is(modules: ModuleNames, tmp_path: Path) -> None:
    placed = place(Job("a", 3, "bandit --lr 0.4 --steps 50", "fake_system:measure_draw"), modules, tmp_path)
    assert placed.identity == {
        "system": "bandit",
        "revision": 1,
        "options": {"lr": 0.4},
        "seed": 3,
        "measure": "fake_system:measure_draw",
        "arm": "a",
    }


def test_the_home_is_taken_from_the_environment(
    modules: ModuleNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    placed = place(Job("a", 0, "bandit"), modules)
    assert placed.directory == tmp_path / "home" / "jobs" / placed.key


def test_a_finished_job_is_taken_as_it_is(modules: ModuleNames, tmp_path: Path) -> None:
    placed = place(Job("a", 0, "bandit --steps 3"), modules, tmp_path)
    assert placed.result() is None
    first = finish_job(placed)
    assert finish_job(placed) == first == placed.result()
    assert (first.made["commit"], first.made["processor"]) == ("0123abc", "Test Processor")
    assert len((placed.run_directory / "starts.log").read_text().splitlines()) == 1


def test_a_measure_trains_through_a_job_that_others_share(modules: ModuleNames, tmp_path: Path) -> None:
    command = "bandit --steps 3"
    measured = finish_job(place(Job("slow", 4, command, "fake_system:measure_trained"), modules, tmp_path))
    trained = place(Job("any", 4, command), modules, tmp_path).result()
    assert trained is not None
    twice = 2 * (trained.metrics["held_out/accuracy"] or 0)
    assert measured.metrics == pytest.approx({"twice": twice, "arm": 1.0, "seed": 4.0, "nearly": 1.0})


def test_a_number_that_is_not_finite_is_stored_as_none(modules: ModuleNames, tmp_path: Path) -> None:
    placed = place(Job("a", 1, "bandit", "fake_system:measure_nothing"), modules, tmp_path)
    assert finish_job(placed).metrics == {"value": None}
    assert json.loads((placed.directory / "result.json").read_text())["metrics"] == {"value": None}


def test_what_cannot_work_is_refused_before_anything_runs(modules: ModuleNames, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no system 'nobody'"):
        place(Job("a", 0, "nobody"), modules, tmp_path)
    with pytest.raises(UsageError, match="an arm is empty"):
        place(Job("a", 0, " "), modules, tmp_path)
    with pytest.raises(UsageError, match="cannot be imported by a worker"):
        function_reference(lambda *_: {})


def test_the_content_of_named_files_is_part_of_a_key(
    modules: ModuleNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "add").mkdir()
    (tmp_path / "some_package").mkdir()
    for name in ("some_package/__init__.py", "some_package/pieces.py", "mine.py", "add/data.json"):
        (tmp_path / name).write_text("")
    named = [
        TextConfig(advantage="0.5*zscore+0.5*mine.py:advantage"),
        TextConfig(advantage="some_package.pieces:f"),
        TextConfig(data=str(tmp_path / "add")),
        TextConfig(data="add/data.json"),
    ]
    assert not inputs_hash(TextConfig(advantage="pilotage.objectives.advantages:zscore"))
    assert not inputs_hash(TextConfig(template="write it like mine.py:advantage"))
    before = [inputs_hash(config) for config in named]
    assert all(before)
    for name in ("some_package/pieces.py", "mine.py", "add/data.json"):
        (tmp_path / name).write_text("a = 1")
    assert not set(before) & {inputs_hash(config) for config in named}
    before_key = key(modules, tmp_path, command="bandit --text add/data.json")
    (tmp_path / "add/data.json").write_text("a = 2")
    assert key(modules, tmp_path, command="bandit --text add/data.json") != before_key
