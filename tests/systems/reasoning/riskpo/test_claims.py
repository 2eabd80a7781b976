"""Every measure of RiskPO's claims, tiny, against a direct computation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.systems.reasoning.graded import mostly_right
from tests.systems.reasoning.tiny import TINY, Context

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.registry import find_claims, find_system
from pilotage.experiments import ModuleNames
from pilotage.experiments.planning import JobPlan, check_claims, forecast
from pilotage.objectives.risk import make_bundles
from pilotage.runs import Run, read_lines
from pilotage.systems.reasoning.riskpo import measures
from pilotage.systems.reasoning.riskpo.claims import CLAIMS
from pilotage.training.language import callbacks
from pilotage.training.language.trainer import TextTrainer
from pilotage.types import Rollouts


def rollouts(reward: list[float], group: list[int], logp: list[float]) -> Rollouts:
    count = len(reward)
    ones = torch.ones(count, 1, dtype=torch.bool)
    batch = Rollouts(
        prompt_ids=torch.zeros(count, 1, dtype=torch.int64),
        prompt_mask=ones,
        ids=torch.zeros(count, 1, dtype=torch.int64),
        mask=ones,
        group=torch.tensor(group),
        item=torch.tensor(group),
        stop=torch.zeros(count, dtype=torch.int64),
        logp_sampled=torch.tensor(logp)[:, None],
    )
    batch.columns["reward"] = torch.tensor(reward)
    return batch


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("riskpo") == CLAIMS
    check_claims(CLAIMS)
    plan = JobPlan(ModuleNames())
    core = forecast([claim for claim in CLAIMS if claim.tier == "core"], plan)
    assert core.seconds < 22 * 60
    for claim in CLAIMS:
        for arm in claim.arms:
            plan.job(claim, arm, 0)  # raises for a command that cannot work


def test_covariances_of_the_same_answers_are_those_of_numpy() -> None:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(5), 4)
    reward = generator.integers(0, 2, size=20).astype(float)
    logp = generator.normal(size=20)
    found = measures.covariances(rollouts(reward.tolist(), group.tolist(), logp.tolist()), seed=3)
    centred = reward - np.array([reward[group == g].mean() for g in group])
    centred = centred / centred.std()
    expected = np.mean([np.cov(logp[group == g], centred[group == g])[0, 1] for g in range(5)])
    assert found["covariance/mean"] == pytest.approx(expected, rel=1e-5)
    bundle = make_bundles(torch.tensor(group), 5, torch.Generator().manual_seed(3)).numpy()
    score = np.array([reward[bundle == b].sum() for b in bundle])
    totals = np.array([reward[bundle == b].sum() for b in range(4)])
    low, high = np.quantile(totals, [0.2, 0.8])
    risk = -1.5 * np.maximum(low - score, 0) + np.maximum(score - low, 0) - np.maximum(score - high, 0) + low - high
    risk = risk / risk.std()
    expected = np.mean([np.cov(logp[group == g], risk[group == g])[0, 1] for g in range(5)])
    assert found["covariance/mvar"] == pytest.approx(expected, rel=1e-5)
    gaps = [
        logp[(group == g) & (reward == 1)].mean() - logp[(group == g) & (reward == 0)].mean()
        for g in range(5)
        if 0 < reward[group == g].sum() < 4
    ]
    assert found["assumption"] == pytest.approx(np.mean(gaps), rel=1e-5)


def test_a_training_is_looked_in_on_and_not_disturbed(tmp_path: Path) -> None:
    context = Context(f"riskpo {TINY} --steps 2 --advantage mvar:size=3", tmp_path)
    numbers = measures.trained("riskpo", 0, context)
    lines = read_lines(tmp_path / "training" / "metrics.jsonl")
    assert [("gold_entropy" in line) for line in lines] == [True, True, True]
    assert numbers["gold_entropy"] == lines[-1]["gold_entropy"]
    assert numbers["nonzero"] == pytest.approx((lines[1]["advantage/nonzero"] + lines[2]["advantage/nonzero"]) / 2)
    assert {f"pass@{k}" for k in measures.PASSES} <= set(numbers)
    context.directory = tmp_path / "unwatched"
    context.train()
    plain = read_lines(tmp_path / "unwatched" / "training" / "metrics.jsonl")
    shared = [{name: line[name] for name in plain[i]} for i, line in enumerate(lines)]
    assert shared == plain


def test_numbers_of_a_training_come_from_its_lines() -> None:
    levels = {"held_out/accuracy/level_1": 0.9, "held_out/accuracy/level_3": 0.3, "held_out/accuracy/level_4": 0.1}
    passes = {"pass@1": 0.2, "pass@8": 0.5, "pass@32": 0.8}
    look = {"covariance/mean": 0.1, "covariance/mvar": None, "assumption": 0.5}
    lines = [
        {"step": 0, "held_out/accuracy": 0.36, "gold_entropy": 1.0, **look},
        {"step": 1, "advantage/nonzero": 0.5},
        {
            "step": 2,
            "advantage/nonzero": 1.0,
            "held_out/accuracy": 0.44,
            "gold_entropy": 0.6,
            **look,
            **levels,
            **passes,
        },
    ]
    numbers = measures.training_numbers(lines)
    assert numbers["nonzero"] == 0.75
    assert numbers["hard_accuracy"] == pytest.approx(0.2)
    assert numbers["easy_accuracy"] == 0.9
    # Entropy falls in a straight line from 1.0 at 0.36 to 0.6 at 0.44: 0.8 in the middle of 0.38 to 0.42.
    assert numbers["gold_entropy_at_equal_accuracy"] == pytest.approx(0.8)
    assert numbers["covariance/mean"] == pytest.approx(0.1)
    assert math.isnan(numbers["covariance/mvar"])
    assert numbers["pass@32"] == 0.8


def test_the_noise_of_the_hardest_level_is_the_variance_of_its_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        TextTrainer, "right", lambda _, texts, items: [mostly_right(t, i) for t, i in zip(texts, items, strict=True)]
    )
    command = f"riskpo {TINY} --steps 2 --advantage mvar:size=2"
    numbers = measures.bundling_noise("B=2", 0, Context(command, tmp_path / "a"))
    config = configure(find_system("riskpo"), command.split()[1:])
    with Run.create(tmp_path / "b", system="riskpo", config=config_to_dict(config), seed=0) as run:
        trainer = TextTrainer(config, run)
        gradients = []
        for draw in range(3):
            batch = callbacks.sample_answers(trainer, trainer.items[:6], 4, "noise", draw)
            advantage = measures._fresh_advantage(trainer, batch, run.seed_for("bundles", draw))
            std = float(advantage.double().std(unbiased=False))
            scored = advantage.double() / (std if std > 0 else 1.0)
            # The loss by hand: minus the mean over answers of A times the mean log-probability, at ratio 1.
            logp = direct_logp(trainer, batch)
            mean = torch.where(batch.mask, logp, 0.0).sum(-1) / batch.mask.sum(-1)
            rows = (batch.column("difficulty") == 4).nonzero().flatten()
            loss = -(scored[rows].float() * mean[rows]).sum() / len(rows)
            trainer.model.zero_grad(set_to_none=True)
            loss.backward()
            parts = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
            gradients.append(torch.cat(parts).double())
        trainer.close()
    variance = float(torch.stack(gradients).var(0).sum())
    assert numbers["log_variance"] == pytest.approx(math.log(variance), abs=1e-3)
    second = float((torch.stack(gradients) ** 2).sum(1).mean())
    assert numbers["noise_share"] == pytest.approx(variance / second, rel=1e-3)


def direct_logp(trainer: TextTrainer, batch: Rollouts) -> torch.Tensor:
    """[N, T] log-probabilities row by row, without padding."""
    out = torch.zeros(batch.ids.shape)
    rows = []
    for prompt, prompt_mask, ids, mask in zip(batch.prompt_ids, batch.prompt_mask, batch.ids, batch.mask, strict=True):
        prompt, ids = prompt[prompt_mask], ids[mask]
        logits = trainer.model(input_ids=torch.cat([prompt, ids])[None]).logits[0]
        logp = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
        rows.append(torch.nn.functional.pad(logp.gather(-1, ids[:, None])[:, 0], (0, out.shape[1] - len(ids))))
    return torch.stack(rows)
