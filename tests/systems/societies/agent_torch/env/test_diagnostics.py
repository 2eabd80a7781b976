"""Tests find the ill at the declared rates and after the delay; quarantine cuts transmission and ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env import Diagnostics, Parameters, simulate, tiny_city
from pilotage.systems.societies.agent_torch.env.diagnostics import WITH_TESTS
from pilotage.systems.societies.agent_torch.env.shards import simulate_in_shards

TOWN = tiny_city(12_000, seed=6)
PARAMETERS = Parameters(torch.tensor(3.5), initial=torch.tensor(0.05))
SURE = Diagnostics(true_positive=1.0, false_positive=0.0, compliance=1.0, quarantine_start=1.0, quarantine_break=0.0)


def outcome(diagnostics=None, days=28, substeps=WITH_TESTS, **settings):
    return simulate(TOWN, PARAMETERS, days=days, seed=0, diagnostics=diagnostics, substeps=substeps, **settings)


def test_sure_tests_of_all_who_fall_ill_count_cases_three_days_later():
    got = outcome(SURE, substeps=("progress", "test", "infect"))
    assert torch.equal(got.positives[3:], got.cases[:-3])
    assert (got.positives[:3] == 0).all()
    assert torch.equal(got.cases, outcome(substeps=("progress", "infect")).cases)


def test_positives_have_the_share_of_compliance_and_sensitivity():
    got = outcome(Diagnostics(), substeps=("progress", "test", "infect"))
    assert float(got.positives[3:].sum() / got.cases[:-3].sum()) == pytest.approx(0.95 * 0.8, abs=0.03)


def test_screening_finds_healthy_people_at_the_false_positive_rate():
    nobody = replace(PARAMETERS, initial=torch.tensor(0.0))
    screened = Diagnostics(screening=0.2, false_positive=0.3)
    got = simulate(TOWN, nobody, days=8, seed=0, diagnostics=screened, substeps=WITH_TESTS)
    assert (got.positives[:3] == 0).all()
    # On the first days nobody has been tested twice.
    assert float(got.positives[3].sum()) == pytest.approx(0.2 * 0.3 * 12_000, rel=0.12)


def test_quarantine_slows_the_epidemic_and_breaking_it_gives_some_back():
    none = outcome(replace(SURE, quarantine_start=0.0)).exposed.sum()
    broken = outcome(replace(SURE, delay=0, quarantine_break=0.5)).exposed.sum()
    kept = outcome(replace(SURE, delay=0)).exposed.sum()
    assert kept < 0.7 * none
    assert kept < broken < none


def test_quarantine_lasts_its_days():
    state = outcome(SURE, days=20).state
    arrived = (state["positive_on"] >= 0) & (state["positive_on"] <= 19)
    assert arrived.sum() > 50
    assert (state["quarantined_until"][arrived] == state["positive_on"][arrived] + 12).all()
    assert (state["quarantined_until"][~arrived] < 0).all()


def test_tests_and_quarantine_are_the_same_with_gradients_and_in_shards():
    settings = {"diagnostics": Diagnostics(screening=0.05), "substeps": WITH_TESTS, "days": 24, "seed": 1}
    plain = simulate(TOWN, PARAMETERS, **settings)
    soft = simulate(TOWN, PARAMETERS, differentiable=True, **settings)
    parts = simulate_in_shards(TOWN, PARAMETERS, shards=3, **settings)
    for other in (soft, parts):
        assert torch.equal(plain.exposed, other.exposed)
        assert torch.equal(plain.positives, other.positives)
        assert torch.equal(plain.state["quarantined_until"], other.state["quarantined_until"])


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="0 to 1"):
        Diagnostics(compliance=1.2)
    with pytest.raises(UsageError, match="0 or more"):
        Diagnostics(delay=-1)
    with pytest.raises(UsageError, match="the last substep is infect"):
        simulate_in_shards(TOWN, PARAMETERS, days=1, seed=0, shards=2, substeps=("infect", "progress"))
