"""Every measure of RTI-DP's claims, tiny, against a direct computation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.registry import find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments import ModuleNames
from pilotage.experiments.jobs import parse_command
from pilotage.experiments.planning import JobPlan, check_claims, forecast
from pilotage.runs import Run
from pilotage.systems.robots.rti_dp import measures
from pilotage.systems.robots.rti_dp.claims import CLAIMS, LONG_LIST

TINY = (
    "rti-dp --network residual_mlp:width=8,depth=1 --demonstrations 4 --validation 0.25 --steps 3 --batch 8 "
    "--noise-schedule vp:steps=12 --sampler ddpm:steps=12 --evaluation-episodes 3 --evaluation-steps 12 --num-envs 3 "
    "--videos 0 --timed-decisions 0"
)


@dataclass
class Context:
    """What a measure gets, without cells."""

    command: str
    directory: Path
    quick: bool = True
    trained: list[str] = field(default_factory=list)

    def configuration(self) -> Any:
        return configure(find_system("rti-dp"), self.command.split()[1:])

    def train(self, command: str | None = None) -> Result:
        command = command or self.command
        self.trained.append(command)
        system = find_system("rti-dp")
        config = configure(system, command.split()[1:])
        folder = self.directory / f"run-{abs(hash(command))}"
        with Run.create(folder, system="rti-dp", config=config_to_dict(config), seed=0) as run:
            return system.load_run()(config, run)


@pytest.fixture
def context(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    return Context(TINY, tmp_path)


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("rti-dp") == CLAIMS
    check_claims(CLAIMS)
    assert len(CLAIMS) <= 10
    plan = JobPlan(ModuleNames())
    core = forecast([c for c in CLAIMS if c.tier == "core"], plan)
    # 45 minutes on a machine three times as fast as the one on which the costs were found.
    assert core.seconds < 3 * 45 * 60
    for claim in CLAIMS:
        for spec in claim.arms.values():
            for options in spec.grid or ("",):
                parse_command(f"{spec.command} {options}", plan.modules)  # raises for a command that cannot work
    assert LONG_LIST.startswith("40,37,")
    assert LONG_LIST.endswith(",4,1,0")


def test_a_run_and_its_milliseconds(context: Context) -> None:
    assert "evaluation/plan_change" in measures.acted("rti", 0, context)
    time = measures.latency("rti", 0, context)
    assert time["log_ms"] == pytest.approx(math.log(time["p50_ms"]))


def test_the_estimate_of_a_run(context: Context) -> None:
    numbers = measures.chosen_level("rti", 0, context)
    assert numbers["shrinks"] == float(numbers["contraction"] < 1)


def test_a_fork_is_looked_at_at_its_beginning(context: Context) -> None:
    context.command = TINY.replace("rti-dp", "rti-dp --env ring-fixed")
    numbers = measures.fork("rti", 0, context)
    assert numbers["steps"] == 6


def test_switches_are_changes_of_sign_that_are_meant() -> None:
    plans = {0: [0.5, 0.4, -0.05, 0.6], 1: [-0.5, 0.5, -0.5], 2: [0.3], 3: [-0.3, 0.01, 0.3]}
    numbers = measures.fork_numbers(plans)
    assert numbers == {"switches": 0.75, "share": 0.5}
    assert math.isnan(measures.fork_numbers({0: [0.0]})["share"])
