"""The measures of GTPO's claims against direct computations, on a policy that has learnt nothing yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.systems.reasoning.tiny_world import TINY, context_for

from pilotage.experiments.planning import check_claims
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.policies.language.scoring import can_share_prompts
from pilotage.systems.reasoning.gtpo import claims as gtpo
from pilotage.training.language.frozen_policy import batches, frozen_trainer
from pilotage.types import Item


def conflicts_by_hand(rollouts) -> tuple[int, int]:
    """(tokens of leading or trailing runs shared by both classes, tokens), by the paper's words, one at a time."""
    answers = [ids[mask].tolist() for ids, mask in zip(rollouts.ids, rollouts.mask, strict=True)]
    groups, rewards = rollouts.group.tolist(), rollouts.column("reward").tolist()
    cut = rollouts.truncated.tolist()
    marked = 0
    for i, answer in enumerate(answers):
        members = [j for j in range(len(answers)) if groups[j] == groups[i]]
        mean = sum(rewards[j] for j in members) / len(members)
        sign = {j: 0 if abs(rewards[j] - mean) < 1e-6 else 1 if rewards[j] > mean else -1 for j in members}
        found = set()
        for backwards in (False, True):
            turned = {j: answers[j][::-1] if backwards else answers[j] for j in members}
            take_part = [j for j in members if sign[j] and not (backwards and cut[j])]
            if i not in take_part:
                continue
            for t, token in enumerate(turned[i]):
                sides = {sign[j] for j in take_part if len(turned[j]) > t and turned[j][t] == token}
                if sides != {1, -1}:
                    break
                found.add(len(answer) - 1 - t if backwards else t)
        marked += len(found)
    return marked, sum(len(answer) for answer in answers)


def test_conflict_shares_are_those_counted_by_hand(tmp_path):
    context = context_for(tmp_path, f"grpo {TINY}")
    measured = gtpo.conflict_shares("grpo", 0, context)
    with frozen_trainer(context.configuration(), tmp_path / "again", 0) as trainer:
        counts = [conflicts_by_hand(rollouts) for rollouts in batches(trainer, 2)]
    assert sum(marked for marked, _ in counts) > 0
    by_hand = sum(marked / tokens for marked, tokens in counts) / len(counts)
    assert measured["share_before"] == pytest.approx(by_hand, rel=1e-6)
    assert measured["raw_share"] >= measured["share"] > 0
    assert gtpo.conflict_shares(gtpo.CENTRE, 0, context)["share"] == 0.225


def test_the_probe_measures_a_change_that_is_there(tmp_path):
    context = context_for(tmp_path, f"gtpo {TINY}")
    measured = gtpo.probe_log_prob("gtpo", 0, context)
    trained = LanguagePolicy.from_pretrained(str(Path(context.train().run) / "policy"))
    with frozen_trainer(context.configuration(), tmp_path / "again", gtpo.PROBE_SEED) as trainer:
        (rollouts,) = batches(trainer, 1)
        changes = trainer.likelihood.score(trained.model, rollouts).logp
        changes = changes - trainer.likelihood.score(trainer.model, rollouts).logp
    marked, tokens = conflicts_by_hand(rollouts)
    total = marked * measured["conflict"] + (tokens - marked) * measured["other"]
    assert total == pytest.approx(float(changes[rollouts.mask].sum()), rel=1e-4, abs=1e-5)
    assert measured["conflict"] != 0
    assert gtpo.probe_log_prob(gtpo.UNTRAINED, 0, context) == {"conflict": 0.0, "other": 0.0}


def test_collapse_reads_the_evaluations_of_the_training(tmp_path):
    context = context_for(tmp_path, f"grpo {TINY}")
    run = Path(context.train().run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    for line, accuracy, formed in zip(lines, (0.4, 0.5, 0.44), (0.9, 0.8, 0.3), strict=True):
        line |= {"held_out/accuracy": accuracy, "held_out/well_formed": formed, "held_out/entropy": 0.1}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    measured = gtpo.collapse("grpo", 0, context)
    assert (measured["survived"], measured["collapsed"]) == (0, 1), "0.44 is less than 0.9 of 0.5"
    assert (measured["accuracy"], measured["accuracy_most"]) == (0.44, 0.5)
    assert measured["well_formed"] == measured["well_formed_least"] == 0.3
    assert gtpo.collapse(gtpo.UNTRAINED, 0, context)["well_formed"] == 0.9


def test_pass_at_k_is_the_chance_over_choices_of_answers(tmp_path, monkeypatch):
    context = context_for(tmp_path, f"grpo {TINY}")
    verdicts = iter(range(10**6))

    def right(_self, texts: list[str], items: list[Item]) -> list[float]:
        del items
        return [float(next(verdicts) % 3 == 0) for _ in texts]

    monkeypatch.setattr("pilotage.training.language.trainer.TextTrainer.right", right)
    context.train()
    measured = gtpo.pass_at("grpo", 0, context)
    assert list(measured) == [f"pass@{k}" for k in (1, 2, 4, 8, 16, 32)]
    # Every third answer is right: 10 or 11 of 32, so that one of any 23 must be.
    assert measured["pass@1"] == pytest.approx(1 / 3, abs=0.02)
    one_misses, two_miss = 1 - measured["pass@1"], 1 - measured["pass@2"]
    assert two_miss == pytest.approx(one_misses**2 - one_misses * (1 - one_misses) / 31, abs=1e-3)
    assert measured["pass@32"] == 1.0


def test_the_claims_obey_the_rules():
    check_claims(gtpo.CLAIMS)
    assert sum(claim.primary for claim in gtpo.CLAIMS) == 3
    assert all(claim.tier == "core" for claim in gtpo.CLAIMS if claim.primary)
    for claim, arm in ((c, arm) for c in gtpo.CLAIMS for arm in c.arms.values()):
        for options in arm.grid or ("",):
            context = context_for(Path("unused"), f"{arm.command} {options}")
            assert context.configuration().prompts_per_step == 16, claim.name


def test_a_policy_that_grew_surer_of_every_token_shows_it_in_both_numbers(tmp_path, monkeypatch):
    context = context_for(tmp_path, f"grpo {TINY}")
    context.train()

    def score(_self, model, rollouts, entropy=False):
        del entropy
        shift = 0.25 if model.__dict__.get("is_trained") else 0.0
        return type("Scored", (), {"logp": torch.full(rollouts.ids.shape, shift)})

    opened = LanguagePolicy.from_pretrained

    def load(folder):
        policy = opened(folder)
        policy.model.__dict__["is_trained"] = folder.endswith("/policy")
        return policy

    monkeypatch.setattr("pilotage.policies.language.policy.LanguagePolicy.from_pretrained", load)
    monkeypatch.setattr("pilotage.training.language.models.Autoregressive.score", score)
    measured = gtpo.probe_log_prob("grpo", 0, context)
    assert measured == {"conflict": pytest.approx(0.25), "other": pytest.approx(0.25)}


@pytest.mark.parametrize(("command", "passes"), [("gtpo", 1), ("grpo", 1), ("grpo --regulariser 0.04*kl:kind=k3", 2)])
def test_an_update_takes_one_pass_and_a_reference_model_takes_one_more(command, passes, tmp_path):
    name, _, options = command.partition(" ")
    rows = 0

    def count(_module, _args, inputs):
        nonlocal rows
        rows += len(inputs["input_ids"])

    config = context_for(tmp_path, f"{name} {TINY} {options}").configuration()
    with frozen_trainer(config, tmp_path / "update", 0) as trainer:
        rollouts, _ = trainer.score_rollouts(trainer.roll_out(0, 0))
        models = [model for model in (trainer.model, trainer.reference) if model is not None]
        for model in models:
            can_share_prompts(model)  # tries the model once, before it is counted
            model.register_forward_pre_hook(count, with_kwargs=True)
        trainer.learn(0, rollouts)
    assert rows == passes * len(rollouts)
    assert len(models) == passes
