"""Mathematical equality against pairs whose truth is known, and on real questions with their solutions."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    slow = pool.score([("math", pairs[i][1], Item("", "", pairs[i][0])) for i in open_])
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
    own = [pool.score([("math", row["solution"], Item("", "", row["answer"]))])[0] for row in rows]
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
    assert pool.score([("math", text, Item("", "", gold)) for gold, text in pairs[:20]]) == truth[:20]


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


MARKDOWN = [
    (
        "73",
        "Left: 437 + 2*234 = 905 = right.\n\nSo the number of people is **73**.\n\n✅ Final Answer: **73**",
        1.0,
    ),
    (
        "234",
        "Left: 437 + 2*234 = 905 = right.\n\nSo the number of people is **73**.\n\n✅ Final Answer: **73**",
        0.0,
    ),
    ("18", "He sells 16 - 7 = 9 eggs.\n\n**Answer: 18**", 1.0),
    ("18", "He sells 16 - 7 = 9 eggs.\n\n**Answer:** 18", 1.0),
    ("18", "He sells 16 - 7 = 9 eggs.\n\n## Final answer\n\n**18**", 1.0),
    ("18", "He sells 16 - 7 = 9 eggs and earns __18__.", 1.0),
    ("18", "He sells 16 - 7 = 9 eggs and earns *18*.", 1.0),
    ("18", "He sells 16 - 7 = 9 eggs and earns `18`.", 1.0),
    ("7/2", "The slope is 3.\n\nFinal answer: **7/2**", 1.0),
    ("3.5", "The slope is 3.\n\nFinal answer: **7/2**", 1.0),
    ("1250", "After 2 years: **$1,250**", 1.0),
    ("25", "So 5 of 20 remain: **25%**.", 1.0),
    ("12", "The product is 2*3*2 = 12", 1.0),
    ("7/2", "so the slope is **7/2**", 1.0),
    ("18", "```\n18\n```", 1.0),
    ("18", "<answer>\n18\n</answer>", 1.0),
    ("18", "<answer>17</answer> or 18", 0.0),
]
SIZES_AND_LISTS = [
    (r"\frac{1}{2004!}", r"\boxed{\frac{1}{2006!}}", 0.0),
    (r"\frac{1}{2^{99}}", r"\boxed{\frac{1}{2^{98}}}", 0.0),
    ("10^{-9}", r"\boxed{10^{-8}}", 0.0),
    ("10^{-9}", r"\boxed{10^{-9}}", 1.0),
    ("0.0000001", "The probability is 0.0000002", 0.0),
    ("0.0000001", r"\boxed{0.0000002}", 0.0),
    (r"6.02\times 10^{-23}", r"\boxed{9.11\times 10^{-31}}", 0.0),
    (r"\frac{1}{3\cdot 10^{7}}", r"\boxed{\frac{2}{3\cdot 10^{7}}}", 0.0),
    ("n=2, 3, 4", r"\boxed{n=1, 2, 3}", 0.0),
    ("n=2, 3, 4", r"\boxed{2, 3, 4}", 1.0),
    ("D = (0, 1)", r"\boxed{D = (0, 1.5)}", 0.0),
    (r"\pm 2021", r"\boxed{2021}", 0.0),
    (r"\pm 2021", r"\boxed{\pm 2021}", 1.0),
    ("12:00", r"\boxed{1:00}", 0.0),
    ("12:00", r"\boxed{12:00}", 1.0),
    ("3:4", r"\boxed{4:3}", 0.0),
    (r"1-\frac{1}{e}", r"\boxed{1+\frac{1}{\mathrm{e}}}", 0.0),
    (r"\frac{2^{2005}+1}{3\cdot 2^{2006}}", r"\boxed{\frac{1}{3\cdot 2^{2006}}}", 0.0),
    (r"19, 46, \text{ and } 82", r"\boxed{21, 36, \text{ and } 82}", 0.0),
    (r"1,2,\ldots,n", r"\boxed{1,3,5,\ldots,2n-1}", 0.0),
    ("0", r"\boxed{\frac{1}{10^{9}}}", 0.0),
    (r"\frac{1}{10^{9}}", r"\boxed{0}", 0.0),
    (r"1-\frac{1}{2^{40}}", r"\boxed{1}", 0.0),
    (r"\binom{60}{30}^{-1}", r"\boxed{\frac{1}{60!}}", 0.0),
    ("e^{-40}", r"\boxed{e^{-50}}", 0.0),
    (r"8.85\times 10^{-12}", r"\boxed{8.85\times 10^{-12}}", 1.0),
    (r"8.85\times 10^{-12}", r"\boxed{6.67\times 10^{-11}}", 0.0),
    (r"1.6\times 10^{-19}", r"The charge is $9.1\times 10^{-31}$.", 0.0),
    (r"3.00\times 10^{8}", r"\boxed{3.0\times 10^{8}}", 1.0),
    (r"\frac{3}{7}", r"\boxed{0.428571}", 1.0),
    (r"\frac{1}{2^{20}}", r"\boxed{\frac{1}{2^{21}}}", 0.0),
    ("(0, 10^{-8})", r"\boxed{(0, 10^{-9})}", 0.0),
    (r"\{10^{-8}, 1\}", r"\boxed{\{10^{-9}, 1\}}", 0.0),
    ("x=10^{-8}", r"\boxed{x=10^{-9}}", 0.0),
    ("10^{-8}x", r"\boxed{10^{-9}x}", 0.0),
    (r"\begin{pmatrix} 10^{-8} \\ 1 \end{pmatrix}", r"\boxed{\begin{pmatrix} 10^{-9} \\ 1 \end{pmatrix}}", 0.0),
    (r"\frac{\sqrt{2}}{2}", r"\boxed{0.707107}", 1.0),
    ("25", r"\boxed{25\%}", 1.0),
    ("42", "The numbers are 41, 42", 0.0),
    ("42", "Numbers: 1 2 3 42", 0.0),
    ("41, 42", "The numbers are 41, 42.", 1.0),
]
EQUATIONS = [
    ("3x-y+13=0", r"\boxed{3x+4y+14=0}", 0.0),
    ("3x-y+13=0", r"\boxed{3x-y+13=0}", 1.0),
    ("3*x-1*y+13=0", r"\boxed{3x-y+13=0}", 1.0),
    ("3x-y+13=0", "3x + 4y + 14 = 0", 0.0),
    ("3x-y+13=0", "The line is 3x + 4y + 14 = 0", 0.0),
    ("3x-y+13=0", "The line is 3x + 4y + 14 = 0.", 0.0),
    ("3x-y+13=0", "Thus the equation is\n3x + 4y + 14 = 0", 0.0),
    ("3x-y+13=0", "The line is 3x - y + 13 = 0.", 1.0),
    ("3x-y+13=0", "We get 0", 0.0),
    ("3x-y+13=0", r"\boxed{0}", 0.0),
    ("2x+4y-3=0", r"\boxed{y=-\frac{1}{2}x+\frac{3}{4}}", 1.0),
    ("x^2+y^2=25", r"\boxed{25}", 0.0),
    ("x^2+y^2=25", "The circle is x^2 + y^2 = 25", 1.0),
    ("x^2+y^2=25", "The circle is x^2 + 2y^2 = 25", 0.0),
    ("x=5", r"\boxed{5}", 1.0),
    ("5", r"\boxed{x=5}", 1.0),
    ("The line is 3x-y+13=0", r"\boxed{3x+4y+14=0}", 0.0),
    ("y = 2x + 3", "The answer is y = 7x + 3", 0.0),
    ("y = 2x + 3", "Line: y = 2x + 3", 1.0),
    ("2", "It weighs 2 kg.", 1.0),
    ("1000.99", "so it is 1,000.99m²", 1.0),
    ("x^2", "The area is x² + 0", 1.0),
]
ANSWER_LINES = [
    ("13", "We have 7 + 6 = 13.\nAnswer: $13$", 1.0),
    ("13", "We have 7 + 6 = 13.\nAnswer: `$13$`", 1.0),
    ("13", "We have 7 + 6 = 13.\nAnswer: 13", 1.0),
    ("13", "We have 7 + 6 = 13.\nAnswer: 13.", 1.0),
    ("13", "We have 7 + 6 = 13.\nAnswer: \\boxed{13}", 1.0),
    ("13", "We have 7 + 6 = 13.\nAnswer: $\\boxed{13}$.", 1.0),
    ("-13", "Answer: $-13$", 1.0),
    ("13", "Answer: $-13$", 0.0),
    ("13", "Answer: $12$. (Not 13.)", 0.0),
    ("13", "Answer: 12\n\nNote: the 13 in the question was a trap", 0.0),
    ("13", r"Hence the value is \fbox{13}.", 1.0),
    ("13", r"Since 3 apples remain, the value is \fbox{12}.", 0.0),
    (r"\frac{1}{2}", r"From $x=3$ we get \fbox{\frac{1}{2}}", 1.0),
    (r"\frac{1}{2}", r"From $x=3$ we get $\fbox{$\frac{1}{2}$}$", 1.0),
    ("13", r"\boxed 13", 1.0),
    ("13", r"\boxed{ 13 }", 1.0),
    ("13", r"\boxed{13\text{ apples}}", 1.0),
    ("13", r"\boxed{13 \text{ cm}}", 1.0),
    ("13", r"\boxed{13^\circ}", 1.0),
    ("13", r"\boxed{\$13}", 1.0),
    ("1300", r"\boxed{1{,}300}", 1.0),
    ("1300", r"\boxed{1\,300}", 1.0),
    (r"13\%", r"\boxed{13}", 1.0),
    ("13", "#### 13", 1.0),
    ("13", "#### $13", 1.0),
    ("13", "#### 13 apples", 1.0),
    ("13", "#### 12\n\nThe answer is 13", 0.0),
    ("13", "Answer: 12 (not 13)", 0.0),
    ("13", "#### 12, not 13", 0.0),
    ("13", "The answer is: 13", 1.0),
    ("5", "### 2. Add the numbers\nThe sum is 5", 1.0),
    ("1300", "The price is 1\u202f300", 1.0),
    ("1300", r"\boxed{1 300}", 1.0),
    ("-3", "#### −3", 1.0),
]


@pytest.mark.parametrize("table", [MARKDOWN, SIZES_AND_LISTS, EQUATIONS, ANSWER_LINES])
def test_answers_however_they_are_marked(pool: WorkerPool, table: list[tuple[str, str, float]]) -> None:
    verdicts = equal(pool, [(gold, text) for gold, text, _ in table])
    wrong = [(row, verdict) for row, verdict in zip(table, verdicts, strict=True) if verdict != row[2]]
    assert wrong == []


def test_boxes_are_cut_with_their_braces_matched_and_in_linear_time() -> None:
    assert boxed(r"a \boxed{\frac{1}{2}} b") == r"\frac{1}{2}"
    assert boxed(r"\boxed {3}") == "3"
    assert boxed(r"\boxed{1}\boxed{2}") is boxed("none") is boxed(r"\boxed 3") is boxed(r"\boxed{3") is None
    assert boxed(r"\boxed{" * 200_000) is None
    assert final_answer(r"# \boxed{3} #4") == "3"


HOSTILE = [
    *(
        part * 50_000
        for part in ("(", "{", "[", "1,", "1 ", "**a ", "*", "_a ", "`", r"\boxed{", "#", "answer:", "\n", "x+")
    ),
    *(part * 50_000 for part in ("$", "<answer>", "(1", "1 (", "9", "9,", "1+", "<think>")),
    "1" + ",000" * 1434,
    r"\boxed{1" + ",000" * 1434 + "}",
    "So it is 5. #1" + ",000" * 1434,
    "9**9**9",
    "#9e999999999",
    r"\boxed{9^{9^{9^9}}}",
    "\ud800 \udfff",
    "12\0",
    "\u202e21",
    "\x1b[2J12",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("gold", ["12", r"\frac{1}{2}"])
def test_hostile_answers_are_wrong_or_left_to_a_worker_and_never_raise(gold: str, text: str) -> None:
    for answer in (text, f"#{text}", rf"\boxed{{{text}}}", f"Answer: {text}"):
        assert quick_verdict(gold, answer) in (0.0, None)
        assert isinstance(as_formula(answer), str)


@given(st.text(st.sampled_from("12-+.,*_`#$(){}[]\\xa \n%:=^/<>|²é\0\u202e\u2009\ud800"), max_size=60))
def test_any_text_is_judged_without_an_error_in_this_process(text: str) -> None:
    assert quick_verdict("12", text) in (0.0, 1.0, None)
    assert quick_verdict(text, "12") in (0.0, 1.0, None)
    assert isinstance(as_formula(text), str)
    number = plain_number(text)
    assert number is None or float(number) == float(plain_number(number) or "nan")


@given(st.integers(), st.integers(0, 6))
def test_a_number_is_the_same_however_it_is_written(number: int, zeros: int) -> None:
    grouped = f"{number:,}"
    for text in (grouped, grouped.replace(",", r"\,"), grouped.replace(",", "\u202f"), f"{number}." + "0" * zeros):
        assert plain_number(text) == str(number)


def test_a_number_with_more_digits_than_python_reads_is_wrong(pool: WorkerPool) -> None:
    for gold in ("12", r"\frac{1}{2}"):
        assert equal(pool, [(gold, f"${'9' * 5000}$"), (gold, "so it is " + "9" * 5000)]) == [0.0, 0.0]


@pytest.mark.parametrize(("text", "wrapped"), [("10, 4", True), ("1 000", False), ("x+1", True), ("an apple", False)])
def test_bare_formulas_are_boxed_and_sentences_are_not(text: str, wrapped: bool) -> None:
    assert as_formula(text) == (rf"\boxed{{{text}}}" if wrapped else text)


def test_every_answer_that_counts_is_right(pool: WorkerPool) -> None:
    item = Item("c", "?", "B", meta={"answers": ("B", r"\frac{1}{2}")})
    texts = [r"\boxed{B}", r"\boxed{0.5}", r"\boxed{A}", r"\boxed{0.25}"]
    assert pool.score([("math", text, item) for text in texts]) == [1.0, 1.0, 0.0, 0.0]
    assert MathEquality.quick(item, r"\boxed{B}") == 1.0
    assert MathEquality.quick(item, r"\boxed{0.25}") is None
