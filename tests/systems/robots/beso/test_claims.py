"""Every measure of BESO's claims, tiny; the claims keep the rules; the system's options do what they say."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pymunk", reason="block push needs pilotage[robots]")

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.errors import UsageError
from pilotage.core.registry import find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments.launch import load_policy
from pilotage.experiments.planning import check_claims
from pilotage.objectives.noise_paths import Karras
from pilotage.runs import Run, read_lines
from pilotage.systems.robots.beso import measures
from pilotage.training.imitation.trainer import ImitationTrainer, train
from pilotage.training.schedules import schedule

TINY = (
    "--demonstrations 4 --validation 0.25 --steps 2 --batch 8 --evaluation-episodes 2 --evaluation-steps 6 --videos 0 "
    "--num-envs 2 --log-every 1"
)
SMALL = f"{TINY} --network gpt:width=16,depth=1,heads=2 --n-obs-steps 5 --chunk-size 5 --context noised"

PLANS = "--executor held:steps=2 --n-obs-steps 3 --chunk-size 3"


class Context:
    """What a measure gets, without cells; it trains in this process, once."""

    quick = True

    def __init__(self, command: str, directory: Path) -> None:
        self.command, self.directory = command, directory

    def configuration(self):
        name, *options = self.command.split()
        return configure(find_system(name), options)

    def train(self) -> Result:
        config = self.configuration()
        with Run.create(self.directory, system=self.command.split()[0], config=config_to_dict(config), seed=0) as run:
            return train(config, run)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTAGE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def beso(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = Context(f"beso {SMALL}", tmp_path_factory.mktemp("beso") / "run")
    context.train()
    return context


def test_the_claims_keep_the_rules_and_their_commands_can_be_read() -> None:
    claims = find_claims("beso")
    check_claims(claims)
    assert sum(claim.primary for claim in claims) == 3
    for command in {arm.command + " " + more for c in claims for arm in c.arms.values() for more in arm.grid or ("",)}:
        name, *options = command.split()
        configure(find_system(name), options)
    assert len(claims) <= 10
    for claim in claims:
        assert len({len(arm.grid) for arm in claim.arms.values()}) == 1
        assert claim.cost > 0


@pytest.mark.parametrize("arm", measures.WAYS)
def test_every_way_of_acting(arm: str, beso: Context, tmp_path: Path) -> None:
    context = beso
    if arm == "ddim 3":
        context = Context(f"ddpm-goals {SMALL} --sampler ddim:steps=4", tmp_path / "run")
    numbers = measures.acting(arm, 0, context)
    assert {"result", "reward"} <= set(numbers)
    weight = measures.WAYS[arm].get("goal_weight", 2.0)
    steps = measures.WAYS[arm].get("steps", 3)
    assert numbers["calls"] == steps * (1 if weight in (0.0, 1.0) else 2)


def test_as_trained_is_the_trainings_own_evaluation(beso: Context) -> None:
    result = beso.train().metrics
    assert {"evaluation/result", "evaluation/reward", "evaluation/result/best"} <= set(result)
    assert measures.acting("beso", 0, beso)["steps"] == result["evaluation/steps"]


def test_orders_are_counted_from_one_start_at_a_time() -> None:
    def episode(seed: int, mode: str | None, success: bool = True) -> SimpleNamespace:
        return SimpleNamespace(seed=seed, mode=mode, success=success)

    # Each start has one way, so that there is no entropy, although four ways are seen.
    one_way = [episode(seed, f"way {seed}") for seed in range(4) for _ in range(5)]
    assert measures.order_numbers(one_way) == {"entropy": 0.0, "success": 1.0}
    two = [episode(0, "a"), episode(0, "b"), episode(1, "a"), episode(1, "b", success=False)]
    assert measures.order_numbers(two) == {"entropy": 0.5, "success": 0.75}
    assert measures.bits(Counter({"a": 1, "b": 1, "c": 2})) == pytest.approx(1.5)


def test_orders_of_the_oracle_and_of_policies(beso: Context) -> None:
    assert 0 <= measures.orders("oracle", 0, beso)["entropy"] <= math.log2(3)
    beso_context = SimpleNamespace(**vars(beso), quick=False)
    assert measures.orders("oracle", 0, beso_context)["entropy"] == pytest.approx(2, abs=0.2)
    assert set(measures.orders("beso", 0, beso)) == {"entropy", "success"}


@pytest.mark.parametrize(
    ("name", "changes", "calls"), [("gcbc", "", 1), ("c-bet", "", 1), ("lmp", PLANS, 3), ("ril", PLANS, 3)]
)
def test_baselines_run(name: str, changes: str, calls: int, tmp_path: Path) -> None:
    result = Context(f"{name} {TINY} --network residual_mlp:width=16,depth=1 {changes}", tmp_path / "run").train()
    assert result.metrics["evaluation/calls"] == calls
    assert "evaluation/result" in result.metrics


@pytest.mark.parametrize("name", ["lmp", "ril"])
def test_a_policy_that_plans_acts_from_its_run_and_refuses_other_executors(name: str, tmp_path: Path) -> None:
    command = f"{name} {TINY} --network residual_mlp:width=16,depth=1"
    context = Context(f"{command} {PLANS}", tmp_path / "run")
    assert measures.acting("plans", 0, context)["result"] == context.train().metrics["evaluation/result"]
    for number, wrong in enumerate(("--executor receding", "--chunk-size 5")):
        with pytest.raises(UsageError, match="--executor held"):
            Context(f"{command} {PLANS} {wrong}", tmp_path / f"wrong {number}").train()


# ---- the system ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shows", "entries"), [("asked", 4), ("all", 30)])
def test_goals_show_the_blocks_or_the_whole_state(shows: str, entries: int, tmp_path: Path) -> None:
    context = Context(f"beso {SMALL} --goal-mask {shows}", tmp_path / "run")
    config = context.configuration()
    with Run.create(tmp_path / "run", system="beso", config=config_to_dict(config), seed=0) as run:
        trainer = ImitationTrainer(config, run)
        batch = trainer.batches.draw()
        goal = batch.observations["goal"]
        shown = (goal != 0).any(0).nonzero().flatten().tolist()
        assert set(shown) <= set(range(30)) if entries == 30 else set(shown) <= {0, 1, 3, 4}
        # The pusher's start never is a goal's own number, so the whole state shows more than the blocks.
        assert (len(shown) > 4) is (entries == 30)


def test_the_stepped_rate_falls_by_a_hundredth_every_hundred_steps() -> None:
    factors = [schedule("stepped", step, 4000, 100) for step in (100, 199, 200, 299, 300)]
    assert factors == pytest.approx([1, 1, 0.99, 0.99, 0.99**2])


def test_actions_that_drown_in_the_noise_are_said(tmp_path: Path) -> None:
    command = f"beso {SMALL} --action-scaling identity"
    context = Context(command, tmp_path / "run")
    context.train()
    events = {event["kind"]: event["text"] for event in read_lines(tmp_path / "run" / "events.jsonl")}
    assert "drown" in events["small actions"]


def test_the_policy_of_a_run_acts_with_its_context(beso: Context) -> None:
    policy = load_policy(beso.directory)
    assert isinstance(policy.head.path, Karras)
    assert (policy.head.history, policy.head.context, policy.goal_weight) == (4, "noised", 2.0)
    policy.reset([0])
    observation = {"state": np.zeros((1, 30), np.float32), "goal": np.zeros((1, 30), np.float32)}
    assert policy.act(observation, [0]).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--context dirty", "there are clean, noised"),
        ("--goal-mask some", "asked or all"),
        ("--head regression", "needs --head denoiser"),
        ("--expert-env nowhere", "no scripted expert"),
    ],
)
def test_what_does_not_fit(options: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        Context(f"beso {SMALL} {options}", tmp_path / "run").train()
