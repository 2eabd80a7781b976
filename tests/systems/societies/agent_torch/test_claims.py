"""Every measure of AgentTorch's claims, tiny; the claims keep the rules; the commands of their arms can be read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.configuration import configure
from pilotage.core.registry import find_claims, find_system
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
    assert len(CLAIMS) <= 10
    for claim in CLAIMS:
        for arm in claim.arms.values():
            configure(SYSTEM, shlex.split(arm.command)[1:])
        assert claim.measure is not None
        assert claim.criterion.kind in ("exact", "rank") or claim.compare is not None
    # Arms of several claims are the same cells, so that what they cost together is less than its sum.
    cells = {
        (claim.measure, name, arm.command, claim.n): claim.cost for claim in CLAIMS for name, arm in claim.arms.items()
    }
    minutes = sum(cost * n for (*_, n), cost in cells.items()) / 60
    assert minutes < 50


@pytest.mark.parametrize("arm", ["gradient", "cma"])
def test_recovery_measures_the_error_of_both_ways(arm: str, context: Context) -> None:
    numbers = measures.recovery(arm, 0, context)
    assert 0 < numbers["error"] < 0.6
    assert 0 <= numbers["within_5_percent"] <= 1


def test_archetypes_are_counted_and_judged(context: Context) -> None:
    rows = {arm: measures.archetypes(arm, 0, context) for arm in ("one", "kinds")}
    assert rows["one"]["calls"] == 1
    assert rows["kinds"]["calls"] <= 30
    assert all(row["error"] >= 0 for row in rows.values())


def test_speed_takes_time(context: Context) -> None:
    row = measures.speed("full", 0, context)
    assert row["seconds_per_day"] > 0
    assert row["peak_gigabytes"] > 0


def test_effects_take_the_two_sides_of_the_same_run(context: Context) -> None:
    sides = {arm: measures.earlier(arm, 0, context) for arm in ("as it was", "earlier")}
    assert sides["earlier"] != sides["as it was"]


def test_waves_and_unemployment_of_the_real_city(
    shared_data: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (shared_data / "nyc-covid").is_dir():
        pytest.skip("nyc-covid is absent")
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    (tmp_path / "nyc-covid").symlink_to(shared_data / "nyc-covid")
    city = replace(context, command="agent-torch --series nyc --behaviour none")
    persistence, none = (measures.wave(arm, 0, city) for arm in ("persistence", "none"))
    assert persistence["log_wis"] != none["log_wis"]
    for arm in ("constant", "behaviour"):
        assert 0 < measures.unemployment(arm, 0, city)["mae"] < 5
