"""Planners that read the state of a tax year, scripted or trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotage.environments.economy.tax_schedule import bracket_of
from pilotage.systems.societies.llm_economist.env.population import GB2, population_of
from pilotage.systems.societies.llm_economist.env.tax_game import THREE, TaxGame
from pilotage.systems.societies.llm_economist.env.tax_years import run_tax_years
from pilotage.systems.societies.llm_economist.env.workers import RationalWorkers
from pilotage.systems.societies.llm_economist.model import NetworkPlanner, RateNetwork, parse_observation
from pilotage.systems.societies.llm_economist.scripted_planners import HillClimbPlanner, TargetPlanner, read_state


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def game(count: int = 40) -> TaxGame:
    return TaxGame(population_of(GB2().quantile((torch.arange(count).double() + 0.5) / count)), THREE)


def text(**told: Any) -> str:
    return "STATE " + json.dumps({"rates": [50.0, 50.0], "welfare": 1.0, "history": [], "best": [], **told})


def delta(planner: Any, **told: Any) -> list[float]:
    return json.loads(planner.reply(text(**told)))["DELTA"]


class Heard:
    """Passes on what another planner says, and keeps what both were told."""

    scripted = True

    def __init__(self, planner: Any) -> None:
        self.planner, self.told = planner, list[str]()

    def reply(self, state: str) -> str:
        self.told.append(state)
        return self.planner.reply(state)


def test_hill_climbing_starts_from_the_best_and_settles_on_it() -> None:
    planner = HillClimbPlanner(generator())
    best = [[[60.0, 40.0], 9.0]]
    moved = [delta(planner, best=best) for _ in range(60)]
    # From (60, 40): the best plus at most 20 points, cut to what a year allows.
    assert {change[0] for change in moved} == {-10, 0, 10, 20}
    assert {change[1] for change in moved} == {-20, -10, 0, 10}
    assert delta(planner, best=best, phase="settle") == [10, -10]
    high = [delta(planner, rates=[100.0, 0.0], best=[[[100.0, 0.0], 1.0]]) for _ in range(30)]
    assert {change[0] for change in high} == {-20, -10, 0}


def test_hill_climbing_finds_better_rates() -> None:
    world = game()
    found = run_tax_years(world, RationalWorkers(), HillClimbPlanner(generator(1)), generator(), years=30, tax_year=1)
    assert found.welfare[-1] > found.welfare[0]
    assert found.welfare[-2:].min() == found.welfare.max()


def test_a_target_is_found_once_walked_to_and_kept_when_put_away() -> None:
    asked = []

    def find(rates: torch.Tensor) -> torch.Tensor:
        asked.append(rates.tolist())
        return torch.tensor([100.0, 40.0])

    planner = TargetPlanner(find)
    assert delta(planner) == [20, -10]
    other = TargetPlanner(find)
    other.load_state_dict(planner.state_dict())
    assert delta(other, rates=[90.0, 40.0]) == [10, 0]
    assert asked == [[50, 50]]


# ---- the network -----------------------------------------------------------------------------------------------------


def test_the_network_sees_in_the_text_what_happened() -> None:
    world, heard = game(), Heard(NetworkPlanner(RateNetwork(3)))
    found = run_tax_years(world, RationalWorkers(), heard, generator(), years=4, tax_year=1)
    seen = parse_observation(read_state(heard.told[2]))
    year = world.play(found.rates[2])
    assert seen.rates[0].equal(found.rates[2])
    assert seen.before[0].equal(found.rates[1])
    assert seen.best[0].equal(found.rates[int(found.welfare[:3].argmax())])
    assert seen.welfare.item() == pytest.approx(year.welfare.item(), abs=1e-3)
    assert seen.welfare_before.item() == pytest.approx(found.welfare[1].item(), abs=1e-3)
    shares = torch.bincount(bracket_of(year.income, world.edges), minlength=3) / 40
    assert torch.allclose(seen.people[0], shares.double())
    assert seen.progress.item() == pytest.approx(3 / 4)
    assert seen.features().shape == (1, 16)
    first = parse_observation(read_state(heard.told[0]))
    assert first.before.equal(first.rates)


def test_a_network_keeps_its_weights_and_answers_in_tens(tmp_path: Path) -> None:
    network = RateNetwork(3, width=8)
    network.save(tmp_path)
    again = RateNetwork.load(tmp_path)
    features = torch.randn(5, 16, generator=generator())
    assert again(features).equal(network(features))
    found = run_tax_years(game(), RationalWorkers(), NetworkPlanner(again), generator(), years=3, tax_year=1)
    assert found.counts["accepted"] == 2
    assert found.counts["rounded"] == found.counts["clipped"] == 0
