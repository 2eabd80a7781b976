"""Rewards by expression: weights, abstentions, failures that never become zero, and what is refused."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.rewards import (
    Component,
    TooManyFailuresError,
    build_rewards,
    check_golds,
    overlong_penalty,
    score_answers,
)
from pilotage.types import Failed, Item, Rollouts, Score

HOSTILE = f"{Path(__file__).with_name('hostile.py')}:obey"


class Fixed:
    """A reward whose scores are given."""

    def __init__(self, name: str, scores: list[Any]) -> None:
        self.name, self.scores = name, scores

    def __call__(self, *_: Any) -> list[Score]:
        return self.scores


class Sums:
    """A task: the text must be the item's answer."""

    name = "sums"

    def score(self, item: Item, text: str) -> float:
        return float(text == item.answer)

    def partial(self, *_: Any) -> float:
        return 0.5

    def well_formed(self, _: Item, text: str) -> bool:
        return text.isdigit()


def items(count: int) -> list[Item]:
    return [Item(id=f"i{k}", prompt="", answer=str(k)) for k in range(count)]


def score_all(components: list[tuple[float, list[Any]]], **kwargs: float):
    count = len(components[0][1])
    parts = [Component(weight, Fixed(f"c{k}", scores)) for k, (weight, scores) in enumerate(components)]
    return score_answers(parts, ["text"] * count, items(count), None, **kwargs)


def test_the_total_is_the_weighted_sum() -> None:
    scored = score_all([(1.0, [1.0, 0.0]), (0.5, [1, True])])
    assert scored.total.tolist() == [1.5, 0.5]
    assert scored.scores.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert scored.total.dtype == scored.scores.dtype == np.float32
    assert scored.valid.all()
    assert scored.reasons == {}


def test_an_abstention_leaves_its_summand_out_and_all_abstaining_leaves_the_answer_out() -> None:
    scored = score_all([(1.0, [1.0, None, None]), (2.0, [None, 1.0, None])])
    assert scored.total[:2].tolist() == [1.0, 2.0]
    assert scored.valid.tolist() == [True, True, False]
    assert math.isnan(scored.total[2])
    assert scored.reasons == {"none": 1}


def test_a_failure_is_never_zero_and_is_counted_by_reason() -> None:
    scores = [1.0, Failed("timeout"), Failed("exception", "x"), float("nan"), float("inf"), 0.0]
    scored = score_all([(1.0, scores), (1.0, [1.0] * 6)], failure_limit=1.0)
    assert scored.valid.tolist() == [True, False, False, False, False, True]
    assert np.isnan(scored.total[1:5]).all()
    assert scored.total[[0, 5]].tolist() == [2.0, 1.0]
    assert scored.reasons == {"exception": 1, "nan": 2, "timeout": 1}


@given(st.lists(st.sampled_from([0.0, 1.0, None, Failed("timeout"), math.nan]), min_size=1, max_size=30))
def test_broken_scores_change_nothing_for_the_others(scores: list[Any]) -> None:
    sound = [s for s in scores if s is not None and not isinstance(s, Failed) and not math.isnan(s)]
    scored = score_all([(0.7, scores)], failure_limit=1.0)
    assert scored.total[scored.valid].tolist() == score_all([(0.7, sound)]).total.tolist() if sound else True
    assert scored.valid.sum() == len(sound)
    assert sum(scored.reasons.values()) == len(scores) - len(sound)


def test_past_the_limit_the_error_says_why_with_examples() -> None:
    scores = [Failed("timeout", "over 5 s"), Failed("exception", "KeyError: 'x'"), 1.0]
    with pytest.raises(TooManyFailuresError, match=r"2 of 3 answers.*exception: 1, timeout: 1.*50%") as caught:
        score_all([(1.0, scores)])
    assert "KeyError: 'x'" in str(caught.value)
    assert "'text'" in str(caught.value)
    assert score_all([(1.0, [*scores, 0.0])]).valid.sum() == 2


def test_no_answers_at_all_are_no_failure() -> None:
    scored = score_all([(1.0, []), (1.0, [])])
    assert scored.scores.shape == (0, 2)
    assert scored.total.shape == scored.valid.shape == (0,)


def test_a_reward_with_the_wrong_number_of_scores_is_an_error() -> None:
    with pytest.raises(ValueError, match="gave 1 scores for 2 answers"):
        score_answers([Component(1.0, Fixed("c", [1.0]))], ["a", "b"], items(2), None)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "names nothing"),
        ("exact++format", "cannot read the piece ''"),
        ("much*exact", "cannot read the piece 'much"),
        ("nan*exact", "cannot read the piece 'nan"),
        ("exakt", "did you mean .exact"),
        ("exact:maximum=3", "no option 'maximum'; it has none"),
        ("overlong:maximum=3", "needs buffer: write overlong:buffer="),
        ("overlong:maximum=3,buffer=4", "0 < buffer ≤ maximum"),
        ("overlong:maximum=x,buffer=4", "maximum='x', expected a whole number"),
        ("length:maximum=0", "at least 1 token"),
        ("format:pattern='('", "not a regular expression"),
        ("format:pattern=3", "pattern=3, expected text"),
        ("format:pattern='a',oops", "cannot read 'oops'"),
        ("absent.py:reward", "there is no file .*absent.py"),
        ("no_such_module_at_all:reward", "no module 'no_such_module_at_all'"),
        (HOSTILE.replace(":obey", ":obei"), "no 'obei' .did you mean 'obey'"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_do(expression: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_rewards(expression, Sums())


def test_a_task_without_grammar_or_partial_credit_says_what_to_use_instead() -> None:
    plain = SimpleNamespace(name="plain", score=lambda *_: 0.0)
    with pytest.raises(UsageError, match=r"'plain' cannot say 'well_formed'.*format:pattern"):
        build_rewards("format", plain)
    with pytest.raises(UsageError, match="use the reward 'exact'"):
        build_rewards("partial", plain)


@pytest.mark.parametrize(
    ("text", "score", "unfinished"),
    [
        ("<think>1? 2?</think>0", 1.0, 0),
        ("<think>0</think>1", 0.0, 0),
        ("<think>it is 0", 0.0, 1),
        ("<think>0</think>", 0.0, 1),
        ("0", 1.0, 0),
    ],
)
def test_what_follows_the_reasoning_is_scored(text: str, score: float, unfinished: int) -> None:
    rewards = build_rewards("exact+format+format:pattern='.*0.*'", Sums())
    scored = score_answers(rewards, [text], items(1), None)
    assert scored.scores[0, 0] == score
    assert scored.scores[0, 1] == 1.0 - unfinished
    assert scored.scores[0, 2] == float("0" in text), "a pattern sees the whole text"
    assert scored.unfinished == unfinished
    assert scored.valid.all()
    rewards.close()


def test_mathematics_reads_what_follows_the_reasoning() -> None:
    pytest.importorskip("math_verify")
    rewards = build_rewards("math", None, limit=20.0)
    texts = [
        "<think>6*7 is 42, but let me check that agai",
        r"<think>Maybe \boxed{42}? Wait, no, I should",
        r"<think>Maybe \boxed{41}? No.</think>The answer is \boxed{42}.",
        r"<think>Maybe \boxed{42}? No.</think>The answer is \boxed{41}.",
        "<think>Maybe 42? No.</think>\n\nThe answer is 41.",
        "<think>41? 43?</think>\n\n42",
        "<think>try # 42</think>",
        r"\boxed{41} or \boxed{42}",
        "I do not know. Numbers: 1 2 3 42",
    ]
    scored = score_answers(rewards, texts, [Item("g", "", "42")] * len(texts), None)
    assert scored.total.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert scored.unfinished == 3
    rewards.close()


def test_one_of_several_right_answers_is_enough_and_none_has_no_opinion() -> None:
    pytest.importorskip("math_verify")
    rewards = build_rewards("math", None, limit=20.0)
    choice = Item("g", "", "B", meta={"answers": ("B", "12", r"\frac{1}{2}")})
    texts = [r"\boxed{B}", "#12", "#13", "It is $0.5$.", "It is $0.6$."]
    scored = score_answers(rewards, [*texts, "#12"], [*[choice] * 5, Item("h", "", "")], None)
    np.testing.assert_array_equal(scored.total, [1.0, 1.0, 0.0, 1.0, 0.0, np.nan])
    assert scored.reasons == {"none": 1}
    rewards.close()


def test_gold_answers_that_cannot_be_read_are_named() -> None:
    pytest.importorskip("math_verify")
    golds = [
        "12",
        "1,300",
        r"\frac{1}{2}",
        "Evelyn Waugh",
        r"\frac{1}{",
        "",
        r"x^2+y^2=25",
        "see the figure on page 3, left",
    ]
    given = [Item(str(k), "", gold, meta={"place": f"file.jsonl, line {k + 1}"}) for k, gold in enumerate(golds)]
    rewards = build_rewards("format:pattern='.*'+math", None, limit=20.0)
    named = check_golds(rewards, given)
    assert [line.partition(":")[0] for line in named] == [f"file.jsonl, line {k}" for k in (5, 6, 8)]
    assert check_golds(build_rewards("exact", Sums()), given) == []
    rewards.close()


def test_the_task_s_own_scores_and_a_pattern() -> None:
    rewards = build_rewards("exact+0.5*partial+0.1*format+format:pattern='[0-1]+'", Sums())
    scored = score_answers(rewards, ["0", "x", "1"], items(3), None)
    assert scored.names == ("exact", "partial", "format", "format")
    np.testing.assert_allclose(scored.scores, [[1, 0.5, 1, 1], [0, 0.5, 0, 0], [0, 0.5, 1, 1]])
    rewards.close()


def test_a_task_that_raises_fails_the_answer_and_not_the_run() -> None:
    def score(_: Item, text: str) -> float:
        return 1 / len(text)

    rewards = build_rewards("exact", SimpleNamespace(name="odd", score=score))
    scored = score_answers(rewards, ["a", ""], items(2), None)
    assert scored.valid.tolist() == [True, False]
    assert scored.reasons == {"exception": 1}


def rollouts(lengths: list[int]) -> Rollouts:
    n, width = len(lengths), max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    zeros = torch.zeros(n, dtype=torch.int64)
    ids = torch.zeros(n, width, dtype=torch.int64)
    return Rollouts(ids[:, :1], mask[:, :1], ids, mask, zeros, zeros, zeros, torch.zeros(n, width))


def test_the_penalties_for_length_are_those_of_the_card() -> None:
    rewards = build_rewards("overlong:maximum=20,buffer=5+length:maximum=20", Sums())
    scored = score_answers(rewards, [""] * 4, items(4), rollouts([15, 17, 20, 21]))
    np.testing.assert_allclose(scored.scores[:, 0], [0.0, -0.4, -1.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(scored.scores[:, 1], [-0.75, -0.85, -1.0, -1.0], rtol=1e-6)
    assert overlong_penalty(np.array([0.0]), 20, 20).tolist() == [0.0]


def test_a_user_s_function_abstains_and_fails_in_workers() -> None:
    rewards = build_rewards(f"exact+2*{HOSTILE}", Sums(), workers=2, limit=0.6)
    texts = ["score 3", "abstain", "raise KeyError", "sleep", "score nan", "die", "score 1", "6", "8"]
    scored = score_answers(rewards, texts, items(len(texts)), None, failure_limit=0.6)
    assert scored.total[scored.valid].tolist() == [6.0, 0.0, 2.0, 0.0, 3.0]
    assert scored.reasons == {"crashed": 1, "exception": 1, "nan": 1, "timeout": 1}
    rewards.close()


class Memory(dict):
    """A record of scores."""

    def put(self, key: str, value: Any) -> None:
        self[key] = value


def test_scores_are_recorded_and_used_again_without_asking_again(tmp_path: Path) -> None:
    count = tmp_path / "calls"
    function = tmp_path / "mine.py"
    source = (
        "import time\n"
        "def reward(text, item):\n"
        f"    open({str(count)!r}, 'a').write('x')\n"
        "    if text == 'slow': time.sleep(60)\n"
        "    return None if text == 'abstain' else 1.0\n"
    )
    function.write_text(source)
    record = Memory()
    texts = ["a", "slow", "abstain", "a", "a"]
    those = [items(3)[k] for k in (0, 0, 0, 0, 1)]

    def once():
        rewards = build_rewards(f"{function}:reward", Sums(), record=record, limit=0.5)
        scored = score_answers(rewards, texts, those, None)
        rewards.close()
        return scored

    first = once()
    assert count.read_text() == "xxxx", "the same text for the same item is scored once"
    second = once()
    assert count.read_text() == "xxxx", "a recorded score is not asked for again"
    assert first.reasons == second.reasons == {"none": 1, "timeout": 1}
    np.testing.assert_array_equal(first.total, second.total)
    function.write_text(source + "# another version\n")
    once()
    assert len(count.read_text()) == 8, "another version of the function is asked anew"


def test_a_task_with_the_verifier_math_is_checked_by_mathematics_and_exact_means_that() -> None:
    pytest.importorskip("math_verify")
    task = SimpleNamespace(name="questions", verifier="math", score=lambda *_: 0.0)
    gold = Item(id="h", prompt="", answer="0.5")
    for expression in ("exact", "math"):
        rewards = build_rewards(expression, task, limit=20.0)
        scored = score_answers(rewards, [r"\boxed{\frac{1}{2}}", "#### 0.50", "#### 2"], [gold] * 3, None)
        assert scored.total.tolist() == [1.0, 1.0, 0.0]
        rewards.close()


def test_a_task_that_asks_to_be_isolated_is_checked_in_a_worker() -> None:
    pytest.importorskip("reasoning_gym")
    from pilotage.environments.text import text_task

    task = text_task("reasoning-gym:countdown")
    pool = task.pool(2, "train")
    rewards = build_rewards("exact+partial", task, limit=4.0)
    texts = [pool[0].solution, "#1+1"]
    scored = score_answers(rewards, texts, pool[:2], None)
    np.testing.assert_allclose(scored.scores, [[1, 1], [0, 0.05]], rtol=1e-6)
    assert rewards.pool is not None
    rewards.close()


def test_questions_from_a_file_are_checked_by_mathematics(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    from pilotage.data.questions import QuestionTask, load_questions

    path = tmp_path / "one.jsonl"
    path.write_text('{"problem": "Half of one?", "answer": "\\\\frac{1}{2}"}\n')
    task = QuestionTask(load_questions(path), held_out_share=0.0)
    rewards = build_rewards("exact", task, limit=20.0)
    scored = score_answers(rewards, [r"It is $0.5$.", r"\boxed{2}"], task.pool(1, "train") * 2, None)
    assert scored.total.tolist() == [1.0, 0.0]
    rewards.close()
