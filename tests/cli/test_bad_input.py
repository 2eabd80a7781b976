"""Bad input to `pilotage run`: the exit code, and one message that says what was given, expected, and what to do."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.runs.fork_server import ROOT
from tests.training.language.small_model import write_model

from pilotage.runs import checkpoints
from pilotage.runs.checkpoints import listed

DIGITS = ROOT / "tests" / "training" / "language" / "digits.py"
GOOD = {"question": "1 + 1?", "answer": "#### 2"}
TINY = (
    "--pretrain-to-accuracy 0 --difficulties 1 --prompts-per-step 2 --group-size 2 --num-train-prompts 4 "
    "--max-tokens 2 --evaluate-every 0 --evaluation-prompts 2 "
    f"--evaluation-samples 1 --reward {DIGITS}:digits --out here"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def complaint(answer: tuple[int, str, str], code: int) -> str:
    """The one message of a command that ended with `code`; progress lines may stand before it."""
    given, out, err = answer
    assert given == code, (out, err)
    assert err.count("pilotage: ") == 1
    assert "Traceback" not in out + err
    assert "result" not in out
    return err[err.index("pilotage: ") :]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ("no file", "questions.jsonl")),
        (b"", ("questions.jsonl is empty", "expected")),
        (b"question,answer\n1,2\n", ("questions.jsonl", "line 1 is not JSON", "expected")),
        (b'{"frage": "1+1?", "answer": "2"}\n', ("no field for a prompt", "'frage', 'answer'", "fields=")),
        (b'{"question": "1+1?", "answer": "so it is two"}\n', ("line 1", "has no '#### number'", "so it is two")),
        (b'{"question": "caf\xe9?", "answer": "2"}\n', ("line 1", "(0xe9) is not UTF-8")),
    ],
    ids=["missing", "empty", "not JSON", "wrong field", "no answer", "not UTF-8"],
)
def test_data_that_cannot_be_used(pilotage, content: bytes | None, said: tuple[str, ...]) -> None:
    rows = content if content is None or b"so it is" not in content else json.dumps(GOOD).encode() + b"\n" + content
    if rows is not None:
        Path("questions.jsonl").write_bytes(rows)
    message = complaint(pilotage("run", "grpo", "--model", "any", "--data", "questions.jsonl", "--out", "here"), 2)
    for part in said:
        assert part.replace("line 1", "line 2") in message if rows != content else part in message


def test_a_model_folder_without_a_tokenizer(pilotage, folder: Path, tmp_path: Path) -> None:
    other = {**GOOD, "question": "What is one and two?"}
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (GOOD, other)))
    copy = shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer*", "chat*"))
    message = complaint(
        pilotage("run", "grpo", "--model", str(copy), "--data", "questions.jsonl", "--num-train-prompts", "1"), 2
    )
    assert f"{copy} has no tokenizer; expected one of tokenizer.json" in message
    assert "Copy the tokenizer files" in message


def test_a_model_folder_with_pickled_weights_only(pilotage, folder: Path, tmp_path: Path) -> None:
    other = {**GOOD, "question": "What is one and two?"}
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (GOOD, other)))
    copy = shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({}, copy / "pytorch_model.bin")
    message = complaint(
        pilotage("run", "grpo", "--model", str(copy), "--data", "questions.jsonl", "--num-train-prompts", "1"), 2
    )
    assert "only pickled weights (pytorch_model.bin)" in message
    assert ".safetensors" in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("grpo --group-size 1", ("group_size=1", "'zscore'", "give --group-size 2 or more")),
        ("grpo --stepz 3", ("--stepz", "did you mean '--steps'")),
        ("grpo --advantage zscor", ("'zscor'", "zscore")),
        (
            "grpo --advantage token_return --aggregate token_mean --surrogate reinforce --epochs 2",
            ("exactly on-policy",),
        ),
        ("grpo --advantage {mine}:needs_bundles", ("needs_bundles", "bundle", "'mvar'")),
        ("grpo --shaping none --advantage mvar --filter informative", ("mvar", "informative")),
        ("grpo --refill-rounds 3", ("refill_rounds=3", "--filter informative")),
        ("grpo --surrogate none", ("surrogate", "needs a piece")),
        ("grpo --reward exakt", ("'exakt'", "did you mean 'exact'")),
        ("grpo --task ad", ("'ad'", "add")),
        ("grpo --lr-schedule cosin", ("did you mean 'cosine'",)),
    ],
)
def test_what_does_not_fit_together(pilotage, words: str, said: tuple[str, ...]) -> None:
    mine = Path("mine.py").absolute()
    mine.write_text("def needs_bundles(reward, bundle):\n    return reward - bundle\n")
    name, *options = words.format(mine=mine).split()
    message = complaint(pilotage("run", name, *TINY, *options), 2)
    assert len(message.strip().splitlines()) == 1
    for part in said:
        assert part in message


def test_a_full_disk_while_a_checkpoint_is_written_keeps_the_earlier_one(
    pilotage, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "grpo", *TINY, "--steps", "4", "--checkpoint-every", "1"]
    put, puts = checkpoints.replace_directory, []

    def full(*given: object) -> None:
        puts.append(given)
        if len(puts) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(*given)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "replace_directory", full)
        message = complaint(pilotage(*words), 1)
    assert "no room to write here/checkpoints/step-00000003" in message
    assert "make room" in message
    assert [step for step, _ in listed(Path("here/checkpoints"))] == [2, 1]
    assert pilotage(*words)[0] == 0
    assert pilotage(*words, "--out", "undisturbed")[0] == 0
    for name in ("metrics.jsonl", "rollouts.jsonl", "policy/model.safetensors"):
        assert Path("here", name).read_bytes() == Path("undisturbed", name).read_bytes()


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run directory `here` until its input ends."""
    code = (
        "import sys; from pathlib import Path; from pilotage.core.atomic_io import Lock\n"
        "Path('here').mkdir(); lock = Lock(Path('here/lock')); print(lock.take(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        yield process


def test_two_processes_on_one_run_directory(pilotage, other_process: subprocess.Popen[str]) -> None:
    words = ["run", "grpo", *TINY, "--steps", "1"]
    message = complaint(pilotage(*words), 2)
    assert f"here is in use by process {other_process.pid}" in message
    assert "wait until it is done, stop it, or give another directory" in message
    other_process.communicate("")
    assert pilotage(*words)[0] == 0


def test_equal_rewards_and_cut_answers_are_warned_of_in_the_run_and_at_its_end(pilotage) -> None:
    Path("mine.py").write_text("def same(text, item):\n    return 0.0\n")
    code, out, err = pilotage("run", "grpo", *TINY, "--steps", "21", "--reward", "mine.py:same")
    assert code == 0, err
    events = [json.loads(line) for line in Path("here/events.jsonl").read_text().splitlines()]
    assert [(event["kind"], event["step"]) for event in events] == [("truncated", 1), ("equal rewards", 20)]
    for event in events:
        assert event["text"] in out
    assert err.count("pilotage: ") == 0
