from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pilotage.runs import Progress

ROOT = Path(__file__).resolve().parents[2]


def test_run_prints_the_result_and_where_it_is_kept(pilotage):
    code, out, err = pilotage("run", "fake-pilot", "--lr", "0.25")
    assert code == 0, err
    assert "accuracy  0.75" in out
    assert str(Path("runs/fake-pilot-add-0-1")) in out
    assert json.loads(Path("runs/fake-pilot-add-0-1/fake.json").read_text()) == {"steps": 3}


def test_run_record_holds_configuration_seed_and_command(pilotage):
    pilotage("run", "fake-pilot", "--steps=7", "--seed", "4", "--out", "here")
    record = json.loads(Path("here/run.json").read_text())
    assert record["system"] == "fake-pilot"
    assert record["seed"] == 4
    assert record["config"]["steps"] == 7
    assert record["command"] == "pilotage run fake-pilot --steps=7 --seed 4 --out here"


def test_a_finished_run_is_left_alone_and_the_next_gets_a_new_folder(pilotage):
    pilotage("run", "fake-pilot")
    code, out, _ = pilotage("run", "fake-pilot")
    assert code == 0
    assert "fake-pilot-add-0-2" in out


def test_an_interrupted_run_goes_on_in_its_folder_and_says_so(pilotage):
    code, _, err = pilotage("run", "fake-pilot", "--fail")
    assert code == 1
    assert "the loss is not finite at step 2" in err
    assert "Traceback" not in err
    code, out, _ = pilotage("run", "fake-pilot", "--fail")
    assert code == 1
    assert "runs/fake-pilot-add-0-1 was interrupted; going on where it stopped" in out
    assert not Path("runs/fake-pilot-add-0-2").exists()


def test_an_interrupted_run_of_another_configuration_is_not_touched(pilotage):
    pilotage("run", "fake-pilot", "--fail")
    code, out, _ = pilotage("run", "fake-pilot")
    assert code == 0
    assert "interrupted" not in out
    assert "fake-pilot-add-0-2" in out


def test_out_that_holds_another_run_is_refused(pilotage):
    pilotage("run", "fake-pilot", "--out", "here")
    code, _, err = pilotage("run", "fake-pilot", "--lr", "0.5", "--out", "here")
    assert code == 2
    assert "lr" in err


def test_a_resume_with_nothing_to_do_says_so_and_changes_nothing(pilotage):
    """S24."""
    pilotage("run", "fake-pilot", "--out", "here")
    before = {path: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()}
    code, out, _ = pilotage("run", "fake-pilot", "--out", "here", "--quiet")
    assert code == 0
    assert "nothing to do: here holds this run, finished" in out
    assert "accuracy" in out
    assert before == {path: path.read_bytes() for path in Path("here").rglob("*") if path.is_file()}
    code, out, err = pilotage("run", "fake-pilot", "--lr", "0.5", "--out", "here")
    assert (code, "nothing to do" in out) == (2, False)
    assert "lr" in err


def test_from_repeats_configuration_and_seed_with_changes(pilotage):
    pilotage("run", "fake-pilot", "--steps", "9", "--seed", "3", "--out", "first")
    code, _, err = pilotage("run", "--from", "first", "--lr", "0.5", "--out", "second")
    assert code == 0, err
    record = json.loads(Path("second/run.json").read_text())
    assert record["seed"] == 3
    assert record["config"]["steps"] == 9
    assert record["config"]["lr"] == 0.5
    pilotage("run", "--from", "first", "--seed", "8", "--out", "third")
    assert json.loads(Path("third/run.json").read_text())["seed"] == 8


def test_from_uses_the_function_that_the_run_kept(pilotage):
    mine = Path("mine.py")
    mine.write_text("def judge():\n    return 1\n")
    code, _, err = pilotage("run", "fake-pilot", "--judge", "mine.py:judge", "--out", "first")
    assert code == 0, err
    mine.unlink()
    code, _, err = pilotage("run", "--from", "first", "--out", "second")
    assert code == 0, err
    kept = json.loads(Path("second/run.json").read_text())["config"]["judge"]
    assert Path(kept.rpartition(":")[0]).read_text() == "def judge():\n    return 1\n"


def test_from_a_folder_that_is_no_run_is_a_usage_error(pilotage):
    Path("empty").mkdir()
    code, _, err = pilotage("run", "--from", "empty")
    assert code == 2
    assert "empty" in err
    assert "run.json" in err


def test_from_with_another_name_is_refused(pilotage):
    pilotage("run", "fake-pilot", "--out", "first")
    code, _, err = pilotage("run", "grpo", "--from", "first")
    assert code == 2
    assert "fake-pilot" in err


def test_dry_run_prints_steps_tokens_and_time_and_starts_nothing(pilotage):
    code, out, _ = pilotage("run", "fake-pilot", "--dry-run", "--steps", "60")
    assert code == 0
    assert "steps          60" in out
    assert "tokens         6,000" in out
    assert "expected time  2 min 00 s on one core" in out
    assert not Path("runs").exists()


def test_quiet_keeps_notes_and_progress_back(pilotage, monkeypatch):
    monkeypatch.setattr(Progress, "shown", True)
    _, out, err = pilotage("run", "fake-pilot", "--quiet")
    assert "pilotage report" not in out
    assert "accuracy" in out
    assert err == ""
    with Progress(1, "work", stream=sys.stderr) as progress:
        progress.advance(1)
    assert Progress.shown is False


def test_json_is_the_only_output_and_can_be_read(pilotage):
    _, out, _ = pilotage("run", "fake-pilot", "--json", "--out", "here")
    assert json.loads(out) == {"system": "fake-pilot", "seed": 0, "directory": "here", "accuracy": 0.501, "loss": 1.25}
    _, out, _ = pilotage("run", "fake-pilot", "--json", "--dry-run")
    assert json.loads(out)["tokens"] == 300


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("train", "fake-pilot"), "'run'"), (("run", "fake-pilot", "--learning-rate", "1"), "'--lr'")],
)
def test_words_of_other_libraries_lead_to_ours(pilotage, words, meant):
    code, _, err = pilotage(*words)
    assert code == 2
    assert f"did you mean {meant}" in err


def test_warnings_name_no_path_of_a_library():
    script = "import warnings\nfrom pilotage.cli import main\nmain(['--version'])\nwarnings.warn('rows are missing')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": "src"}, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == "warning: rows are missing\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "NAME is missing"),
        (("run", "fake-pilo"), "did you mean 'fake-pilot'"),
        (("run", "fake-pilot", "--lrr", "1"), "did you mean '--lr'"),
        (("run", "fake-pilot", "--lr", "fast"), "--lr: given 'fast', expected a number (Learning rate"),
        (("run", "fake-pilot", "--lr", "-1"), "expected a number above 0"),
        (("run", "fake-pilot", "--lr"), "--lr needs a value"),
        (("run", "fake-pilot", "--task", "sub"), "one of 'add', 'sort-of'"),
        (("run", "fake-pilot", "--track", "paper"), "'tensorboard'"),
        (("run", "fake-pilot", "--seed", "x"), "--seed: given 'x'"),
        (("run", "fake-pilot", "extra"), "unexpected argument 'extra'"),
    ],
)
def test_what_cannot_work_is_one_line_with_exit_code_2(pilotage, words, said):
    code, out, err = pilotage(*words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not Path("runs").exists()


def test_debug_shows_the_traceback(pilotage):
    code, _, err = pilotage("run", "fake-pilot", "--lr", "fast", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_help_lists_every_hyper_parameter_with_symbol_and_default(pilotage, fake):
    import dataclasses

    code, out, _ = pilotage("run", "fake-pilot", "--help")
    assert code == 0
    for field in dataclasses.fields(fake.Config):
        assert "--" + field.name in out
    assert "paper: η" in out
    assert "(default: 0.001)" in out
    assert "one of 'add', 'sort-of'" in out
    assert "--shuffle / --no-shuffle" in out


def test_help_puts_what_a_system_adds_before_what_it_shares(pilotage):
    _, out, _ = pilotage("run", "fake-pilot", "--help")
    assert out.index("--advantage") < out.index("Options that many systems share") < out.index("--levels")


def test_help_begins_with_the_group_in_which_the_system_chooses_most(fake):
    import dataclasses

    from pilotage.cli.help import option_groups

    changed = dataclasses.replace(fake.Config(), lr=0.5, steps=9)
    assert next(title for title, _ in option_groups(fake.Config(), "fake-pilot")) == "options of fake-pilot (Config)"
    assert next(title for title, _ in option_groups(changed, "fake-pilot")) == "Options that many systems share"


def test_help_lists_the_options_of_the_pieces_that_are_chosen(pilotage):
    code, out, err = pilotage("run", "fake-pilot", "--help")
    assert code == 0, err
    assert "options of the advantage piece mine, written --advantage mine:option=value" in out
    assert "the factor [a number] (default: 2)" in out
    _, out, _ = pilotage("run", "fake-pilot", "--advantage", "mine:scale=3", "--lr", "0.5", "--help")
    assert "the factor [a number] (default: 3)" in out
    assert "(default: 0.5)" in out
    code, _, err = pilotage("run", "fake-pilot", "--advantage", "mone", "--help")
    assert code == 2
    assert "did you mean 'mine'" in err
