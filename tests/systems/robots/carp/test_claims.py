"""Every measure of CARP's claims, tiny, against a direct computation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.registry import find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments import ModuleNames
from pilotage.experiments.planning import JobPlan, check_claims, forecast
from pilotage.runs import Run
from pilotage.systems.robots.carp import measures
from pilotage.systems.robots.carp.claims import CLAIMS

TINY = (
    "--demonstrations 4 --validation 0.25 --steps 2 --batch 4 --evaluation-episodes 1 --evaluation-steps 10 --videos 0 "
    "--tokeniser multiscale:codes=8,channels=1 --tokeniser-steps 2 --tokeniser-batch 4 "
    "--network next_scale:width=8,depth=1"
)


@dataclass
class Context:
    """What a measure gets, without cells."""

    command: str
    directory: Path
    quick: bool = True
    trained: list[str] = field(default_factory=list)

    def configuration(self, command: str | None = None) -> Any:
        name, *options = (command or self.command).split()
        return configure(find_system(name), options)

    def train(self, command: str | None = None, seed: int = 0) -> Result:
        """Trains in a directory of its own."""
        command = command or self.command
        config = self.configuration(command)
        system = find_system(command.split()[0])
        self.trained.append(command)
        folder = self.directory / f"training-{len(self.trained)}"
        with Run.create(folder, system=system.name, config=config_to_dict(config), seed=seed) as run:
            return system.load_run()(config, run)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("carp") == CLAIMS
    check_claims(CLAIMS)
    assert len(CLAIMS) <= 10
    plan = JobPlan(ModuleNames())
    core = forecast([claim for claim in CLAIMS if claim.tier == "core"], plan)
    assert core.seconds < 3 * 55 * 60  # costs are of a machine a third as fast as the one of the budget
    for claim in CLAIMS:
        for arm in claim.arms:
            plan.job(claim, arm, 0)  # raises for a command that cannot work
    assert sum(claim.primary for claim in CLAIMS) == 3


def test_jerk_is_the_third_difference() -> None:
    time = np.arange(6.0)
    assert measures.third_difference(np.stack([time**3, time**2], 1)) == pytest.approx(36 / 2)
    assert math.isnan(measures.third_difference(np.zeros((3, 2))))


def test_a_training_is_judged_on_its_own_starts_and_tuning_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotage.training.imitation import task as imitation_world

    seeds = []
    original = imitation_world.starts_of
    monkeypatch.setattr(
        imitation_world, "starts_of", lambda count, first: (seeds.append((count, first)), original(count, first))[1]
    )
    numbers = measures.acted("carp", 3, Context(f"carp {TINY}", tmp_path / "a"))
    assert {"success", "log_jerk", "tokeniser/ready", "evaluation/calls"} <= set(numbers)
    measures.acted("carp", 1000, Context(f"carp {TINY}", tmp_path / "b"))
    assert seeds == [(1, 100_000), (2, 100_000), (1, 100_000), (2, 600_000)]


@pytest.mark.parametrize(("arm", "top_k"), [("argmax", 1), ("top 5", 5)])
def test_ways_are_those_of_one_checkpoint_drawn_differently(
    arm: str, top_k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotage.training.imitation.task import ControlTask

    heads = []
    original = ControlTask.evaluate
    monkeypatch.setattr(
        ControlTask,
        "evaluate",
        lambda self, policy, *a, **k: (heads.append(policy.head.top_k), 0) and original(self, policy, *a, **k),
    )
    numbers = measures.ways(arm, 0, Context(f"carp {TINY}", tmp_path))
    assert heads[-1] == top_k
    assert {"success", "entropy", "rarer"} <= set(numbers)


def test_decisions_are_timed_and_passes_counted(tmp_path: Path) -> None:
    ours = measures.decision_time("carp", 0, Context("carp --network next_scale:width=8,depth=1", tmp_path))
    assert ours["passes"] == 4
    theirs = measures.decision_time(
        "diffusion",
        0,
        Context("diffusion-policy-t --network transformer:width=8,depth=1,heads=2 --sampler ddim:steps=7", tmp_path),
    )
    assert theirs["passes"] == 7
    assert math.isfinite(ours["log_milliseconds"])


def test_at_the_papers_size_it_has_less_than_a_million_parameters() -> None:
    network = "next_scale:width=64,depth=8"
    options = ["--tokeniser", "multiscale:codes=512,channels=2", "--network", network, "--chunk-size", "16"]
    policy = measures.untrained_policy(configure(find_system("carp"), options), 19, 10, 0)  # robomimic's sizes
    assert 5e5 < sum(p.numel() for p in policy.head.parameters()) < 1e6


def test_a_tokeniser_is_looked_at_without_a_policy(tmp_path: Path) -> None:
    from pilotage.data.formats.numpy_archive import write_npz
    from pilotage.training.imitation.task import expert_demonstrations

    context = Context(f"carp {TINY}", tmp_path)
    with Run.create(tmp_path / "data", system="x", config={}, seed=0) as run:
        file = write_npz(expert_demonstrations(context.configuration(), run), tmp_path / "data.npz")
    context.command += f" --data {file}"
    numbers = measures.tokeniser("carp", 5, context)
    assert context.trained[0].endswith("--steps 1 --env none --tokeniser-seed 5")
    assert numbers["log_mse"] == pytest.approx(math.log(numbers["mse"]))
    assert {f"mse/scales_{k}" for k in (1, 2, 3, 4)} <= set(numbers)
