"""Mathematical equality against pairs whose truth is known, and on real questions with their solutions."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pilotage.rewards import WorkerPool
from pilotage.rewards.math_equality import (
    MathEquality,
    as_formula,
    boxed,
    final_answer,
    plain_number,
    quick_verdict,
)
from pilotage.types import Item

pytest.importorskip("math_verify")


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool({"math": MathEquality()}, count=2, limit=10.0)
    yield pool
    pool.close()


def equal(pool: WorkerPool, pairs: list[tuple[str, str]]) -> list[float]:
    """The verdicts as the reward gives them: at once where that is possible, else from a worker."""
    quick = [quick_verdict(gold, text) for gold, text in pairs]
    open_ = [i for i, verdict in enumerate(quick) if verdict is None]
    slow = pool.judge([("math", pairs[i][1], Item("", "", pairs[i][0])) for i in open_])
    for i, verdict in zip(open_, slow, strict=True):
        assert isinstance(verdict, float), (pairs[i], verdict)
        quick[i] = verdict
    return [verdict for verdict in quick if verdict is not None]


def test_recall_and_precision_on_pairs_of_known_truth(pool: WorkerPool, shared_data: Path) -> None:
    lines = (shared_data / "verifier_cases" / "answer_pairs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    verdicts = equal(pool, [(row["gold"], row["pred"]) for row in rows])
    right = sum(v == 1.0 and row["equivalent"] == 1 for v, row in zip(verdicts, rows, strict=True))
    wrong = sum(v == 1.0 and row["equivalent"] == 0 for v, row in zip(verdicts, rows, strict=True))
    assert right / sum(row["equivalent"] for row in rows) >= 0.96
    assert right / (right + wrong) >= 0.975


def test_solutions_of_real_questions_equal_their_own_answer_and_no_neighbour_s(
    pool: WorkerPool, shared_data: Path
) -> None:
    rows = [json.loads(line) for line in (shared_data / "math500" / "test.jsonl").read_text().splitlines()][::4]
    own = [pool.judge([("math", row["solution"], Item("", "", row["answer"]))])[0] for row in rows]
    assert own == [1.0] * len(rows)
    pairs = [(a["answer"], b["solution"]) for a, b in pairwise(rows)]
    accepted = [pairs[i] for i, verdict in enumerate(equal(pool, pairs)) if verdict == 1.0]
    assert all(plain_number(gold) is not None for gold, _ in accepted)
    assert len(accepted) <= 0.05 * len(pairs)


def test_the_quick_way_and_the_parser_agree_on_graded_model_solutions(pool: WorkerPool, shared_data: Path) -> None:
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()[:60]]
    pairs, truth = [], []
    for row in rows:
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        solution = row["175b_verification"]
        if "A:" in solution["solution"]:
            pairs.append((gold, solution["solution"].replace("A:", "####")))
            truth.append(float(solution["is_correct"]))
    assert [quick_verdict(gold, text) for gold, text in pairs] == truth
    assert pool.judge([("math", text, Item("", "", gold)) for gold, text in pairs[:20]]) == truth[:20]


@pytest.mark.parametrize(
    ("gold", "text", "expected"),
    [
        ("18", "so #### 18", 1.0),
        ("18", "so #### 18.0", 1.0),
        ("1234", "#### $1,234", 1.0),
        ("18", r"\boxed{81}", 0.0),
        ("-5", "#-5", 1.0),
        ("5", "#-5", 0.0),
        ("Evelyn", r"\boxed{Evelyn}", 1.0),
        ("0.5", r"\boxed{\frac{1}{2}}", None),
        ("0,111", "0.111", None),
        ("4", r"\boxed{1} or \boxed{4}", None),
        ("4", r"\boxed{4", None),
        ("4", "I think that it is 4", None),
        ("", "#", None),
    ],
)
def test_only_plain_answers_are_decided_without_a_parser(gold: str, text: str, expected: float | None) -> None:
    assert quick_verdict(gold, text) == expected


@pytest.mark.parametrize(
    ("gold", "text", "expected"),
    [
        ("0.5", r"\boxed{\frac{1}{2}}", 1.0),
        ("4, 12, 2", "10, 4, 2", 0.0),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", 1.0),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"so $\begin{pmatrix} 1 \\ 2 \end{pmatrix}$", 1.0),
        ("x^2+2x+1", "The answer is $(x+1)^2$.", 1.0),
        ("7", "So there are 7 apples left.", 1.0),
        ("7", "no idea", 0.0),
        ("7", "", 0.0),
        ("3", "### Result\nIt is $3$", 1.0),
    ],
)
def test_equality_of_bare_and_of_marked_formulas(pool: WorkerPool, gold: str, text: str, expected: float) -> None:
    assert equal(pool, [(gold, text)]) == [expected]


def test_boxes_are_cut_with_their_braces_matched_and_in_linear_time() -> None:
    assert boxed(r"a \boxed{\frac{1}{2}} b") == r"\frac{1}{2}"
    assert boxed(r"\boxed {3}") == "3"
    assert boxed(r"\boxed{1}\boxed{2}") is boxed("none") is boxed(r"\boxed 3") is boxed(r"\boxed{3") is None
    assert boxed(r"\boxed{" * 200_000) is None
    assert final_answer(r"# \boxed{3} #4") == "3"


@pytest.mark.parametrize(("text", "wrapped"), [("10, 4", True), ("1 000", False), ("x+1", True), ("an apple", False)])
def test_bare_formulas_are_boxed_and_sentences_are_not(text: str, wrapped: bool) -> None:
    assert as_formula(text) == (rf"\boxed{{{text}}}" if wrapped else text)
