"""Functions typed into scripts, `python -c`, standard input and cells, in runs, rewards and comparisons."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pilotage
from pilotage.core import registry as catalogue
from pilotage.core.configuration import code_fields, config_to_options, configure, field_types
from pilotage.core.errors import UsageError
from pilotage.core.pieces import resolve, user_functions
from pilotage.core.registry import all_pieces, all_systems, find_system
from pilotage.experiments.comparison import arm_commands, check_metric, unequal_samples
from pilotage.experiments.launch import run_record
from pilotage.training.language.config import TextConfig

ROOT = Path(__file__).resolve().parents[2]
FAKE = f"""
import sys
from importlib.metadata import EntryPoint
from pilotage.core import registry
sys.path.insert(0, {str(ROOT / "tests" / "cli")!r})
point = EntryPoint("fake", "fake_systems:SYSTEM", "pilotage.systems")
registry.entry_points = lambda group: [point] if group == "pilotage.systems" else []
import pilotage
"""
FUNCTION = """
FACTOR = 3
def tripled(reward):
    return FACTOR * reward
result = pilotage.run("fake-pilot", advantage=tripled, directory="here")
print(result.metrics["loss"])
"""
TINY = (
    "tiny = dict(task='add', difficulties=[1], num_train_prompts=8, pretrain_to_accuracy=0.0, prompts_per_step=2, "
    "group_size=2, max_tokens=4, steps=1, evaluate_every=0, evaluation_prompts=2, evaluation_samples=1)\n"
)


def python(way: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a text as a script, by `python -c`, or on standard input."""
    if way == "script":
        (folder / "mine.py").write_text(text)
    arguments = {"script": ["mine.py"], "-c": ["-c", text], "stdin": ["-"]}[way]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PILOTAGE_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=text if way == "stdin" else None,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("way", ["script", "-c", "stdin"])
def test_a_function_works_wherever_it_was_typed(way, tmp_path):
    done = python(way, FAKE + FUNCTION, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "1.25"), done.stderr
    record = json.loads((tmp_path / "here" / "run.json").read_text())["config"]
    if way == "script":
        assert record["advantage"] == f"{tmp_path.resolve()}/mine.py:tripled"
        return
    assert re.fullmatch(r"session:tripled_[0-9a-f]{8}", record["advantage"])
    (kept,) = record["functions"]
    if way == "-c":  # the command line holds the text
        text = (tmp_path / "here" / kept["$source"]).read_text()
        assert "FACTOR = 3" in text
        assert f"{record['advantage'].partition(':')[2]} = tripled" in text
    else:
        assert "could not be kept" in kept["not_kept"]
        assert "could not be kept" in (tmp_path / "here" / "events.jsonl").read_text()


def test_functions_of_a_session_train_score_and_compare_in_other_processes(tmp_path):
    text = f"""
import pilotage
{TINY}
def signed(reward):
    return (reward - reward.mean()).sign()

def ones(text, item):
    return float(text.count("1"))

config = pilotage.config("grpo", advantage=signed, reward=ones, group_size=4)
comparison = pilotage.compare({{"a": "grpo", "b": config}}, seeds=1, metric="held_out/accuracy", **tiny)
print(list(comparison.metrics), len(comparison.notes), comparison.curves()["arm"].unique().tolist())
print(comparison.table.shape, type(comparison.plot()).__name__, "<td>b</td>" in comparison._repr_html_())
print(str(comparison.policy("b")).splitlines()[1])
"""
    done = python("stdin", text, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "['a', 'b'] 1 ['a', 'b']"
    assert lines[1] == "(2, 5) Figure True"
    assert lines[2].startswith("LlamaForCausalLM with ")
    assert "a on 4, b on 8" in done.stderr
    assert "a on 4, b on 8" in next(tmp_path.glob("runs/compare-*/report.html")).read_text()


def test_text_that_looks_like_code_is_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("setup.py").write_text("raise SystemExit('executed')\n")
    for template in ("Write it like setup.py:main {question}", "json:object {question}", "setup.py:main"):
        config = configure(find_system("grpo"), ["--template", template])
        assert user_functions(config) == []
        assert run_record(config)["template"] == template
        assert "functions" not in run_record(config)


def test_every_option_that_chooses_a_piece_is_of_a_type_that_says_so():
    slots = set(all_pieces())
    for system in all_systems():
        kind = type(system.config)
        named = {field for field in field_types(kind) if getattr(kind, "slots", {}).get(field, field) in slots}
        texts = {field for field, type_ in field_types(kind).items() if type_ is str}
        assert named & texts <= code_fields(kind), system.name
    assert "template" not in code_fields(TextConfig)


def test_a_configuration_is_a_command_line():
    mine = pilotage.config("grpo", steps=7, difficulties=(1, 2), chat=False, lr=0.01, template="")
    assert configure(find_system("grpo"), config_to_options(mine.values, mine.system.config)) == mine.values
    assert mine.command == "grpo --lr 0.01 --difficulties 1,2 --no-chat --steps 7"
    assert mine.options == {"lr": 0.01, "difficulties": (1, 2), "chat": False, "steps": 7}
    assert mine.replace(steps=8).values.steps == 8
    assert repr(mine).startswith("pilotage.config('grpo', lr=0.01")
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        pilotage.config("grpo", stepps=3)


def test_options_of_all_arms_stand_before_those_of_one():
    arms = arm_commands({"a": "grpo --steps 5", "b": pilotage.config("bnpo", lr=0.5)}, {"steps": 9})
    assert arms == {"a": "grpo --steps 9 --steps 5", "b": "bnpo --steps 9 --lr 0.5"}
    assert arm_commands(["grpo", pilotage.config("grpo", steps=2)], {}) == {
        "grpo": "grpo",
        "grpo --steps 2": "grpo --steps 2",
    }
    with pytest.raises(UsageError, match="twice"):
        arm_commands(["grpo", pilotage.config("grpo")], {})
    with pytest.raises(UsageError, match="arm 'a'"):
        arm_commands({"a": "grpo"}, {"stepps": 1})


def test_systems_are_listed_by_family():
    assert "grpo" in pilotage.systems("reasoning")
    assert set(pilotage.systems("reasoning")) < set(pilotage.systems())


def test_an_unknown_metric_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match="did you mean 'held_out/accuracy'"):
        check_metric("held_out/acuracy", "a", find_system("grpo"))
    check_metric("held_out/accuracy/level_3", "a", find_system("grpo"))


def test_arms_with_other_numbers_of_samples_are_named():
    def plans(**configs):
        return {name: (catalogue.find_system("grpo"), config) for name, config in configs.items()}

    one, two = TextConfig(), TextConfig(group_size=16)
    assert unequal_samples(plans(a=one, b=one)) == ()
    assert "a on 192, b on 384" in unequal_samples(plans(a=one, b=two))[0]
    assert "in all" in unequal_samples(plans(a=one, b=TextConfig(steps=50)))[0]


def test_partials_and_objects_are_pieces():
    from functools import partial

    class Counting:
        writes = ("seen",)

        def __init__(self):
            self.calls = 0

        def __call__(self, reward):
            self.calls += 1
            return reward + self.calls

        def state_dict(self):
            return {"calls": self.calls}

    def scaled(reward, *, by=1):
        return reward * by

    given = Counting()
    piece = resolve("advantage", given)
    assert [piece({"reward": 1}.__getitem__) for _ in range(2)] == [2, 3]
    assert (piece.stateful.state_dict(), given.calls, piece.writes) == ({"calls": 2}, 0, ("seen",))
    assert resolve("advantage", partial(scaled, by=3))({"reward": 2}.__getitem__) == 6
    assert resolve("advantage", partial(Counting)).stateful is not None
