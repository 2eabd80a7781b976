"""Whole runs of the text trainer on a policy that has learnt nothing yet: what it writes, and that it can be killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import NonFinite, UsageError
from pilotage.core.system import Result
from pilotage.runs import Run
from pilotage.systems.reasoning import baselines, bnpo, gtpo, riskpo, vade
from pilotage.training.language.config import TextConfig
from pilotage.training.language.trainer import TextTrainer, _correctness, train

SYSTEMS = {s.name: s for s in [*baselines.SYSTEMS, gtpo.SYSTEM, bnpo.SYSTEM, riskpo.SYSTEM, vade.SYSTEM]}


def close_reward(text, item):
    """Graded, so that an untrained policy has something to learn from: the share of digits in the answer."""
    del item
    return sum(c.isdigit() for c in text) / max(len(text), 1)


def all_or_nothing(text, item):
    """Most groups are all right or all wrong."""
    return float(int(item.id, 16) % 2) if int(item.id, 16) % 3 else close_reward(text, item)


def broken(text, item):
    """Fails on some answers."""
    if len(text) % 5 == 0:
        raise RuntimeError("no judgement")
    return close_reward(text, item)


def broken_for_some(text, item):
    """Fails on the answers to some prompts."""
    del text
    if not item.id[0].isdigit():
        raise RuntimeError("no score")
    return 1.0


def one_prompt_varies(text, item):
    """Graded for a sixth of the prompts; the answers to the others all get the same."""
    return close_reward(text, item) if int(item.id, 16) % 6 == 0 else 0.0


def infinite(reward):
    """An advantage that no loss survives."""
    return reward * float("inf")


def small(config: TextConfig, **changes) -> TextConfig:
    settings = {
        "difficulties": (1, 2),
        "num_train_prompts": 40,
        "pretrain_to_accuracy": 0.0,
        "prompts_per_step": 6,
        "group_size": 4,
        "steps": 3,
        "max_tokens": 8,
        "evaluate_every": 2,
        "evaluation_prompts": 4,
        "evaluation_samples": 1,
        "checkpoint_every": 2,
        "save_rollouts": -1,
        "minibatches": min(config.minibatches, 2),
        "reward": f"{__file__}:close_reward",
        "critic_warmup_steps": 1,
    }
    if "mvar" in str(config.advantage):
        settings["advantage"] = "mvar:size=2"
    return replace(config, **{**settings, **changes})


def run_in(folder: Path, config: TextConfig, seed: int = 0) -> tuple[Result, list[dict], list[dict]]:
    with Run.create(folder, system="test", config=config_to_dict(config), seed=seed) as run:
        result = train(config, run)
    lines = [[json.loads(line) for line in (folder / name).open()] for name in ("metrics.jsonl", "rollouts.jsonl")]
    return result, lines[0], lines[1]


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_trains(name, tmp_path):
    result, metrics, rollouts = run_in(tmp_path / "run", small(SYSTEMS[name].config))
    assert [line["step"] for line in metrics] == [0, 1, 2, 3]
    assert 0 <= result.metrics["held_out/accuracy"] <= 1
    assert all(line["gradient_norm"] > 0 for line in metrics[1:] if "gradient_norm" in line)
    assert metrics[-1]["sampler_gap"] < 1e-4
    assert rollouts


def test_every_metric_is_explained(tmp_path):
    folder = tmp_path / "run"
    _, metrics, _ = run_in(folder, small(SYSTEMS["ppo"].config, steps=6))
    explained = json.loads((folder / "metrics.json").read_text())
    patterns = [name.removesuffix("*") for name in explained if name.endswith("*")]
    for line in metrics:
        for name in line:
            assert name == "step" or name in explained or any(name.startswith(p) for p in patterns), name


def test_metrics_can_be_computed_again_from_the_saved_rollouts(tmp_path):
    """S20."""
    _, metrics, rollouts = run_in(tmp_path / "run", small(SYSTEMS["grpo"].config))
    for line in metrics[1:]:
        rows = [row for row in rollouts if row["step"] == line["step"]]
        assert len(rows) == 24
        assert line["reward/mean"] == pytest.approx(sum(r["reward"] for r in rows) / len(rows), abs=1e-6)
        assert line["length/mean"] == pytest.approx(sum(r["length"] for r in rows) / len(rows), abs=1e-9)
        assert line["truncated"] == pytest.approx(sum(r["stop"] == "length" for r in rows) / len(rows), abs=1e-9)
        tokens = [a for r in rows for a in [r["advantage"]] * (r["length"] if isinstance(r["advantage"], float) else 1)]
        assert line["advantage/mean"] == pytest.approx(sum(tokens) / len(tokens), abs=1e-5)


def test_the_same_seed_gives_the_same_run_and_global_generators_do_not_matter(tmp_path):
    """S19."""
    config = small(SYSTEMS["grpo"].config)
    first = run_in(tmp_path / "a", config)
    torch.manual_seed(99)
    torch.rand(7)
    second = run_in(tmp_path / "b", config)
    other = run_in(tmp_path / "c", config, seed=1)
    assert first[1] == second[1]
    assert first[2] == second[2]
    assert first[2] != other[2]


class KilledError(RuntimeError):
    """Stands for a kill at a chosen moment; real SIGKILLs are sent in tests/test_kill.py."""


@pytest.mark.parametrize("name", ["grpo", "vade", "riskpo", "ppo", "dapo"])
@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_resumed_run_equals_an_undisturbed_one(name, at, tmp_path, monkeypatch):
    """S24: state of samplers, trackers, critics, optimisers and random streams is in the checkpoint."""
    config = small(SYSTEMS[name].config, steps=5)
    whole = run_in(tmp_path / "whole", config)
    step = TextTrainer.step

    def stop(self, index):
        if index == at:
            raise KilledError
        return step(self, index)

    monkeypatch.setattr(TextTrainer, "step", stop)
    with pytest.raises(KilledError):
        run_in(tmp_path / "cut", config)
    monkeypatch.setattr(TextTrainer, "step", step)
    resumed = run_in(tmp_path / "cut", config)
    assert resumed[1] == whole[1]
    assert resumed[2] == whole[2]
    weights = [(tmp_path / f / "policy" / "model.safetensors").read_bytes() for f in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_finished_run_has_nothing_to_do(tmp_path):
    config = small(SYSTEMS["grpo"].config)
    first = run_in(tmp_path / "run", config)
    again = run_in(tmp_path / "run", config)
    assert again[0].metrics == first[0].metrics
    assert again[1] == first[1]


def test_each_prompt_of_an_epoch_is_consumed_once(tmp_path):
    config = small(SYSTEMS["grpo"].config, num_train_prompts=24, steps=4, difficulties=(2,))
    _, _, rollouts = run_in(tmp_path / "run", config)
    assert len({(row["step"], row["group"]) for row in rollouts}) == 24
    assert len({row["item"] for row in rollouts}) == 24


def test_dynamic_sampling_trains_on_informative_groups_only_and_counts_what_it_discards(tmp_path):
    config = small(SYSTEMS["dapo"].config, reward=f"{__file__}:all_or_nothing")
    _, metrics, rollouts = run_in(tmp_path / "run", config)
    for line in metrics[1:]:
        groups: dict[int, set[float]] = {}
        for row in rollouts:
            if row["step"] == line["step"]:
                groups.setdefault(row["group"], set()).add(row["reward"])
        assert len(groups) == line["groups/trained"] <= 6
        assert all(len(rewards) > 1 for rewards in groups.values())
    assert metrics[-1]["samples/total"] > 3 * 24


def test_failed_judgements_leave_the_others_advantages_alone(tmp_path):
    """S8."""

    config = small(SYSTEMS["grpo"].config, reward=f"{__file__}:broken", failure_limit=0.9)
    _, metrics, rollouts = run_in(tmp_path / "run", config)
    assert metrics[1]["failures/exception"] > 0
    by_group: dict[tuple[int, int], list[dict]] = {}
    for row in rollouts:
        by_group.setdefault((row["step"], row["group"]), []).append(row)
    for rows in by_group.values():
        rewards = torch.tensor([row["reward"] for row in rows], dtype=torch.float64)
        if len(rows) > 1 and rewards.std() > 0:
            expected = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
            torch.testing.assert_close(
                torch.tensor([row["advantage"] for row in rows], dtype=torch.float64), expected, atol=1e-4, rtol=1e-4
            )


def test_fewer_groups_than_minibatches_are_trained_on_in_fewer_parts(tmp_path):
    """A filter may leave a single group; the run goes on, and says so."""
    config = small(SYSTEMS["gspo"].config, reward=f"{__file__}:one_prompt_varies", filter="informative", minibatches=6)
    _, metrics, _ = run_in(tmp_path / "run", config)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").open()]
    few = {event["step"]: event["text"] for event in events if event["kind"] == "few groups"}
    groups = {line["step"]: int(line["groups/trained"]) for line in metrics[1:]}
    assert any(0 < count < 6 for count in groups.values())
    assert {step for step, count in groups.items() if 0 < count < 6} == set(few)
    assert all(text.startswith(f"{groups[step]} groups") for step, text in few.items())


def test_dynamic_sampling_looks_at_correctness_not_at_the_whole_reward(tmp_path):
    """A group that is all wrong goes, though the penalty of overlong answers differs within it."""
    reward = "exact+overlong:maximum=8,buffer=8"
    _, metrics, _ = run_in(
        tmp_path / "run", small(SYSTEMS["grpo"].config, reward=reward, filter="informative", steps=1)
    )
    assert metrics[1]["groups/zero_variance"] < 1
    assert metrics[1]["groups/trained"] == 0


def test_correctness_is_the_exact_component_and_the_total_where_that_abstains():
    scores = torch.tensor([[-0.5, 1.0], [-0.5, torch.nan]])
    total = torch.tensor([0.5, -0.5])
    assert _correctness(("overlong", "exact"), scores, total).tolist() == [1.0, -0.5]
    assert _correctness(("overlong", "mine.py:reward"), scores, total).tolist() == total.tolist()


def test_a_group_without_a_greedy_reward_is_left_out_and_counted(tmp_path, monkeypatch):
    """S8: the baseline of ReMax could not be scored for one prompt of six."""
    given = TextTrainer.greedy_reward

    def with_one_failure(self, items):
        found = given(self, items)
        found[2] = torch.nan
        return found

    monkeypatch.setattr(TextTrainer, "greedy_reward", with_one_failure)
    _, metrics, rollouts = run_in(tmp_path / "run", small(SYSTEMS["remax"].config))
    for line in metrics[1:]:
        assert line["failures/greedy"] == 4
        assert line["groups/trained"] == 5
        groups = {row["group"] for row in rollouts if row["step"] == line["step"]}
        assert len(groups) == 5


def test_a_greedy_answer_that_cannot_be_scored_has_no_reward(tmp_path):
    config = small(SYSTEMS["remax"].config, reward=f"{__file__}:broken_for_some", failure_limit=1.0)
    with Run.create(tmp_path / "run", system="test", config=config_to_dict(config), seed=0) as run:
        trainer = TextTrainer(config, run)
        trainer.load_engine(0)
        items = trainer.items[:6]
        fails = [not item.id[0].isdigit() for item in items]
        assert any(fails)
        assert trainer.greedy_reward(items).isnan().tolist() == fails
        trainer.close()


def test_what_refuses_an_option_comes_before_the_policy(tmp_path, monkeypatch):
    """A policy may be trained first, for minutes."""

    def make_policy(*_):
        raise AssertionError("the policy was made")

    monkeypatch.setattr("pilotage.training.language.models.make_policy", make_policy)
    for changes in (
        {"sampler": "thompson:retain_others=2"},
        {"reward": "exact+form"},
        {"advantage": "bnpo", "reward": "exact+format"},
        {"advantage": "zscore:epsilon=-1"},
    ):
        with pytest.raises(UsageError):
            run_in(tmp_path / str(len(list(tmp_path.iterdir()))), small(SYSTEMS["grpo"].config, **changes))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path):
    with pytest.raises(NonFinite):
        run_in(tmp_path / "run", small(SYSTEMS["grpo"].config, advantage=f"{__file__}:infinite"))
    assert (tmp_path / "run" / "failed-batch" / "batch.safetensors").is_file()
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_stale_weights_raise_the_alarm(tmp_path, monkeypatch):
    """S5: one sync held back."""
    load = TextTrainer.load_engine
    monkeypatch.setattr(TextTrainer, "load_engine", lambda self, version: load(self, version) if version == 0 else None)
    run_in(tmp_path / "run", small(SYSTEMS["grpo"].config, lr=0.05, logprob_gap_warning=0.01))
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").open()]
    assert any(event["kind"] == "sampler gap" for event in events)


def test_a_learning_rate_of_zero_keeps_every_ratio_at_one(tmp_path):
    """S7."""
    _, metrics, _ = run_in(tmp_path / "run", small(SYSTEMS["gspo"].config, lr=0.0))
    for line in metrics[1:]:
        assert line["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert line["kl_old"] == pytest.approx(0.0, abs=1e-8)


def never_for_some(text, item):
    """Prompts whose id begins with a letter are never solved."""
    del text
    return float(item.id[0].isdigit())


def test_prompts_that_were_never_solved_are_listed_at_the_end(tmp_path):
    config = small(SYSTEMS["vade"].config, reward=f"{__file__}:never_for_some", group_size=8, steps=4, evaluate_every=0)
    _, _, rollouts = run_in(tmp_path / "run", config)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").open()]
    (event,) = [event for event in events if event["kind"] == "never solved"]
    never = {row["item"] for row in rollouts if not row["item"][0].isdigit()}
    assert event["step"] == 4
    assert event["text"].startswith(f"{len(never)} of 40 prompts were never solved")
    assert all(item in event["text"] for item in never)
    run_in(tmp_path / "uniform", replace(config, sampler="uniform"))
    kept = tmp_path / "uniform" / "events.jsonl"
    assert not kept.exists() or "never solved" not in kept.read_text()


def test_a_probe_adds_numbers_and_changes_nothing(tmp_path):
    config = small(SYSTEMS["vade"].config)
    _, plain, _ = run_in(tmp_path / "plain", config)
    with Run.create(tmp_path / "probed", system="test", config=config_to_dict(config), seed=0) as run:
        train(config, run, lambda trainer, step: {"seen": float(step), "batch": float(trainer.config.prompts_per_step)})
    probed = [json.loads(line) for line in (tmp_path / "probed" / "metrics.jsonl").open()]
    looks = [line for line in plain if "held_out/accuracy" in line]
    assert [line["seen"] for line in probed if "seen" in line] == [line["step"] for line in looks] == [0, 2, 3]
    assert [{k: v for k, v in line.items() if k not in ("seen", "batch")} for line in probed] == plain


def test_an_unknown_model_size_is_refused(tmp_path):
    with pytest.raises(UsageError, match="3T"):
        run_in(tmp_path / "run", small(SYSTEMS["grpo"].config, model="embedded:3T"))
