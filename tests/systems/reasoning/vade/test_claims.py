"""Every measure of VADE's claims, tiny, against a direct computation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.systems.reasoning.graded import mostly_right
from tests.systems.reasoning.tiny import TINY, Context

from pilotage.core.registry import find_claims
from pilotage.experiments import ModuleNames
from pilotage.experiments.planning import JobPlan, check_claims, forecast
from pilotage.runs import read_lines
from pilotage.systems.reasoning.vade import measures
from pilotage.systems.reasoning.vade.claims import CLAIMS
from pilotage.systems.reasoning.vade.simulation import VARIANTS, simulate_bandit
from pilotage.training.language.trainer import TextTrainer


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("vade") == CLAIMS
    check_claims(CLAIMS)
    plan = JobPlan(ModuleNames())
    core = forecast([claim for claim in CLAIMS if claim.tier == "core"], plan)
    assert core.seconds < 22 * 60
    for claim in CLAIMS:
        for arm in claim.arms:
            plan.job(claim, arm, 0)  # raises for a command that cannot work


def test_the_bandit_is_the_simulation_with_its_share_of_the_oracle(tmp_path: Path) -> None:
    numbers = measures.bandit("no decay", 3, Context("vade", tmp_path))
    direct = simulate_bandit(VARIANTS["no decay"], 500, 10, 20, 8, 0.01, 3)
    assert numbers["gain"] == direct["gains"].sum()
    assert numbers["share_of_oracle"] == pytest.approx(direct["gains"].sum() / direct["oracle"])


def test_numbers_of_a_training_come_from_its_lines() -> None:
    def line(step: int, zero: float, trained: float, nonzero: float, total: float, rounds: float, **more: float):
        names = ("step", "groups/zero_variance", "groups/trained", "advantage/nonzero", "samples/total")
        return {
            **dict(zip(names, (step, zero, trained, nonzero, total), strict=True)),
            "samples/rounds": rounds,
            **more,
        }

    def look(accuracy: float, easy: float) -> dict[str, float]:
        return {"held_out/accuracy": accuracy, "held_out/accuracy/level_1": easy}

    lines = [
        {"step": 0, "samples/total": 0.0, **look(0.3, 0.8)},
        line(1, 0.5, 10, 1.0, 4000, 2),
        line(2, 0.25, 12, 0.75, 8000, 1, **look(0.5, 0.9)),
    ]
    numbers = measures.training_numbers(lines)
    assert numbers["zero_variance"] == 0.375
    assert math.exp(numbers["log_effective"]) == pytest.approx((10 + 9) / 8000)
    # 4800 completions of 8000, so 6 tenths of the way.
    assert numbers["accuracy_at_equal_completions"] == pytest.approx(0.42)
    assert numbers["easy_accuracy_at_equal_completions"] == pytest.approx(0.86)
    assert numbers["no_extra_rollouts"] == 0.0
    assert numbers["rounds"] == 1.5
    short = [lines[0], line(1, 0.5, 10, 1.0, 4000, 1, **look(0.4, 0.8))]
    # A run that never generated as much has no accuracy there.
    assert math.isnan(measures.training_numbers(short)["accuracy_at_equal_completions"])
    assert measures.training_numbers(short, quick=True)["accuracy_at_equal_completions"] == 0.4
    assert measures.training_numbers(short)["no_extra_rollouts"] == 1.0


def test_estimates_are_replayed_with_what_each_estimator_retains() -> None:
    def rows(step: int, item: str, scores: list[float]) -> list[dict[str, object]]:
        return [{"step": step, "item": item, "score": score} for score in scores]

    rollouts = [
        *rows(1, "a", [1, 1, 0, 0]),
        *rows(1, "b", [0, 0, 0, 0]),
        *rows(2, "a", [1, 1, 1, 0]),
        *rows(2, "other", [1, 1, 1, 1]),
    ]
    truth = {"pool_pass_rate/a": 0.7, "pool_pass_rate/b": 0.1, "pool_pass_rate/unseen": 0.9}
    lines = [{"step": 0}, {"step": 1}, {"step": 2, **truth}]
    for lambda_1, lambda_2 in measures.RETAIN.values():
        a = (lambda_1 * 2 + 3 + 1) / (lambda_1 * 4 + 4 + 2)
        b = 1 / (lambda_2 * 4 + 2)
        found = measures.estimate_errors(lines, rollouts, (lambda_1, lambda_2))
        assert found["error"] == pytest.approx((abs(a - 0.7) + abs(b - 0.1)) / 2)
        assert found["fresh"] == found["error"]
        assert math.isnan(found["stale"])


def test_a_training_with_vade_is_looked_in_on_and_its_estimates_are_the_samplers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = [mostly_right]
    monkeypatch.setattr(
        TextTrainer, "right", lambda _, texts, items: [right[0](t, i) for t, i in zip(texts, items, strict=True)]
    )
    samplers = []
    evaluate = TextTrainer.evaluate
    monkeypatch.setattr(
        TextTrainer, "evaluate", lambda self, step: (samplers.append(self.sampler), evaluate(self, step))[1]
    )
    context = Context(f"vade {TINY} --steps 3", tmp_path)
    numbers = measures.trained("vade", 0, context)
    assert numbers["no_extra_rollouts"] == 1.0
    assert numbers["samples/total"] == 3 * 6 * 4
    rates = samplers[-1].rates
    assert numbers["coverage"] == (rates.answers > 0).mean()
    assert numbers["visits/mean"] == 3 * 6 / 12

    lines = read_lines(tmp_path / "training" / "metrics.jsonl")
    probed = [name for name in lines[-1] if name.startswith(measures.PASS_RATE)]
    assert len(probed) == 6
    # The replay of what was written gives what the sampler itself believes.
    items = [item.id for item in samplers_items(context)]
    last = [{name: v for name, v in line.items() if not name.startswith(measures.PASS_RATE)} for line in lines[:-1]]
    found = measures.estimate_errors(
        [*last, lines[-1]], read_lines(tmp_path / "training" / "rollouts.jsonl"), (0.2, 0.999)
    )
    positions = {items.index(name.removeprefix(measures.PASS_RATE)): lines[-1][name] for name in probed}
    known = {p: true for p, true in positions.items() if rates.answers[p] > 0}
    assert found["error"] == pytest.approx(sum(abs(rates.mean()[p] - true) for p, true in known.items()) / len(known))
    assert measures.estimate("two-scale", 0, context)["error"] > 0


def samplers_items(context: Context):
    """The pool that a context's command trains on."""
    from pilotage.core.configuration import configure
    from pilotage.core.registry import find_system
    from pilotage.training.language.task import make_task

    config = configure(find_system("vade"), context.command.split()[1:])
    return make_task(config).pool(config.num_train_prompts, "train", 0)
