"""S24, real SIGKILLs of `pilotage run`: killed and resumed it equals an undisturbed run, byte for byte."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.fork_server import Ask, served
from tests.runs.what_counts import what_counts

from pilotage.cli import main

DIGITS = Path(__file__).parent / "language" / "digits.py"
STEPS, PROMPTS, POOL, SAVES = 12, 4, 8, 3
"""An epoch is two steps, so that every other batch ends one."""
SMALL = (
    f"--model embedded:0.4M --pretrain-to-accuracy 0 --difficulties 1,2 --prompts-per-step {PROMPTS} "
    f"--group-size 4 --steps {STEPS} --num-train-prompts {POOL} "
    f"--max-tokens 6 --evaluate-every 6 --evaluation-prompts 2 --evaluation-samples 1 --checkpoint-every {SAVES} "
    f"--save-rollouts=-1 --quiet --reward {DIGITS}:"
)
WORDS = {
    "grpo": f"grpo {SMALL}digits",
    "adapter": f"grpo {SMALL}digits --adapter lora:4",
    "refill": f"dapo {SMALL}all_or_nothing --minibatches 2 --refill-rounds 3",
    "thompson": f"vade {SMALL}digits --num-train-prompts 16",
}
"""What is killed: plain, with an adapter, with rounds that refill the batch, with a sampler that learns."""
FILES = ("rollouts.jsonl", "policy/model.safetensors")


@pytest.fixture(scope="module")
def train() -> Iterator[Ask]:
    with served(Path(__file__).with_name("training_server.py")) as ask:
        yield ask


class Whole:
    """Undisturbed runs, one for each row of WORDS, made when they are first asked for."""

    def __init__(self, train: Ask, folder: Path) -> None:
        self.train, self.folder = train, folder
        self.calls: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str) -> Path:
        if name not in self.calls:
            began = time.monotonic()
            answer = self.train(self.folder / name, words=WORDS[name].split())
            assert answer["status"] == 0
            self.calls[name], self.seconds[name] = answer["calls"], time.monotonic() - began
        return self.folder / name


@pytest.fixture(scope="module")
def whole(train: Ask, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(train, tmp_path_factory.mktemp("undisturbed"))


def lines(directory: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]


def prompts_by_step(directory: Path) -> dict[int, list[str]]:
    """The item of each group that was trained on, by step."""
    groups = {(row["step"], row["group"]): row["item"] for row in lines(directory, "rollouts")}
    steps = sorted({step for step, _ in groups})
    return {step: [item for (at, _), item in sorted(groups.items()) if at == step] for step in steps}


def finish(train: Ask, directory: Path, name: str) -> None:
    assert train(directory, words=WORDS[name].split())["status"] in (0, 3)
    assert train(directory, words=WORDS[name].split())["status"] == 3, "a finished run has nothing to do"


def killed_at_random(train: Ask, whole: Whole, folder: Path, kills: int, seed: int) -> None:
    """Runs that are killed again and again until they are done, `kills` times together, each equal to `whole`."""
    undisturbed = whole("grpo")
    draw, span = random.Random(seed), whole.seconds["grpo"]
    done = number = 0
    while done < kills:
        place = folder / str(number)
        number += 1
        while done < kills:
            status = train(place, words=WORDS["grpo"].split(), kill_after=draw.uniform(0, span))["status"]
            assert status in (-9, 0), "died of something else than the kill"
            done += status == -9
            if status == 0:
                span *= 0.9  # the machine is faster than it was
                break
        finish(train, place, "grpo")
        assert what_counts(place, *FILES) == what_counts(undisturbed, *FILES)


def test_the_undisturbed_run_consumes_each_prompt_once_per_epoch(whole: Whole) -> None:
    steps = prompts_by_step(whole("grpo"))
    assert list(steps) == list(range(1, STEPS + 1))
    for first in range(1, STEPS, 2):
        assert Counter(steps[first] + steps[first + 1]) == Counter(set(steps[1] + steps[2])), first
    assert len(set(steps[1] + steps[2])) == POOL
    assert lines(whole("grpo"), "metrics")[1]["gradient_norm"] > 0
    # Said once: a resumed run must remember that it has been.
    assert [event["kind"] for event in lines(whole("grpo"), "events")] == ["truncated"]


def test_another_process_writes_the_same_files_whatever_the_global_generators_are(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S19: this process has another seed of hashes than the server's, too."""
    torch.rand(3)
    assert main(["run", *WORDS["grpo"].split(), "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    assert what_counts(tmp_path / "run", *FILES) == what_counts(whole("grpo"), *FILES)


def test_killed_at_random_moments_equals_undisturbed(train: Ask, whole: Whole, tmp_path: Path) -> None:
    killed_at_random(train, whole, tmp_path, kills=6, seed=0)


@pytest.mark.slow
def test_killed_at_120_random_moments_equals_undisturbed(train: Ask, whole: Whole, tmp_path: Path) -> None:
    killed_at_random(train, whole, tmp_path, kills=120, seed=1)


@pytest.mark.parametrize(
    "stride", [pytest.param(0, id="four points"), pytest.param(3, marks=pytest.mark.slow, id="every third")]
)
def test_killed_inside_a_save_equals_undisturbed(train: Ask, whole: Whole, tmp_path: Path, stride: int) -> None:
    """Points of the calls that change the disk: a half-written line, an unfinished folder, a rename not yet made."""
    undisturbed = whole("grpo")
    calls = whole.calls["grpo"]
    for point in range(1, calls, stride) if stride else (calls // 3, calls // 2 + 1, calls - 10, calls - 1):
        place = tmp_path / str(point)
        assert train(place, words=WORDS["grpo"].split(), kill_at=point)["status"] == -9
        finish(train, place, "grpo")
        assert what_counts(place, *FILES) == what_counts(undisturbed, *FILES), f"killed at call {point} of {calls}"


@pytest.mark.parametrize("name", ["adapter", "refill", pytest.param("thompson", marks=pytest.mark.slow)])
def test_killed_twice_with_more_state_equals_undisturbed(train: Ask, whole: Whole, tmp_path: Path, name: str) -> None:
    """With an adapter, with roll-outs of several rounds in flight, with a sampler that learns."""
    undisturbed, calls = whole(name), whole.calls[name]
    place = tmp_path / "run"
    assert train(place, words=WORDS[name].split(), kill_at=2 * calls // 3)["status"] == -9
    train(place, words=WORDS[name].split(), kill_at=calls // 5)
    finish(train, place, name)
    assert what_counts(place, *FILES) == what_counts(undisturbed, *FILES)
    assert max(line["sampler_gap"] for line in lines(place, "metrics")[1:]) < 1e-4
    if name == "refill":
        assert max(line["samples/rounds"] for line in lines(place, "metrics")[1:]) > 1
