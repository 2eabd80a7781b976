"""The full-scale path on a small stand-in: a Hugging Face folder of random weights on questions from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.language.small_model import write_model

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.runs import Run
from pilotage.systems.reasoning import baselines
from pilotage.training.language.config import TextConfig
from pilotage.training.language.cost import estimate_cost
from pilotage.training.language.task import make_task, needs_answer
from pilotage.training.language.trainer import train

GRPO = next(system for system in baselines.SYSTEMS if system.name == "grpo")


def spread(text, item):
    """A number in [0, 1] that differs between random answers."""
    del item
    return sum(map(ord, text)) % 101 / 100


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def settings(model: Path, data: Path | str, **changes) -> TextConfig:
    small = {
        "prompts_per_step": 3,
        "group_size": 2,
        "steps": 2,
        "max_tokens": 6,
        "evaluation_prompts": 4,
        "evaluation_samples": 1,
        "num_train_prompts": 20,
        "evaluate_every": 0,
        "reward": f"{__file__}:spread",
    }
    return replace(GRPO.config, model=str(model), data=str(data), **{**small, **changes})


def run_in(folder: Path, config: TextConfig) -> list[dict]:
    with Run.create(folder, system="grpo", config=config_to_dict(config), seed=0) as run:
        train(config, run)
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


@pytest.mark.parametrize("engine", ["decoder", "transformers"])
def test_grpo_trains_a_hugging_face_model_on_real_gsm8k_rows(model_folder, shared_data, tmp_path, engine):
    data = tmp_path / "gsm8k.jsonl"
    with (shared_data / "gsm8k" / "train.jsonl").open() as file:
        data.write_text("".join(line for line, _ in zip(file, range(60), strict=False)))
    metrics = run_in(tmp_path / "run", settings(model_folder, data, engine=engine))
    assert [line["step"] for line in metrics] == [0, 1, 2]
    assert all(line["gradient_norm"] > 0 for line in metrics[1:])
    assert metrics[-1]["sampler_gap"] < 1e-4
    rollouts = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").open()]
    assert all(row["gold"].replace(",", "").lstrip("-").replace(".", "").isdigit() for row in rollouts)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "policy")
    assert opened.config.model_type == "qwen2"
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "policy").chat_template


def test_mathematical_equality_judges_data_by_default(model_folder, tmp_path):
    data = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(40)]
    data.write_text("\n".join(json.dumps(row) for row in rows))
    metrics = run_in(tmp_path / "run", settings(model_folder, data, reward="exact"))
    assert 0 <= metrics[-1]["held_out/accuracy"] <= 1
    assert (tmp_path / "run" / "journals" / "scores.jsonl").exists()


def test_fields_can_be_named(model_folder, tmp_path):
    data = tmp_path / "own.jsonl"
    data.write_text("\n".join(json.dumps({"ask": f"Say {i}", "gold": str(i)}) for i in range(30)))
    assert run_in(tmp_path / "run", settings(model_folder, data, fields="prompt=ask,answer=gold", steps=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no.*file|not.*exist|missing|there is no"),
        ("", "empty"),
        ("{not json}\n", "line 1"),
        ('{"a": 1}\n', "field"),
        ('{"question": "q", "answer": ""}\n', "answer"),
        ('{"question": "q", "answer": "1"}\n', "no questions to hold out"),
    ],
)
def test_bad_data_is_refused_at_the_door(model_folder, tmp_path, content, message):
    data = tmp_path / "bad.jsonl"
    if content is not None:
        data.write_text(content)
    with pytest.raises(UsageError, match=message):
        run_in(tmp_path / "run", settings(model_folder, data, reward="exact"))


def test_a_prompt_longer_than_the_context_is_refused_before_the_first_step_or_left_out(model_folder, tmp_path):
    data = tmp_path / "long.jsonl"
    questions = [f"{i} " + "x" * (5000 if i == 11 else 5) for i in range(40)]
    data.write_text("\n".join(json.dumps({"question": text, "answer": "1"}) for text in questions))
    config = settings(model_folder, data, num_train_prompts=40, steps=1)
    with pytest.raises(UsageError, match=r"1 of \d+ prompts fill .*long.jsonl, line 12 \(\d+ tokens\)"):
        run_in(tmp_path / "run", config)
    with pytest.warns(UserWarning, match="line 12 .* they are left out"):
        assert run_in(tmp_path / "other", replace(config, skip_bad_rows=True))


def test_a_reward_of_ones_own_trains_on_rows_without_answers(model_folder, tmp_path):
    data = tmp_path / "poems.csv"
    data.write_text("prompt,topic\n" + "\n".join(f"Write a poem about {i},{i}" for i in range(30)))
    assert run_in(tmp_path / "run", settings(model_folder, data, steps=1))
    with pytest.raises(UsageError, match="no field for an answer"):
        run_in(tmp_path / "exact", settings(model_folder, data, reward="0.5*exact+length:maximum=5"))


def test_splits_of_a_data_set_are_trained_on_and_held_out(tmp_path):
    datasets = pytest.importorskip("datasets")
    parts = {
        name: [{"question": f"{name} {i}?", "answer": str(i)} for i in range(4)] for name in ("train", "dev", "test")
    }
    splits = {name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    config = settings("any", tmp_path / "set", test_data=str(tmp_path / "set"), template="{question}")
    for test_split in ("test", "dev"):
        task = make_task(replace(config, test_split=test_split))
        assert sorted(item.prompt for item in task.pool(4, "train")) == [f"train {i}?" for i in range(4)]
        assert sorted(item.prompt for item in task.pool(4, "held_out")) == [f"{test_split} {i}?" for i in range(4)]


def test_an_embedded_policy_is_no_policy_for_questions_of_ones_own(tmp_path):
    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(json.dumps({"question": f"{i}?", "answer": "1"}) for i in range(9)))
    with pytest.raises(UsageError, match="--model"):
        make_task(replace(GRPO.config, data=str(data)))


def test_which_rewards_look_at_the_answers():
    assert [needs_answer(reward) for reward in ("exact", "math", "0.5*partial+format")] == [True] * 3
    assert [needs_answer(reward) for reward in ("format", "my.py:score", spread)] == [False] * 3


def test_the_cost_estimate_counts_answers_and_tokens():
    config = replace(
        GRPO.config, difficulties=(1,), prompts_per_step=2, group_size=2, steps=7, max_tokens=5, evaluation_prompts=2
    )
    cost = estimate_cost(config)
    assert cost["steps"] == 7
    assert cost["answers"] == 28
    assert cost["tokens"] == 140
    assert cost["seconds"] > 0


def test_a_conversation_that_the_template_refuses_is_named_before_the_first_step(tmp_path):
    model = write_model(tmp_path / "model")
    template = model / "chat_template.jinja"
    assert template.is_file()
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    data = tmp_path / "chats.jsonl"
    user = [{"role": "user", "content": "{i} + 2?"}]
    rows = [[{"role": "system", "content": "Brief."}, *user] if i == 30 else user for i in range(40)]
    texts = (json.dumps({"prompt": row, "reward_model": {"ground_truth": str(i)}}) for i, row in enumerate(rows))
    data.write_text("\n".join(text.replace("{i}", str(i)) for i, text in enumerate(texts)))
    with pytest.raises(UsageError, match=r"chats\.jsonl.*31.*system, user: System role not supported.*--no-chat"):
        run_in(tmp_path / "run", settings(model, data, num_train_prompts=2000))
    assert not (tmp_path / "run" / "metrics.jsonl").read_text()
    assert run_in(tmp_path / "plain", settings(model, data, chat=False, steps=1))
