"""Every measure of EBT-Policy's claims, tiny, and the numbers that they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.errors import UsageError
from pilotage.core.registry import find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments import ModuleNames
from pilotage.experiments.planning import JobPlan, check_claims, forecast
from pilotage.runs import Run
from pilotage.systems.robots.ebt_policy import measures
from pilotage.systems.robots.ebt_policy.actions import compute, confidence, energies, saved_policy, windows_of
from pilotage.systems.robots.ebt_policy.claims import CLAIMS
from pilotage.training.imitation.trainer import train

TINY = (
    "--network residual_mlp:width=16,depth=1 --demonstrations 6 --validation 0.4 --steps 4 --batch 8 --videos 0 "
    "--evaluation-episodes 2 --evaluation-steps 10 --num-envs 2"
)


@dataclass
class Context:
    """What a measure gets, without cells."""

    command: str
    directory: Path
    quick: bool = True
    done: list[Result] = field(default_factory=list)

    def configuration(self) -> Any:
        name, *options = self.command.split()
        return configure(find_system(name), options)

    def train(self) -> Result:
        if not self.done:
            config = self.configuration()
            with Run.create(self.directory / "run", system="x", config=config_to_dict(config), seed=0) as run:
                self.done.append(train(config, run))
        return self.done[0]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def context(tmp_path: Path, system: str = "ebt-policy") -> Context:
    return Context(f"{system} {TINY}", tmp_path)


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("ebt-policy") == CLAIMS
    check_claims(CLAIMS)
    assert len(CLAIMS) <= 10
    plan = JobPlan(ModuleNames())
    core = forecast([claim for claim in CLAIMS if claim.tier == "core"], plan)
    assert core.seconds < 90 * 60  # timed on a slow processor; 45 minutes is meant for one twice as fast
    assert sum(claim.primary for claim in CLAIMS) == 3
    for claim in CLAIMS:
        for arm in claim.arms:
            plan.job(claim, arm, 0)  # raises for a command that cannot work


def test_the_area_under_the_curve_halves_ties() -> None:
    assert measures.area_under_curve(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])) == 1
    assert measures.area_under_curve(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0])) == 0.625


def test_measures_of_an_energy(tmp_path: Path) -> None:
    tiny = context(tmp_path)
    assert "evaluation/success" in measures.trained("ebt", 0, tiny)
    assert measures.few_passes("ebt", 0, tiny)["evaluation/success"] >= 0
    assert measures.stopping("all steps", 0, tiny)["gradients"] == 10
    assert measures.stopping("early stop", 0, tiny)["gradients"] <= 10
    assert 0 <= measures.detection("ebt", 0, tiny)["area"] <= 1
    assert measures.steps_by_place("fork", 0, tiny)["gradients"] >= 1
    counted = measures.compute("ebt", 0, tiny)
    # A step is a forward and a backward with respect to the activations.
    assert counted["decision/forward_passes"] == counted["decision/backward_passes"] == 10
    assert 15 < counted["decision/in_forwards"] < 21
    assert (counted["training/forward_passes"], counted["training/second_passes"]) == (1, 1)
    assert counted["training/in_forwards"] > 3


def test_measures_of_a_denoiser(tmp_path: Path) -> None:
    tiny = context(tmp_path, "diffusion-mlp")
    counted = measures.compute("diffusion", 0, tiny)
    assert counted["decision/forward_passes"] == 100
    assert counted["decision/in_forwards"] == pytest.approx(100)
    assert counted["training/in_forwards"] < 3.01
    assert 0 <= measures.detection("diffusion", 0, tiny)["area"] <= 1
    assert measures.few_passes("diffusion", 0, tiny)["evaluation/success"] >= 0


def test_the_actions_of_a_run(tmp_path: Path) -> None:
    tiny = context(tmp_path)
    run = Path(tiny.train().run)
    config = tiny.configuration()
    assert compute(config, run)["decision/forward_passes"] >= 1
    found = confidence(config, run)
    assert found["quantile/0.5"] <= found["quantile/0.99"]
    assert (run / "confidence.json").is_file()
    with pytest.raises(UsageError, match="no trained policy"):
        confidence(config, tmp_path)
    other = context(tmp_path / "other", "bc-mlp")
    policy = saved_policy(other.configuration(), Path(other.train().run))
    with pytest.raises(UsageError, match="no energy"):
        energies(policy, windows_of(other.configuration(), 20).observations)
