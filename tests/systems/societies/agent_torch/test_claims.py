"""Every measure of AgentTorch's claims, tiny; the claims keep the rules; the commands of their arms can be read."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.registry import configure, find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments.launch import launch
from pilotage.experiments.planning import check_claims
from pilotage.systems.societies.agent_torch import measures

CLAIMS = find_claims("agent-torch")
SYSTEM = find_system("agent-torch")


@dataclass
class Context:
    """What a measure gets, without cells."""

    command: str
    directory: Path
    quick: bool = True

    def configuration(self, command: str | None = None) -> Any:
        return configure(SYSTEM, shlex.split(command or self.command)[1:])

    def train(self, command: str | None = None, seed: int = 0) -> Result:
        config = replace(self.configuration(command), steps=1, forecast_seeds=2)
        return launch(SYSTEM, config, seed=seed, directory=self.directory / "run")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(
        "agent-torch --agents 500 --weeks 3 --horizon 1 --reporting 1 --behaviour rule --threshold 1", tmp_path
    )


def test_claims_keep_the_rules_and_their_commands_are_understood() -> None:
    check_claims(CLAIMS)
    assert sum(claim.primary for claim in CLAIMS) == 3
    for claim in CLAIMS:
        for arm in claim.arms.values():
            configure(SYSTEM, shlex.split(arm.command)[1:])
        assert claim.unmeasured or claim.measure is not None
        assert claim.criterion.kind in ("exact", "rank") or claim.compare is not None
    # Arms of several claims are the same cells, so that what they cost together is less than its sum.
    core = [claim for claim in CLAIMS if claim.tier == "core" and not claim.unmeasured]
    cells = {
        (claim.measure, name, arm.command, claim.n): claim.cost for claim in core for name, arm in claim.arms.items()
    }
    minutes = sum(cost * n for (*_, n), cost in cells.items()) / 60
    assert minutes < 50


@pytest.mark.parametrize("arm", ["gradient", "cma"])
def test_recovery_measures_the_error_of_both_ways(arm: str, context: Context) -> None:
    numbers = measures.recovery(arm, 0, context)
    assert 0 < numbers["error"] < 0.6
    assert 0 <= numbers["within 5 %"] <= 1


def test_gradients_are_compared_with_differences(context: Context) -> None:
    numbers = {arm: measures.gradient_error(arm, 0, context) for arm in ("left", "score")}
    for row in numbers.values():
        assert row["off"] == pytest.approx(math.hypot(row["bias"], row["noise"]))
    assert numbers["score"]["noise"] > numbers["left"]["noise"]


def test_archetypes_are_counted_and_judged(context: Context) -> None:
    rows = {arm: measures.archetypes(arm, 0, context) for arm in ("one", "kinds", "draws 5")}
    assert rows["one"]["calls"] == 1
    assert rows["kinds"]["calls"] <= 30
    assert rows["draws 5"]["calls"] == 5 * rows["kinds"]["calls"]
    assert all(row["error"] >= 0 for row in rows.values())


def test_speed_takes_time_and_objects_take_more(context: Context) -> None:
    rows = {arm: measures.speed(arm, 0, context) for arm in ("hundredth", "objects")}
    assert all(row["seconds per day"] > 0 and row["peak gigabytes"] > 0 for row in rows.values())
    assert measures._objects(300, 5, 0) == measures._objects(300, 5, 0) > 0


def test_households_are_hit_more(context: Context) -> None:
    rates = [measures.attack_rates(arm, 0, context)["log attack rate"] for arm in ("household", "elsewhere")]
    assert rates[0] > rates[1]


def test_effects_take_the_two_sides_of_the_same_run(context: Context) -> None:
    sides = {arm: measures.earlier(arm, 0, context) for arm in ("as it was", "earlier", "frozen")}
    assert sides["earlier"] != sides["as it was"]


def test_wordings_are_counted(context: Context) -> None:
    numbers = measures.wording("p3o", 0, context)
    assert 0 <= numbers["right of ten"] <= 2


def test_waves_and_unemployment_of_the_real_city(
    shared_data: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (shared_data / "nyc-covid").is_dir():
        pytest.skip("nyc-covid is absent")
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    (tmp_path / "nyc-covid").symlink_to(shared_data / "nyc-covid")
    city = replace(context, command="agent-torch --series nyc --behaviour none")
    persistence, none = (measures.wave(arm, 0, city) for arm in ("persistence", "none"))
    assert persistence["log wis"] != none["log wis"]
    for arm in ("constant", "trend", "behaviour"):
        assert 0 < measures.unemployment(arm, 0, city)["mae"] < 5
    # A level alone errs by the spread of the rates; a line through months that fall errs by less.
    assert measures.unemployment("trend", 0, city)["mae"] < measures.unemployment("constant", 0, city)["mae"]
