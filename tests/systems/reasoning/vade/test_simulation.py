"""A curriculum on a bandit whose pass rates drift."""

import math

import numpy as np
import pytest

from pilotage.systems.reasoning.vade.simulation import VARIANTS, simulate_bandit


def simulate(name: str) -> dict[str, float]:
    runs = [simulate_bandit(VARIANTS[name], 300, 80, 12, 8, 0.01, seed) for seed in range(6)]
    return {key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key != "gains"}


def test_in_a_drifting_bandit_the_curriculum_gains_more_than_chance_and_less_than_an_oracle() -> None:
    uniform, vade = simulate("uniform"), simulate("vade")
    assert 1.2 * uniform["gain"] < vade["gain"] < vade["oracle"]
    assert vade["oracle"] == pytest.approx(uniform["oracle"])
    assert vade["zero_variance"] < 0.8 * uniform["zero_variance"]
    assert math.isnan(uniform["error"])


def test_greedy_choice_visits_less_evenly_than_thompson_s() -> None:
    assert simulate("greedy")["entropy"] < simulate("vade")["entropy"]


def test_one_global_rate_of_forgetting_knows_less_than_two() -> None:
    assert simulate("one scale")["error"] > 1.5 * simulate("vade")["error"]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_simulation_is_determined_by_its_seed(name: str) -> None:
    first, second = (simulate_bandit(VARIANTS[name], 60, 10, 5, 8, 0.01, 3) for _ in range(2))
    np.testing.assert_equal(first, second)
    assert first["gain"] == pytest.approx(first["gains"].sum())
