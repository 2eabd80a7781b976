"""Questions from files: the formats people have, the mistakes they make, splits that stay."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.data.questions import QuestionTask, last_boxed, load_questions, plainly_equal
from pilotage.types import Item

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as JSON Lines, or bytes or text as they are."""

    def write(content: Any, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# ---- real data -------------------------------------------------------------------------------------------------------


def test_gsm8k_is_read_whole_with_its_calculator_marks_removed(shared_data: Path) -> None:
    items = load_questions(shared_data / "gsm8k" / "test.jsonl")
    assert len({item.id for item in items}) == 1319
    assert (items[0].answer, items[1].answer) == ("18", "3")
    assert items[0].prompt.startswith("Janet’s ducks")
    assert items[0].solution.startswith("Janet sells 16 - 3 - 4 = 9 duck eggs")
    assert items[0].meta["place"] == "test.jsonl, line 1"
    for item in items:
        float(item.answer)
        assert "<<" not in item.solution
        assert plainly_equal(item.answer, item.solution) == 1.0


def test_the_quick_check_agrees_with_graded_model_solutions(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k" / "example_model_solutions.jsonl").read_text().splitlines()
    disagreements = graded = 0
    for row in map(json.loads, lines):
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        for column in ("6b_finetuning", "175b_verification"):
            graded += 1
            disagreements += plainly_equal(gold, row[column]["solution"]) != float(row[column]["is_correct"])
    assert graded == 2638
    assert disagreements <= 5


def test_svamp_and_math_are_read_whole(shared_data: Path) -> None:
    svamp = load_questions(shared_data / "svamp" / "SVAMP.json")
    assert len(svamp) >= 990
    assert svamp[0].answer == "51"
    assert svamp[0].prompt.endswith("on each pack. How much do you have to pay to buy each pack?")
    mathematics = load_questions(shared_data / "math500" / "test.jsonl")
    assert len(mathematics) == 500
    assert {item.difficulty for item in mathematics} == {1, 2, 3, 4, 5}
    boxed = [last_boxed(item.solution) for item in mathematics]
    same = [b == item.answer for b, item in zip(boxed, mathematics, strict=True)]
    assert sum(same) >= 495


# ---- formats ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"question": "How many?", "answer": "1 + 1 = <<1+1=2>>2\n#### 1,234"}, "How many?", "1234"),
        ({"Body": "Two cats.", "Question": "How many?", "Answer": 2.0}, "Two cats. How many?", "2"),
        ({"Body": "Two cats", "Question": "How many?", "Answer": 2.5}, "Two cats. How many?", "2.5"),
        (
            {"problem": "x?", "solution": r"so \boxed{1} or \boxed{\frac{1}{2}}", "level": "Level 3"},
            "x?",
            r"\frac{1}{2}",
        ),
        ({"problem": "x?", "solution": "none", "answer": "7"}, "x?", "7"),
        ({"instruction": "x?", "target": 3}, "x?", "3"),
        ({"question": "Is it?", "answer": "yes"}, "Is it?", "yes"),
    ],
)
def test_formats_are_known_by_their_fields(write: Write, row: dict, prompt: str, answer: str) -> None:
    (item,) = load_questions(write([row]))
    assert (item.prompt, item.answer) == (prompt, answer)
    assert item.difficulty == (3 if "level" in row else 0)


def test_verl_rows_in_parquet_keep_their_messages(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    rows = [{"prompt": messages, "reward_model": {"style": "rule", "ground_truth": "2"}, "data_source": "x"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    (item,) = load_questions(tmp_path / "train.parquet")
    assert item.answer == "2"
    assert QuestionTask([item]).render_chat(item) == messages
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UsageError, match=r"broken\.parquet cannot be read as parquet"):
        load_questions(tmp_path / "broken.parquet")


def test_folders_of_datasets_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([{"question": f"{k}+1?", "answer": str(k + 1)} for k in range(5)])
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": data}).save_to_disk(tmp_path / "many")
    assert [item.answer for item in load_questions(tmp_path / "one")] == ["1", "2", "3", "4", "5"]
    assert len(load_questions(tmp_path / "many", split="test")) == 5
    with pytest.raises(UsageError, match="split 'train'"):
        load_questions(tmp_path / "many")


def test_a_name_that_is_no_file_and_no_data_set_is_refused() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(UsageError, match="data set 'no-such-owner/no-such-set'"):
        load_questions("no-such-owner/no-such-set")


def test_fields_may_be_named_also_nested_ones(write: Write) -> None:
    path = write([{"q": "1+1?", "gold": {"value": 2}, "how": "count", "hard": 4}])
    names = {"prompt": "q", "answer": "gold.value", "solution": "how", "difficulty": "hard"}
    (item,) = load_questions(path, fields=names)
    assert (item.prompt, item.answer, item.solution, item.difficulty) == ("1+1?", "2", "count", 4)


def test_arrays_byte_order_marks_blank_lines_and_strange_separators_are_read(write: Write) -> None:
    rows = [{"question": "a\u2028b\x85c?", "answer": "1"}, {"question": "d?", "answer": "2"}]
    array = write(json.dumps(rows, ensure_ascii=False, indent=2), "data.json")
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n"
    expected = [(item.id, item.prompt) for item in load_questions(array)]
    assert [(i.id, i.prompt) for i in load_questions(write(b"\xef\xbb\xbf" + lines.encode()))] == expected
    assert expected[0][1] == "a\u2028b\x85c?"


# ---- bad input ----------------------------------------------------------------------

GOOD = {"question": "1+1?", "answer": "#### 2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"data.jsonl is empty"),
        (" \n \n", r"data.jsonl is empty"),
        ("[]", "has no rows"),
        (json.dumps(GOOD) + "\n{'question': 1}\n", r"data.jsonl, line 2 is not JSON.*found \"\{'question': 1\}\""),
        ("[{", "begins as an array"),
        ("question,answer\n1,2\n", "line 1 is not JSON"),
        (json.dumps(GOOD) + "\n3\n", "line 2 is a int; expected an object"),
        (b'{"question": "a",\n "\xff": 1}', r"line 2: byte 20 \(0xff\) is not UTF-8"),
        (b'\xef\xbb\xbf{"a": "\xe9"}', r"line 1: byte 10 \(0xe9\) is not UTF-8"),
        (
            [{"qestion": "1+1?", "answer": "2"}],
            r"line 1 has no field for a prompt .*'qestion', 'answer'.*mean 'question'",
        ),
        ([{"question": "1+1?", "anwser": "2"}], r"no field for an answer.*mean 'answer'.*fields=\{'prompt'"),
        (
            [GOOD, {"question": "x?", "answer": "no mark"}],
            r"1 of 2 rows.*\n.*line 2: field 'answer' has no '#### number'",
        ),
        ([GOOD, {"question": "x?", "answer": "#### "}], "line 2: the answer is empty"),
        ([GOOD, {"question": " ", "answer": "#### 3"}], "line 2: field 'question' is empty"),
        ([GOOD, {"question": None, "answer": "#### 3"}], "line 2: field 'question' is None; expected a text"),
        ([GOOD, {"frage": "x", "answer": "#### 3"}], "line 2: no field 'question'; there are 'frage', 'answer'"),
        ([GOOD, {"question": "x?", "answer": True}], "line 2: field 'answer' is True"),
        ([{"problem": "x?", "solution": "no box"}], r"no \\boxed\{answer\}: 'no box'"),
        ('{"question": "\\ud800", "answer": "1"}', "half of a surrogate pair"),
        ([{"prompt": [], "reward_model": {"ground_truth": "1"}}], "has no messages"),
        ([{"prompt": ["hi"], "reward_model": {"ground_truth": "1"}}], "messages with 'role' and 'content'"),
        ([{"prompt": "x", "reward_model": {"truth": "1"}}], "no field 'reward_model.ground_truth'.*there are 'truth'"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(write: Write, content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_questions(write(content))


def test_a_missing_file_suggests_its_neighbours(write: Write) -> None:
    path = write([GOOD], "train.jsonl")
    with pytest.raises(UsageError, match=r"no file .*trian.jsonl .did you mean .train.jsonl"):
        load_questions(path.with_name("trian.jsonl"))


def test_wrongly_named_fields_are_counted_and_suggested(write: Write) -> None:
    path = write([{"query": "a?", "gold": "1"}, {"query": "b?", "gold": "2"}])
    with pytest.raises(UsageError, match=r"2 of 2 rows.*\n.*no field 'qery'.*did you mean 'query'"):
        load_questions(path, fields={"prompt": "qery", "answer": "gold"})
    for wrong in ({"prompt": "query"}, {"prompt": "query", "answer": "gold", "extra": "x"}):
        with pytest.raises(UsageError, match="expected 'prompt' and 'answer'"):
            load_questions(path, fields=wrong)


def test_bad_rows_are_left_out_only_on_demand_with_a_warning(write: Write) -> None:
    path = write([GOOD, {"question": "x?", "answer": "no mark"}])
    with pytest.warns(UserWarning, match=r"1 of 2 rows .* left out, such as data.jsonl, line 2"):
        assert [item.answer for item in load_questions(path, skip_bad=True)] == ["2"]
    with pytest.raises(UsageError, match="1 of 1 rows"):
        load_questions(write([{"problem": "x?", "solution": "no box"}]), skip_bad=True)


def test_repeated_questions_are_merged_and_counted(write: Write) -> None:
    rows = [{"question": f"{k}?", "answer": str(k)} for k in (1, 2, 1, 1)] + [{"question": "2?", "answer": "3"}]
    with pytest.warns(UserWarning, match="repeats 3 questions, 1 of them with another answer.*2 in all"):
        items = load_questions(write(rows))
    assert [(item.prompt, item.answer) for item in items] == [("1?", "1"), ("2?", "2")]


# ---- the task ----------------------------------------------------------------------


def questions(count: int) -> list[Item]:
    return [Item(f"id{k}", f"What is {k}+1?", str(k + 1), difficulty=k % 3) for k in range(count)]


def test_the_split_depends_on_the_question_alone() -> None:
    half = QuestionTask(questions(200), template="Q: {question}")
    whole = QuestionTask(questions(400), held_out_share=0.1)
    with pytest.warns(UserWarning, match="questions; 999 were asked for"):
        train, test = whole.pool(999, "train"), whole.pool(999, "held_out")
    assert {item.id for item in train}.isdisjoint(item.id for item in test)
    assert len(train) + len(test) == 400
    assert 20 <= len(test) <= 65
    with pytest.warns(UserWarning, match="were asked for"):
        smaller = {item.id for item in half.pool(999, "held_out")}
    assert smaller == {item.id for item in test if int(item.id[2:]) < 200}


def test_pools_are_prefixes_ordered_by_seed_without_duplicates() -> None:
    task = QuestionTask(questions(300))
    pool = task.pool(100, "train", seed=3)
    assert task.pool(40, "train", seed=3) == pool[:40]
    assert len({item.id for item in pool}) == 100
    assert [i.id for i in task.pool(100, "train", seed=4)] != [i.id for i in pool]


def test_the_template_is_applied_and_kept_as_messages_with_braces_intact() -> None:
    task = QuestionTask(questions(50))
    item = task.pool(1, "train")[0]
    assert item.prompt.startswith("What is ")
    assert item.prompt.endswith("within \\boxed{}.")
    assert task.render_chat(item) == [{"role": "user", "content": item.prompt}]
    assert (task.verifier, task.max_new(0), task.difficulties) == ("math", 512, (0, 1, 2))
    assert set(item.prompt + item.answer) <= set(task.vocabulary)


def test_a_file_of_its_own_is_held_out_and_never_trained_on() -> None:
    with pytest.warns(UserWarning, match="5 training questions of 'questions' are held out"):
        task = QuestionTask(questions(30), held_out=questions(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(task.pool(25, "train")) == 25
        assert {item.id for item in task.pool(5, "held_out")} == {f"id{k}" for k in range(5)}


def test_levels_may_be_chosen() -> None:
    task = QuestionTask(questions(90), difficulties=(2,))
    assert {item.difficulty for item in task.pool(20, "train")} == {2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuestionTask([]), "has no questions"),
        (lambda: QuestionTask(questions(3), template="{q}"), "lacks '{question}'"),
        (lambda: QuestionTask(questions(3), held_out_share=1.0), "expected a share"),
        (lambda: QuestionTask(questions(3), max_new_tokens=0), "at least 1 token"),
        (lambda: QuestionTask(questions(3), difficulties=(9,)), r"difficulties \[9\] .* have \[0, 1, 2\]"),
        (lambda: QuestionTask(questions(3)).pool(1, "test"), "'train' or 'held_out'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("gold", "text", "score"),
    [
        ("18", "she has 9 + 9 = 18 dollars.", 1.0),
        ("18", "#### 18.00", 1.0),
        ("1234", "it is $1,234.", 1.0),
        ("-3", "x = -3", 1.0),
        ("3", "x = -3", 0.0),
        ("18", "18 or 19", 0.0),
        ("18", "\\boxed{18} and 19", 1.0),
        ("yes", "\\boxed{yes}", 1.0),
        ("yes", "yes", 0.0),
        ("0", "-0.0", 1.0),
        ("18", "", 0.0),
    ],
)
def test_the_quick_check_reads_the_box_the_mark_or_the_last_number(gold: str, text: str, score: float) -> None:
    assert plainly_equal(gold, text) == score
    assert QuestionTask(questions(3)).score(Item("i", "", gold), text) == score


def test_another_check_may_be_given() -> None:
    task = QuestionTask(questions(3), verify=lambda gold, text: float(gold in text))
    assert task.score(Item("i", "", "yes"), "oh yes") == 1.0


@given(st.text(st.sampled_from("0123456789.,#-+\\boxed{} ab$"), max_size=40), st.text(max_size=8))
def test_no_text_makes_the_quick_check_raise(text: str, gold: str) -> None:
    assert plainly_equal(gold, text) in (0.0, 1.0)
    assert plainly_equal("5", f"#### {text}\n#### 5") == 1.0 or "\\boxed" in text


def test_boxes_are_the_last_complete_ones() -> None:
    assert last_boxed(r"\boxed{1} \boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert last_boxed(r"\boxed 3$") == "3"
    assert last_boxed(r"\boxed{3") is last_boxed("none") is last_boxed(r"\boxed") is None
