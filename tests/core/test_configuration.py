from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.configuration import config_from_dict, config_to_dict, configure, describe_type
from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class Options:
    lr: float = 1e-3
    """Learning rate (paper: η)."""
    group_size: int = 8
    """Answers per prompt."""
    task: str = "add"
    """What is learnt."""
    levels: tuple[int, ...] = (1, 2)
    """Levels."""
    window: tuple[float, str] = (0.2, "token")
    """Clip and level."""
    shuffle: bool = True
    """Whether to shuffle."""
    clip: float | None = None
    """Largest norm."""
    seed: int | None = 3
    """Seed."""
    mode: Literal["fast", "slow-but-sure", 3] = "fast"
    """How."""
    lambda_: float = 0.95
    """Decay (paper: λ)."""
    piece: str | Callable[..., Any] = "plain"
    """A piece."""
    judge: Callable[..., Any] | None = None
    """A function."""
    folder: Path = Path("x")
    """Where."""


OPTIONS = Options()


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--lr 1e-4", "lr", 1e-4),
        ("--lr=1e-4", "lr", 1e-4),
        ("--lr -1", "lr", -1.0),
        ("--group-size 16", "group_size", 16),
        ("--group_size 16", "group_size", 16),
        ("--group-size 1e3", "group_size", 1000),
        ("--task sort", "task", "sort"),
        ("--task a=b", "task", "a=b"),
        ("--levels 1,2,3", "levels", (1, 2, 3)),
        ("--levels 4", "levels", (4,)),
        ("--levels=", "levels", ()),
        ("--window 0.3,sequence", "window", (0.3, "sequence")),
        ("--no-shuffle", "shuffle", False),
        ("--no-shuffle --shuffle", "shuffle", True),
        ("--shuffle=false", "shuffle", False),
        ("--clip 0.5", "clip", 0.5),
        ("--clip 0.5 --clip none", "clip", None),
        ("--seed none", "seed", None),
        ("--mode slow-but-sure", "mode", "slow-but-sure"),
        ("--mode slow_but_sure", "mode", "slow-but-sure"),
        ("--mode 3", "mode", 3),
        ("--lambda 0.9", "lambda_", 0.9),
        ("--piece mvar:alpha=0.1", "piece", "mvar:alpha=0.1"),
        ("--piece json:loads", "piece", "json:loads"),
        ("--judge json:loads", "judge", json.loads),
        ("--judge none", "judge", None),
        ("--folder a/b", "folder", Path("a/b")),
        ("--lr 1 --lr 2", "lr", 2.0),
    ],
)
def test_an_option_sets_its_field_and_no_other(words, field, value):
    config = configure(OPTIONS, words.split())
    assert getattr(config, field) == value
    assert type(getattr(config, field)) is type(value)
    assert config == dataclasses.replace(OPTIONS, **{field: value})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--lr fast", r"--lr: given 'fast', expected a number \(Learning rate \(paper: η\)\)"),
        ("--group-size 1.5", "expected a whole number"),
        ("--group-size", r"--group-size needs a value: a whole number \(Answers per prompt\)"),
        ("--group-sizes 3", "did you mean '--group-size'"),
        ("--levels 1,x", "whole numbers separated by commas"),
        ("--window 1", "a number, text separated by commas"),
        ("--shuffle=maybe", "true or false"),
        ("--no-lr", "no option --no-lr"),
        ("--lr none", "expected a number"),
        ("--mode medium", "one of 'fast', 'slow-but-sure', 3"),
        ("--judge nowhere:f", "no module 'nowhere'"),
        ("--judge json:laods", "did you mean 'loads'"),
        ("--judge json:__name__", "expected a function"),
        ("--judge missing.py:f", "there is no file"),
        ("word", "where an option was expected"),
    ],
)
def test_a_bad_option_says_what_was_given_and_expected(words, said):
    with pytest.raises(UsageError, match=said):
        configure(OPTIONS, words.split())


def test_defaults_are_never_changed():
    configure(OPTIONS, ["--lr", "5"], task="other")
    assert Options() == OPTIONS


def test_python_values_win_over_options_and_are_checked():
    assert configure(OPTIONS, ["--lr", "5"], lr=2).lr == 2.0
    assert configure(OPTIONS, levels=[3, 4]).levels == (3, 4)
    assert configure(OPTIONS, piece=math.sqrt).piece is math.sqrt
    for wrong in (
        {"lr": "fast"},
        {"group_size": True},
        {"group_size": 1.0},
        {"levels": "12"},
        {"task": 3},
        {"mode": "x"},
    ):
        with pytest.raises(UsageError, match="expected"):
            configure(OPTIONS, **wrong)
    with pytest.raises(UsageError, match="did you mean 'group_size'"):
        configure(OPTIONS, groupsize=3)


def test_a_refusal_of_the_configuration_itself_is_a_usage_error():
    @dataclass(frozen=True)
    class Strict:
        steps: int = 1

        def __post_init__(self) -> None:
            if self.steps < 1:
                raise ValueError("steps: given 0, expected at least 1")

    with pytest.raises(UsageError, match="at least 1"):
        configure(Strict(), ["--steps", "0"])


@given(
    lr=st.floats(allow_nan=False),
    group_size=st.integers(),
    task=st.text(),
    levels=st.lists(st.integers()).map(tuple),
    clip=st.none() | st.floats(allow_nan=False),
    mode=st.sampled_from(["fast", "slow-but-sure", 3]),
    shuffle=st.booleans(),
)
def test_a_configuration_survives_json(**values):
    config = dataclasses.replace(OPTIONS, **values)
    text = json.dumps(config_to_dict(config), allow_nan=False)
    assert config_from_dict(OPTIONS, json.loads(text)) == config


def test_functions_are_written_as_names_and_found_again():
    config = configure(OPTIONS, judge=json.loads, piece=json.dumps)
    stored = config_to_dict(config)
    assert stored["judge"] == "json:loads"
    again = config_from_dict(OPTIONS, stored)
    assert again.judge is json.loads
    assert again.piece == "json:dumps"
    assert config_to_dict(again) == stored


def test_a_function_of_a_file_is_written_as_the_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def judge(x):\n    return 2 * x\n")
    config = configure(OPTIONS, ["--judge", f"{file}:judge"])
    assert config.judge(4) == 8
    assert config_to_dict(config)["judge"] == f"{file}:judge"
    assert config_from_dict(OPTIONS, config_to_dict(config)).judge is config.judge


def test_a_function_without_a_name_of_its_own_gets_one():
    from functools import partial

    stored = config_to_dict(configure(OPTIONS, judge=partial(print, 1)))
    assert stored["judge"].startswith("session:print_")
    assert config_from_dict(OPTIONS, stored).judge.args == (1,)


def test_unknown_keys_and_other_formats_are_refused():
    stored = config_to_dict(OPTIONS)
    with pytest.raises(UsageError, match="did you mean 'group_size'"):
        config_from_dict(OPTIONS, {**stored, "groupsize": 3})
    with pytest.raises(UsageError, match="format 7"):
        config_from_dict(OPTIONS, {**stored, "format": 7})
    with pytest.raises(UsageError, match="format None"):
        config_from_dict(OPTIONS, {"lr": 1.0})
    with pytest.raises(UsageError, match="--lr: given 'x'"):
        config_from_dict(OPTIONS, {**stored, "lr": "x"})


def test_missing_keys_keep_their_defaults():
    assert config_from_dict(OPTIONS, {"format": 1, "lr": 0.5}) == dataclasses.replace(OPTIONS, lr=0.5)


def test_types_are_described_in_words():
    assert describe_type(float | None) == "a number or none"
    assert describe_type(tuple[str, ...]) == "words separated by commas"
    assert describe_type(Literal["a", "b"]) == "one of 'a', 'b'"
