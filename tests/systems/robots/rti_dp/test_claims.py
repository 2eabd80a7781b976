"""Every measure of RTI-DP's claims, tiny, against a direct computation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.registry import config_to_dict, configure, find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments import Wiring
from pilotage.experiments.jobs import parse_command
from pilotage.experiments.planning import JobPlan, check_claims, forecast
from pilotage.runs import Run
from pilotage.systems.robots.rti_dp import measures
from pilotage.systems.robots.rti_dp.claims import CLAIMS, LONG_LIST

TINY = (
    "rti-dp --network residual_mlp:width=8,depth=1 --demonstrations 4 --validation 0.25 --steps 3 --batch 8 --path "
    "vp:steps=12 --sampler ddpm:steps=12 --evaluation-episodes 3 --evaluation-steps 12 --lanes 3 --films 0 "
    "--timed-decisions 0"
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
            return system.run(config, run)


@pytest.fixture
def context(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    return Context(TINY, tmp_path)


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("rti-dp") == CLAIMS
    check_claims(CLAIMS)
    plan = JobPlan(Wiring())
    core = forecast([c for c in CLAIMS if c.tier == "core"], plan)
    # 45 minutes on a machine three times as fast as the one on which the costs were found.
    assert core.seconds < 3 * 45 * 60
    for claim in CLAIMS:
        for spec in claim.arms.values():
            for options in spec.grid or ("",):
                parse_command(f"{spec.command} {options}", plan.wiring)  # raises for a command that cannot work
    assert LONG_LIST.startswith("40,37,")
    assert LONG_LIST.endswith(",4,1,0")


def test_passes_milliseconds_and_weights_of_a_run(context: Context) -> None:
    numbers = measures.acted("rti", 0, context)
    assert numbers["log calls per action"] == pytest.approx(math.log(numbers["evaluation/calls_per_step"]))
    assert measures.passes("rti", 0, context) == {"as listed": 1.0}
    assert measures.same_weights("rti", 0, context) == {"same weights": 1.0}
    time = measures.latency("rti", 0, context)
    assert time["log ms"] == pytest.approx(math.log(time["p50_ms"]))
    assert time["log ms per action"] == time["log ms"]


def test_a_miscounted_run_is_not_as_listed(context: Context) -> None:
    run = Path(context.train().run) / "rollouts.jsonl"
    text = run.read_text()
    run.write_text(text.replace('"calls": ', '"calls": 1', 1))
    assert measures.passes("rti", 0, context) == {"as listed": 0.0}


def test_the_estimate_of_a_run(context: Context) -> None:
    numbers = measures.chosen_level("rti", 0, context)
    assert numbers["shrinks"] == float(numbers["contraction"] < 1)
    swept = measures.estimate_and_sweep("rti", 0, context)
    assert [f"{TINY} --levels {levels}" in context.trained for levels in measures.LISTS[:-1]] == [True] * 5
    assert swept["within one"] == float(swept["gap"] <= 1)


def test_a_fork_is_looked_at_at_its_beginning(context: Context) -> None:
    context.command = TINY.replace("rti-dp", "rti-dp --world ring-fixed")
    numbers = measures.fork("rti", 0, context)
    assert numbers["steps"] == 6
    assert numbers["both routes"] in (0.0, 1.0)


def test_switches_are_changes_of_sign_that_are_meant() -> None:
    plans = {0: [0.5, 0.4, -0.05, 0.6], 1: [-0.5, 0.5, -0.5], 2: [0.3], 3: [-0.3, 0.01, 0.3]}
    numbers = measures.fork_numbers(plans)
    assert numbers == {"switches": 0.75, "share": 0.5, "both routes": 1.0}
    assert measures.fork_numbers({0: [1.0], 1: [1.0]})["both routes"] == 0.0
    assert measures.fork_numbers({0: [0.0]})["both routes"] == 0.0


def test_the_gap_counts_lists() -> None:
    swept = [0.1, 0.2, 0.3, 0.9, 0.5, 0.4]
    assert measures.grid_gap(3, swept) == 0
    assert measures.grid_gap(6, swept) == 1
    assert measures.grid_gap(30, swept) == 2
    assert measures.grid_gap(None, swept) == math.inf


@pytest.mark.parametrize("unit", [0, 7, 15])
def test_theory_foretells_contraction(unit: int) -> None:
    numbers = measures.gaussian("rti", unit, None)
    assert numbers["within 5 %"] == 1.0
    assert 0 < numbers["theory"] < 1
