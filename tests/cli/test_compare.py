from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

import pilotage as package
from pilotage import experiments
from pilotage.cli.compare import read_arms
from pilotage.core.errors import UsageError


@pytest.fixture
def asked(monkeypatch):
    """Stands in for pilotage.experiments and remembers what it was asked."""
    calls = []

    def compare(arms, seeds, **options):
        calls.append((arms, seeds, options))
        table = [{"arm": label, "accuracy": 0.5, "interval": "[0.4, 0.6]"} for label in arms]
        return SimpleNamespace(
            directory=Path("runs/c"),
            report=Path("runs/c/report.html"),
            rows=table,
            sentences=["nobody knows"],
            notes=[],
            made=[],
        )

    monkeypatch.setattr(experiments, "compare", compare)
    monkeypatch.setattr("pilotage.experiments.comparison.compare", compare)
    return calls


def test_what_follows_the_dashes_goes_to_every_arm_and_an_arm_wins(pilotage, asked):
    code, out, err = pilotage(
        "compare",
        "fake-pilot",
        "fake-pilot --lr 0.5",
        "--workers",
        "1",
        "--",
        "--task",
        "add",
        "--seeds",
        "3",
        "--lr",
        "0.1",
    )
    assert code == 0, err
    arms, seeds, options = asked[0]
    assert arms == {
        "fake-pilot": "fake-pilot --task add --lr 0.1",
        "fake-pilot --lr 0.5": "fake-pilot --task add --lr 0.1 --lr 0.5",
    }
    assert seeds == [0, 1, 2]
    assert options == {"workers": 1, "higher_is_better": True}
    assert "nobody knows" in out
    assert "runs/c/report.html" in out
    assert "[0.4, 0.6]" in out


def test_options_of_compare_are_accepted_before_and_after_the_dashes():
    before, _ = read_arms(["a", "b", "--seeds", "2", "--metric", "m", "--out", "o"])
    after, arms = read_arms(["a", "b", "--", "--seeds", "2", "--metric=m", "--x", "1", "--out", "o"])
    assert before == after
    assert arms == {"a": "a --x 1", "b": "b --x 1"}


def test_quotes_inside_an_arm_survive():
    _, arms = read_arms(['a --advantage "0.5*x + 0.5*y"', "b"])
    assert shlex.split(arms['a --advantage "0.5*x + 0.5*y"']) == ["a", "--advantage", "0.5*x + 0.5*y"]


def test_negative_values_and_switches_stay_with_their_option():
    _, arms = read_arms(["a", "b", "--", "--shift", "-0.5", "--flag", "--seeds", "1"])
    assert arms["a"] == "a --shift -0.5 --flag"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "at least two"),
        (["a", "a"], "given twice"),
        (["a", "b", "--task", "add"], "stands after --"),
        (["a", "b", "--", "c"], "only options"),
        (["a", "b", "--seeds", "0"], "at least 1"),
        (["a", "'b"], "cannot be read"),
        (["a", "--b 3"], "no option of compare"),
        (["a", ""], "has no name"),
    ],
)
def test_what_cannot_work_says_why(words, said):
    with pytest.raises(UsageError, match=said):
        read_arms(words)


def test_an_arm_that_cannot_work_is_named_before_anything_starts(pilotage, asked):
    code, _, err = pilotage("compare", "fake-pilot", "fake-pilot --lrr 1")
    assert code == 2
    assert "fake-pilot --lrr 1" in err
    assert "did you mean '--lr'" in err
    assert asked == []


def test_dry_run_adds_up_the_time_of_all_arms_and_seeds(pilotage, asked):
    code, out, _ = pilotage(
        "compare", "fake-pilot", "fake-pilot --lr 0.5", "--seeds", "4", "--dry-run", "--", "--steps", "10"
    )
    assert code == 0
    assert "together 2 min 40 s of one core" in out  # 2 arms × 4 seeds × 20 s
    assert asked == []


def test_python_compare_takes_names_or_a_mapping(asked):
    package.compare(["grpo", "bnpo --lr 1"], seeds=2)
    package.compare({"mine": "grpo"}, seeds=[5, 7], metric="m")
    (named, first, _), (mapped, second, options) = asked
    assert (named, first) == ({"grpo": "grpo", "bnpo --lr 1": "bnpo --lr 1"}, [0, 1])
    assert (mapped, second, options["metric"]) == ({"mine": "grpo"}, [5, 7], "m")
