"""Questions from files: the formats people have, the mistakes they make, splits that stay."""

import gzip
import json
import os
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


CHOICES = "2+2?\n\nA. 3\nB. 4\n\nAnswer with the letter of the right choice."
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
GOLD_TURN = {"role": "assistant", "content": "It is \\boxed{4}"}


@pytest.mark.parametrize(
    "row",
    [
        {"question": "2+2?", "choices": ["3", "4"], "answer": 1},
        {"question": "2+2?", "options": [3, 4], "answer": "B"},
        {"question": "2+2?", "choices": ["3", "4"], "answer": "(b)"},
        {"question": "2+2?", "choices": ["3", "4"], "answer": "4"},
        {"question": "2+2?", "choices": {"text": ["3", "4"], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": "2+2?", "options": {"A": "3", "B": "4"}, "answer": "B"},
        {"question": "2+2?", "choices": [{"label": "A", "text": "3"}, {"label": "B", "text": "4"}], "answerKey": "B"},
        {"question": "2+2?", "A": "3", "B": "4", "answer": "B"},
        {"question": "2+2?", "choices": '["3", "4"]', "answer": "1"},
    ],
)
def test_rows_with_choices_are_asked_with_them(write: Write, row: dict) -> None:
    (item,) = load_questions(write([row]))
    assert (item.prompt, item.answer, item.meta["answers"]) == (CHOICES, "B", ("B", "4"))
    task = QuestionTask([item])
    assert [task.score(item, text) for text in ("\\boxed{B}", "\\boxed{4}", "\\boxed{A}", "\\boxed{3}")] == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?", "choices": ["3", "4"], "answer": 2}, "is 2, which names none of them; .* from 0 to 1"),
        ({"question": "?", "choices": ["1", "0"], "answer": "1"}, "names more than one of them"),
        ({"question": "?", "choices": ["3"], "answer": 0}, "at least two choices"),
        ({"question": "?", "choices": ["3", None], "answer": 0}, "at least two choices"),
    ],
)
def test_a_right_choice_that_is_none_is_refused(write: Write, row: dict, message: str) -> None:
    with pytest.raises(UsageError, match=f"data.jsonl, line 1: .*{message}"):
        load_questions(write([row]))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*CHAT, GOLD_TURN]},
        {"messages": [*CHAT, {"role": "assistant", "content": "thus 4"}], "answer": 4},
        {"messages": CHAT, "answer": "4"},
        {"prompt": CHAT, "completion": [GOLD_TURN]},
        {"prompt": CHAT, "solution": "So \\boxed{4}"},
        {"prompt": CHAT, "reward_model": json.dumps({"ground_truth": ["4"]})},
        {
            "prompt": [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in CHAT],
            "answer": 4,
        },
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "2+2?"},
                {"from": "gpt", "value": "Easy.\n#### 4"},
            ]
        },
    ],
)
def test_chats_are_asked_without_the_turn_that_answers(write: Write, row: dict) -> None:
    (item,) = load_questions(write([row]))
    assert (item.prompt, item.answer, item.meta["messages"]) == ("Be brief.\n\n2+2?", "4", CHAT)
    assert QuestionTask([item]).render_chat(item) == CHAT


def test_a_conversation_beside_the_question_is_not_asked(write: Write) -> None:
    (item,) = load_questions(write([{"problem": "2+2?", "solution": "\\boxed{4}", "messages": [*CHAT, GOLD_TURN]}]))
    (asked,) = QuestionTask([item], held_out_share=0).pool(1, "train")
    assert item.prompt == "2+2?"
    assert GOLD_TURN not in asked.meta["messages"]


def test_every_field_of_a_row_is_kept_and_may_stand_in_the_template(write: Write) -> None:
    path = write([{"question": "Why?", "answer": "1", "context": "Rain.", "tests": ["a", {"b": 1}], "n": None}])
    (item,) = load_questions(path)
    kept = {"question": "Why?", "answer": "1", "context": "Rain.", "tests": ["a", {"b": 1}], "n": None}
    assert item.meta == {**kept, "file": "data.jsonl", "line": 1, "place": "data.jsonl, line 1"}
    task = QuestionTask([item], held_out_share=0, template="{context} {question} {nowhere} {n} \\boxed{}")
    assert task.pool(1, "train")[0].prompt == "Rain. Why? {nowhere} {n} \\boxed{}"


def test_an_instruction_is_asked_with_its_input(write: Write) -> None:
    rows = [
        {"instruction": "Sort.", "input": "2 1", "output": "1 2"},
        {"instruction": "Hi", "input": "", "output": "x"},
    ]
    assert [item.prompt for item in load_questions(write(rows))] == ["Sort.\n\n2 1", "Hi"]


def test_answers_are_needed_only_by_rewards_that_look_at_them(write: Write) -> None:
    path = write([{"prompt": "Write a poem."}, {"prompt": "And one more."}])
    with pytest.raises(UsageError, match=r"no field for an answer.*a reward that needs no answer"):
        load_questions(path)
    assert [item.answer for item in load_questions(path, needs_answer=False)] == ["", ""]
    path = write([{"question": "1?", "answer": "1"}, {"question": "2?", "answer": None}])
    with pytest.raises(UsageError, match="line 2: field 'answer' is None"):
        load_questions(path)
    assert [item.answer for item in load_questions(path, needs_answer=False)] == ["1", ""]


# ---- files of other kinds ----------------------------------------------------------------------

TABLE = [{"question": f"{k}, and 2?", "answer": str(k + 2)} for k in range(3)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps({"version": "1", "data": TABLE}, indent=2)),
        ("a.json", json.dumps({"questions": TABLE})),
        ("a.json", json.dumps({name: [row[name] for row in TABLE] for name in TABLE[0]})),
        ("a.json", json.dumps({name: {str(i): row[name] for i, row in enumerate(TABLE)} for name in TABLE[0]})),
        ("a.jsonl", "\n".join(json.dumps(row, indent=2) for row in TABLE)),
        ("a.csv", "question,answer\n" + "\n".join(f'"{row["question"]}",{row["answer"]}' for row in TABLE)),
        ("a.csv", "\ufeffquestion;answer\r\n" + "\r\n".join(f"{row['question']};{row['answer']}" for row in TABLE)),
        ("a.tsv", "question\tanswer\n\n" + "\n".join(f"{row['question']}\t{row['answer']}" for row in TABLE)),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_tables_and_nested_lists_are_read(tmp_path: Path, name: str, content: str, zipped: bool) -> None:
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    items = load_questions(path)
    assert [(item.prompt, item.answer) for item in items] == [(row["question"], row["answer"]) for row in TABLE]
    assert items[1].meta["file"] == path.name


def test_parquet_is_read_by_columns_with_its_nested_fields(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    rows = [{"question": f"{k}?", "answer": float(k), "extra": {"a": [k]}} for k in range(2500)]
    rows[7]["answer"] = float("nan")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(
        UsageError, match=r"1 of 2500 rows.*\n.*a.parquet, row 8: field 'answer' is nan, which is no number"
    ):
        load_questions(tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match=r"1 of 2500 rows .* left out \(row 8\)"):
        items = load_questions(tmp_path / "a.parquet", skip_bad=True)
    assert len(items) == 2499
    assert (items[-1].prompt, items[-1].answer, items[-1].meta["extra"]) == ("2499?", "2499", {"a": [2499]})
    assert items[-1].meta["line"] == 2500


def test_a_pool_makes_only_the_items_that_it_gives(write: Write) -> None:
    items = load_questions(write([{"question": f"{k}?", "answer": str(k)} for k in range(500)]))
    task = QuestionTask(items)
    made = []
    items._read = lambda row, read=items._read: made.append(row) or read(row)
    pool = task.pool(20, "train")
    assert len(made) == len(pool) == 20
    assert [item.id for item in QuestionTask(list(items)).pool(20, "train")] == [item.id for item in pool]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "question,answer\n1,2,3\n", "a.csv, line 2 has 3 cells, its header 2"),
        ("a.csv", 'question,answer\n"1,2\n', "is a double quote missing"),
        ("a.csv", "question,question\n1,2\n", "'question' twice"),
        ("a.csv", "question,answer\n", "has no rows"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"question": "a", "answer": "b"}' * 50, mtime=0)[:-9],
            "damaged or incomplete gzip",
        ),
        ("a.xlsx", b"PK\x03\x04", "zip archive"),
        ("a.txt", "What is 1+1?", r"no format that is known \(.txt\); expected a file"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", json.dumps({"question": 5, "answer": 1}), "field 'question' is 5; expected a text"),
        ("a.jsonl", json.dumps({"question": "a" * 2_000_000, "answer": None}), "line 1: field 'answer' is None"),
        ("a.jsonl", json.dumps({"question": "?", "answer": {"a": None}}), "field 'answer' is {'a': None}"),
        ("a.jsonl", json.dumps({"question": "?", "answer": ["a", "b"]}), "holds 2 answers; expected one"),
        ("a.jsonl", '{"question": "?", "answer": -Infinity}', "is -inf, which is no number"),
        ("a.jsonl", '{"question": "?", "answer": "\\udc00"}', "field 'answer' holds half of a surrogate pair"),
        ("a.jsonl", '{"messages": [{"role": "assistant", "content": "4"}]}', "has no messages of a user"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "2+2?"}]}', "the last turn of 'messages' is not the"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as refused:
        load_questions(path)
    assert len(str(refused.value)) < 1000


def test_pipes_and_empty_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a pipe or a device"):
        load_questions(tmp_path / "pipe")
    pytest.importorskip("datasets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_questions(tmp_path / "empty")


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
        (json.dumps(GOOD) + "\n3\n", "line 2 is a number; expected an object"),
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
    with pytest.warns(UserWarning, match=r"1 of 2 rows .* left out \(line 2\), such as data.jsonl, line 2"):
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


def test_a_small_set_has_something_held_out() -> None:
    for count in (2, 3, 5):
        task = QuestionTask(questions(count))
        assert len(task.pool(1, "held_out")) == 1
    with pytest.warns(UserWarning, match="0 held_out"):
        assert QuestionTask(questions(5), held_out_share=0).pool(1, "held_out") == []


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
