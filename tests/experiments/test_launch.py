"""pilotage.run and what stands behind it, with the small system of the command line's tests."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

import pilotage
from pilotage.core import registry as catalogue
from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.core.pieces import references_in
from pilotage.core.references import function_source
from pilotage.experiments.launch import default_directory, estimate_cost, recorded, run_record


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    from importlib.metadata import EntryPoint

    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "cli"))
    point = EntryPoint("fake", "fake_systems:SYSTEM", "pilotage.systems")
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [point] if group == "pilotage.systems" else [])
    monkeypatch.chdir(tmp_path)
    return catalogue.find_system("fake-pilot")


def my_advantage(reward):
    return reward - reward.mean()


def test_run_takes_a_function_and_keeps_its_source():
    result = pilotage.run("fake-pilot", advantage=my_advantage, lr=0.25, directory="here", seed=3)
    assert result.metrics["accuracy"] == 0.75
    assert result.run == "here"
    record = json.loads(Path("here/run.json").read_text())
    assert record["seed"] == 3
    (kept,) = record["config"]["functions"]
    assert "def my_advantage(reward):" in Path("here", kept["$source"]).read_text()


def test_a_finished_run_is_not_run_again():
    first = pilotage.run("fake-pilot", directory="here")
    Path("here/fake.json").unlink()
    assert pilotage.run("fake-pilot", directory="here") == first
    assert not Path("here/fake.json").exists()


def test_without_a_directory_every_run_gets_its_own():
    assert pilotage.run("fake-pilot").run == str(Path("runs/fake-pilot-add-0-1"))
    assert pilotage.run("fake-pilot").run == str(Path("runs/fake-pilot-add-0-2"))


def test_an_unfinished_run_of_the_same_configuration_is_found(fake):
    failing = configure(fake, ["--fail"])
    with pytest.raises(RuntimeError, match="step 2"):
        pilotage.run("fake-pilot", fail=True)
    assert default_directory(fake, failing, 0) == (Path("runs/fake-pilot-add-0-1"), True)
    assert default_directory(fake, fake.config, 0) == (Path("runs/fake-pilot-add-0-2"), False)
    assert default_directory(fake, failing, 1) == (Path("runs/fake-pilot-add-1-1"), False)


def test_a_run_is_recorded_so_that_it_can_be_made_again(fake):
    pilotage.run("fake-pilot", levels=[3], seed=5, directory="here")
    system, config, seed = recorded(Path("here"))
    assert (system, seed) == (fake, 5)
    assert config == configure(fake, levels=[3])


def test_a_run_whose_function_changed_is_not_gone_on_with(fake, monkeypatch):
    def fails_after_a_step(config, run):
        run.restore({})
        run.log(1, {"loss": 1.0})
        return fake_run(config, run)

    fake_run = fake.load_run()
    monkeypatch.setattr("fake_systems.SYSTEM", dataclasses.replace(fake, run=fails_after_a_step))
    mine = Path("mine.py")
    mine.write_text("def adv(reward):\n    return reward\n")
    with pytest.raises(RuntimeError):
        pilotage.run("fake-pilot", advantage="mine.py:adv", fail=True, directory="here")
    mine.write_text("def adv(reward):\n    return 2 * reward\n")
    for name in [name for name in sys.modules if name.startswith("pilotage_user_")]:
        del sys.modules[name]
    with pytest.raises(UsageError, match="holds another run"):
        pilotage.run("fake-pilot", advantage="mine.py:adv", fail=True, directory="here")


def test_references_are_found_inside_expressions():
    assert references_in("0.5*zscore+0.5*my.py:mine") == ["my.py:mine"]
    assert references_in("a/b/my.py:f then json:loads") == ["a/b/my.py:f", "json:loads"]
    for plain in (
        "zscore",
        "mvar:alpha=0.1",
        "lora:rank",
        "embedded:0.4M",
        "reasoning-gym:chain_sum",
        "0.04*kl:kind=k3",
    ):
        assert references_in(plain) == []


def test_the_record_of_a_mixture_keeps_every_source(fake):
    Path("my.py").write_text("def mine(reward):\n    return reward\n")
    record = run_record(configure(fake, ["--advantage", "0.5*zscore+0.5*my.py:mine"]))
    assert record["advantage"] == "0.5*zscore+0.5*my.py:mine"
    assert record["functions"] == [{"name": "my.py:mine", "source": Path("my.py").read_text()}]


def test_a_function_without_source_is_refused():
    with pytest.raises(UsageError, match="put the function into a file"):
        function_source(len)


def test_a_script_that_runs_when_it_is_imported_is_refused():
    Path("script.py").write_text("import pilotage\ndef judge():\n    pass\npilotage.run('fake-pilot', judge=judge)\n")
    with pytest.raises(UsageError, match="__main__"):
        pilotage.run("fake-pilot", judge="script.py:judge")


def test_a_forecast_is_the_systems_own_or_its_steps(fake):
    import dataclasses

    assert estimate_cost(fake, fake.config)["seconds"] == 6.0
    assert estimate_cost(dataclasses.replace(fake, actions={}), fake.config) == {"steps": 3}


def test_loading_a_policy_that_is_not_there_says_so():
    with pytest.raises(UsageError, match="no such folder"):
        pilotage.load("nowhere")
    Path("half").mkdir()
    with pytest.raises(UsageError, match="no finished run"):
        pilotage.load("half")
