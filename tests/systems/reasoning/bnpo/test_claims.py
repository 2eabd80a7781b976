"""The measures of BNPO's claims against direct computations, on a policy that has learnt nothing yet."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.systems.reasoning.tiny_world import TINY, context_for

from pilotage.experiments.planning import check_claims
from pilotage.objectives.beta_normalisation import beta_fit
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.systems.reasoning.bnpo import claims as bnpo
from pilotage.training.language.frozen_policy import batches, frozen_trainer, gradient

WORLD = f"{TINY} --aggregate seq_mean_token_sum --grad-clip 0"


@pytest.mark.parametrize("arm", [bnpo.UNIFORM, bnpo.SQUARE_ROOT])
def test_the_identities_hold_and_epsilon_shows(arm, tmp_path):
    measured = bnpo.identities(arm, 3, context_for(tmp_path, "bnpo"))
    assert measured["equal"] == 1
    assert measured["largest_error"] < 1e-12
    assert (1e-5 < measured["trl_gap"] < 1e-3) == (arm == bnpo.SQUARE_ROOT)


@pytest.mark.parametrize("arm", [bnpo.UNIFORM, bnpo.SQUARE_ROOT])
def test_a_wrong_density_is_noticed(arm, tmp_path, monkeypatch):
    monkeypatch.setattr("pilotage.objectives.beta_normalisation._log_beta", lambda _a, _b: 0.01)
    assert bnpo.identities(arm, 0, context_for(tmp_path, "bnpo"))["equal"] == 0


def test_the_noise_is_the_variance_of_the_arms_own_gradients(tmp_path):
    context = context_for(tmp_path, f"bnpo {WORLD}")
    measured = bnpo.gradient_noise("bnpo", 0, context)
    assert set(measured) == {"log_noise", "log_noise_at_0", "log_noise_at_2"}
    config = context.configuration()
    walked = context.train(f"grpo {WORLD} --advantage zscore --steps 2").run
    with frozen_trainer(replace(config, model=f"{walked}/policy"), tmp_path / "again", 0) as trainer:
        rows = torch.stack([gradient(trainer, drawn) for drawn in batches(trainer, bnpo.QUICK_BATCHES)]).double()
    noise = ((rows - rows.mean(0)) ** 2).sum() / (len(rows) - 1)
    signal = (rows.mean(0) ** 2).sum() - noise / len(rows)
    assert measured["log_noise_at_2"] == pytest.approx(math.log(noise / signal), rel=1e-6)
    parts = [value for name, value in measured.items() if name != "log_noise"]
    assert measured["log_noise"] == pytest.approx(sum(parts) / 2)


def test_every_arm_meets_the_same_answers(tmp_path):
    drawn = {}
    for name in ("bnpo", "reinforce-mean"):
        config = context_for(tmp_path, f"{name} {WORLD}").configuration()
        with frozen_trainer(config, tmp_path / name, 7) as trainer:
            drawn[name] = next(batches(trainer, 1))
    first, second = drawn.values()
    assert torch.equal(first.ids, second.ids)
    assert torch.equal(first.column("reward"), second.column("reward"))
    assert not torch.allclose(first.column("advantage"), second.column("advantage"))


def test_the_normaliser_is_what_the_method_fits(tmp_path):
    context = context_for(tmp_path, f"bnpo {WORLD}", bnpo.BEFORE)
    before = bnpo.normaliser(bnpo.BEFORE, 0, context)
    with frozen_trainer(context.configuration(), tmp_path / "again", 0) as trainer:
        drawn = list(batches(trainer, bnpo.QUICK_BATCHES))
    fits = [beta_fit(rollouts.column("reward"), rollouts.group) for rollouts in drawn]
    assert before["mean"] == pytest.approx(sum(float(r.column("reward").mean()) for r in drawn) / len(drawn), rel=1e-5)
    assert before["log_ratio"] == pytest.approx(sum(math.log(f.alpha / f.beta) for f in fits) / len(fits))
    assert before["as_foretold"] == float(before["log_ratio"] < 0)
    after = bnpo.normaliser(bnpo.AFTER, 0, context_for(tmp_path, f"bnpo {WORLD}", bnpo.AFTER))
    assert after["mean"] != before["mean"], "another policy"
    assert after["as_foretold"] == float(after["log_ratio"] > 0)


def test_spikes_stand_out_from_the_running_median():
    calm = [1.0] * 20
    assert bnpo.steadiness_of(calm) == {"variation": 0.0, "spikes": 0.0}
    wild = [*calm[:10], 3.5, *calm[:5], 2.9, *calm[:3]]
    assert bnpo.steadiness_of(wild)["spikes"] == 1
    doubled = [2 * value for value in wild]
    assert bnpo.steadiness_of(doubled) == bnpo.steadiness_of(wild), "free of scale"


def test_steadiness_reads_the_training(tmp_path):
    context = context_for(tmp_path, f"bnpo {WORLD} --steps 4")
    measured = bnpo.steadiness("bnpo", 0, context)
    run = Path(context.train().run)
    norms = torch.tensor([json.loads(line)["gradient_norm"] for line in list((run / "metrics.jsonl").open())[1:]])
    assert measured["variation"] == pytest.approx(float(norms.std() / norms.mean()), rel=1e-5)
    assert measured["accuracy"] == context.train().metrics["held_out/accuracy"]


def test_the_claims_obey_the_rules():
    check_claims(bnpo.CLAIMS)
    assert sum(claim.primary for claim in bnpo.CLAIMS) == 3
    assert all(claim.tier == "core" for claim in bnpo.CLAIMS if claim.primary)
    for claim in bnpo.CLAIMS:
        for arm in claim.arms.values():
            for options in arm.grid or ("",):
                config = context_for(Path("unused"), f"{arm.command} {options}").configuration()
                assert config.aggregate == "seq_mean_token_sum", claim.name


def test_a_loaded_policy_gives_the_gradient_of_the_trained_one(tmp_path):
    """Saving and loading a policy between its training and its measurement loses nothing."""
    context = context_for(tmp_path, f"grpo {WORLD}")
    folder = str(Path(context.train().run) / "policy")
    weights = dict(LanguagePolicy.from_pretrained(folder).model.named_parameters())
    with frozen_trainer(replace(context.configuration(), model=folder), tmp_path / "again", 0) as trainer:
        assert all(torch.equal(weights[name], p) for name, p in trainer.model.named_parameters())
        assert float(gradient(trainer, next(batches(trainer, 1))).norm()) > 0


def test_twice_a_graded_reward_with_twice_the_range_trains_to_the_same_policy(tmp_path):
    """Doubling is exact in floating point, so that the two trainings must agree to the last bit."""
    half = context_for(tmp_path, f"bnpo {WORLD} --reward partial", "half").train()
    twice = context_for(tmp_path, f"bnpo {WORLD} --reward 2*partial --advantage bnpo:high=2", "twice").train()
    first, second = (
        LanguagePolicy.from_pretrained(str(Path(done.run) / "policy")).model.state_dict() for done in (half, twice)
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())
