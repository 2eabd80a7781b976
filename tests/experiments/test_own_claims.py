"""The claims and the results of this repository follow the rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilotage.core.registry import all_systems, find_claims, find_reproduction
from pilotage.experiments.planning import check_claims

NAMES = [system.name for system in all_systems() if not system.card.baseline]


@pytest.mark.parametrize("name", NAMES)
def test_the_claims_of_a_system_follow_the_rules(name: str) -> None:
    check_claims(find_claims(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_results_are_those_of_the_claims(name: str) -> None:
    measured = find_reproduction(name)
    assert measured is not None
    assert [entry["name"] for entry in measured["claims"]] == [claim.name for claim in find_claims(name)]
    lines = (Path(__file__).parents[2] / "results" / f"{name}.jsonl").read_text().splitlines()
    assert sum(made["jobs"] for made in measured["made"]) == len({json.loads(line)["key"] for line in lines})
