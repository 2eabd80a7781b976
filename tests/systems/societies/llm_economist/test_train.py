"""REINFORCE on copies of a tax game."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pilotage.random.streams import Streams
from pilotage.systems.societies.llm_economist import train as training
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.tax_years import run_tax_years
from pilotage.systems.societies.llm_economist.env.workers import RationalWorkers
from pilotage.systems.societies.llm_economist.model import NetworkPlanner, RateNetwork
from pilotage.systems.societies.llm_economist.scenario import best_schedule, make_world

FLAT = TaxDesignConfig(agents=40, brackets="flat", updates=40)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POPULATIONS", 2), ("COPIES", 32), ("YEARS", 6)):
        monkeypatch.setattr(training, name, value)


@pytest.mark.usefixtures("small")
def test_a_trained_network_finds_good_flat_rates_for_people_it_has_not_met(tmp_path: Path) -> None:
    training.train_planner(tmp_path, training.training_config(FLAT))
    planner = NetworkPlanner(RateNetwork.load(tmp_path))
    for seed in (0, 1):
        world = make_world(FLAT, Streams(seed).torch)
        start = {"years": 16, "tax_year": 1, "start": 0.0}
        found = run_tax_years(world.game, RationalWorkers(), planner, torch.Generator(), **start)
        assert float(found.welfare[-1]) > 0.95 * best_schedule(world, torch.Generator()).value
        assert found.welfare[0] < 0.8 * found.welfare[-1]


@pytest.mark.usefixtures("small")
def test_training_is_repeatable_and_touches_no_global_generator(tmp_path: Path) -> None:
    config = replace(FLAT, updates=2)
    weights = []
    for number in range(2):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        folder = tmp_path / str(number)
        folder.mkdir()
        training.train_planner(folder, training.training_config(config))
        assert torch.get_rng_state().equal(before)
        weights.append((folder / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_crash_and_its_recovery_are_worth_nothing_undiscounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "DISCOUNT", 1.0)
    gains = torch.tensor([[-0.5], [0.5], [0.1]], dtype=torch.float64)
    assert training._discounted(gains)[:, 0].tolist() == pytest.approx([0.1, 0.6, 0.1])


def test_only_what_matters_for_training_is_in_its_key() -> None:
    key = training.training_config(FLAT)
    assert training.training_config(replace(FLAT, planner="reinforce", years=7, workers="rational")) == key
    assert training.training_config(replace(FLAT, delta=3.0)) != key
    assert training.training_config(replace(FLAT, updates=3)) != key
