"""Reward functions of users: the arguments they may take, and what is said of those they may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilotage.core.errors import UsageError
from pilotage.rewards import Rewards, TooManyFailuresError, build_rewards, is_own, score_answers
from pilotage.types import Item

TASK = SimpleNamespace(name="mine", score=lambda item, text: float(text == item.answer))
ITEM = Item("1", "How long is a foot?", "12", "long", 3, {"unit": "inch", "tests": [1, 2]})
FUNCTIONS = """
from dataclasses import dataclass

def pair(text, item): return float(text == item.answer) + len(item.meta["unit"]) / 100
def other_names(a, b): return float(a == b.answer)
def answer_first(answer, item): return float(answer == item.answer)
def alone(completion): return len(completion) / 10
def strange_alone(s): return len(s) / 10
def named(completion, answer, unit): return float((completion, answer, unit) == ("12", "12", "inch"))
def reordered(unit, text, prompt, difficulty=0):
    return float((unit, text, prompt[:3], difficulty) == ("inch", "12", "How", 3))
def with_default(completion, missing=7): return float(missing)
def rest(completion, **columns): return float(columns == dict(
    prompt="How long is a foot?", answer="12", solution="long", difficulty=3, id="1", unit="inch", tests=[1, 2]))
def like_trl(prompts, completions, answer, **kwargs):
    rows = zip(prompts, completions, answer, kwargs["unit"])
    return [float((p[:3], c, a, u) == ("How", "12", "12", "inch")) for p, c, a, u in rows]
def only_completions(completions): return [len(c) / 10 for c in completions]
def scaled(text, item, *, scale=1.0): return scale

class Instance:
    def __init__(self, *, scale: float = 1.0): self.scale = scale
    def __call__(self, completion, answer): return self.scale * float(completion == answer)

def nothing(): return 1.0
def three(text, item, more): return 1.0
def unknown(completion, gold): return 1.0
def unknown_lists(prompts, completions, gold): return [1.0]
async def later(text, item): return 1.0
def string(text, item): return "good"
def silent(text, item): return None
def no_list(prompts, completions): return 1.0
def many(prompts, completions): return [1.0, 2.0]
not_callable = 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("my rewards") / "mine.py"
    path.write_text(FUNCTIONS)
    return path


def build(expression: str) -> Rewards:
    return build_rewards(expression, TASK, limit=10.0, columns=list(ITEM.meta))


GOOD = {
    "pair": 1.04,
    "other_names": 1.0,
    "answer_first": 1.0,
    "alone": 0.2,
    "strange_alone": 0.2,
    "named": 1.0,
    "reordered": 1.0,
    "with_default": 7.0,
    "rest": 1.0,
    "like_trl": 1.0,
    "only_completions": 0.2,
    "scaled:scale=3": 3.0,
    "Instance": 1.0,
    "Instance:scale=0.5": 0.5,
}


@pytest.fixture(scope="module")
def scores(file: Path) -> Iterator[dict[str, float]]:
    rewards = build("+".join(f"{file}:{name}" for name in GOOD))
    scored = score_answers(rewards, ["12"], [ITEM], None, failure_limit=1.0)
    yield dict(zip(GOOD, scored.scores[0].tolist(), strict=True))
    rewards.close()


@pytest.mark.parametrize("name", GOOD)
def test_functions_are_given_what_they_name(scores: dict[str, float], name: str) -> None:
    assert scores[name] == pytest.approx(GOOD[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "takes no argument.*expected .text, item"),
        ("three", "is given no more.*expected .text, item"),
        ("unknown", "is given no gold.*the columns of the data are unit, tests"),
        ("unknown_lists", "is given no gold"),
        ("later", "is an async function"),
        ("missing", "has no 'missing'"),
        ("not_callable", "is a int, expected a function"),
        ("scaled:scal=3", "no option 'scal'.*'scale'"),
        ("Instance:size=3", "no option 'size'"),
    ],
)
def test_functions_that_cannot_be_called_are_refused_before_anything_is_scored(
    file: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(f"{file}:{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("string", "a score must be a number or None, not str"),
        ("silent", "none: 2.*every reward abstained"),
        ("no_list", "expected a list with one score"),
        ("many", "expected a list with one score"),
    ],
)
def test_functions_that_return_no_score_end_the_run_with_what_they_returned(
    file: Path, name: str, message: str
) -> None:
    rewards = build(f"{file}:{name}")
    with pytest.raises(TooManyFailuresError, match=rf"(?s)2 of 2 answers could not be scored.*{message}"):
        score_answers(rewards, ["12", "13"], [ITEM, ITEM], None)
    rewards.close()


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ImportError('no such thing \\x1b[2J')\n")
    with pytest.raises(UsageError, match=r"broken.py:f cannot be loaded: ImportError: no such thing .x1b"):
        build(f"{broken}:f")


def test_rewards_of_this_package_are_told_from_others(file: Path) -> None:
    assert not is_own("exact+0.5*format:pattern='a:b'+overlong:maximum=3,buffer=1")
    assert is_own(f"exact+{file}:pair")
    assert is_own("package.module:function")


def test_a_reward_that_needs_no_answer_works_on_rows_without_one(file: Path) -> None:
    rewards: Any = build(f"{file}:alone")
    bare = Item("1", "Write a long word.", "")
    assert score_answers(rewards, ["lengthy"], [bare], None).total.tolist() == pytest.approx([0.7])
    rewards.close()
