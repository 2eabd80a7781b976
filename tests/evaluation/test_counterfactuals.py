"""Paired effects: the same noise on both sides, intervals that cover, and no effect where nothing differs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pilotage.environments.population import Parameters, simulate, tiny_city
from pilotage.evaluation.counterfactuals import paired_effects
from pilotage.evaluation.verdicts import Interval
from pilotage.system import UsageError

TOWN = tiny_city(3000, seed=0)


def epidemic(isolation):
    def scenario(seed):
        parameters = Parameters(torch.tensor(3.5), torch.full((6,), isolation), torch.tensor(0.02))
        outcome = simulate(TOWN, parameters, days=21, seed=seed)
        return {"exposed": float(outcome.exposed.sum()), "by borough": outcome.exposed.sum(0).tolist()}

    return scenario


def test_no_change_has_exactly_no_effect():
    effect = paired_effects(epidemic(0.1), epidemic(0.1), range(4))["exposed"]
    assert (effect.differences == 0).all()
    assert effect.interval() == Interval(0.0, 0.0, 0.0)


def test_isolation_prevents_infections_and_common_noise_narrows_the_interval():
    effects = paired_effects(epidemic(0.1), epidemic(0.25), range(8))
    interval = effects["exposed"].interval()
    assert interval.high < 0
    assert effects["exposed"].share_of_variance() < 0.8
    assert len(effects["by borough"].intervals()) == 5
    total = sum(part.mean for part in effects["by borough"].intervals())
    assert total == pytest.approx(interval.mean)


def test_intervals_cover_the_true_effect_at_their_level():
    """Effect 1 with noise that both scenarios share and noise of their own: 95 % of 600 intervals hold it."""

    def scenario(effect, study):
        def run(seed):
            shared = np.random.default_rng([study, seed]).normal()
            own = np.random.default_rng([study, seed, int(effect)]).normal()
            return {"y": effect + 3 * shared + own}

        return run

    covered = 0
    for study in range(600):
        interval = paired_effects(scenario(0.0, study), scenario(1.0, study), range(5))["y"].interval()
        covered += interval.low <= 1.0 <= interval.high
    assert 0.93 <= covered / 600 <= 0.97


def test_what_cannot_be_compared_is_refused():
    def one(seed):
        return {"y": float(seed)}

    with pytest.raises(UsageError, match="two different seeds"):
        paired_effects(one, one, [1])
    with pytest.raises(UsageError, match="two different seeds"):
        paired_effects(one, one, [1, 1])
    with pytest.raises(UsageError, match=r"seed 0 a scenario measured \['x'\]; \['y'\]"):
        paired_effects(one, lambda _: {"x": 1.0}, [0, 1])
    with pytest.raises(UsageError, match="not finite with seed 0"):
        paired_effects(lambda _: {"y": math.nan}, one, [0, 1])
    with pytest.raises(UsageError, match="between 0 and 1"):
        paired_effects(one, one, [0, 1], level=95)
