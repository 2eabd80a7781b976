from __future__ import annotations

import math

import numpy as np
import pytest

from pilotage.evaluation.gradients import noise_share


def test_noise_share_is_zero_without_noise_and_one_without_signal():
    assert noise_share(np.ones((4, 7))) == 0.0
    noise = np.random.default_rng(0).normal(size=(400, 50))
    assert noise_share(noise) == pytest.approx(1.0, abs=0.02)


def test_noise_share_is_known_for_a_known_signal_and_has_no_scale():
    draws = 2.0 + np.random.default_rng(1).normal(size=(400, 50))
    assert noise_share(draws) == pytest.approx(1 / (1 + 4), abs=0.01)
    assert noise_share(1e-3 * draws) == pytest.approx(noise_share(draws), rel=1e-9)


def test_noise_share_needs_two_draws_and_something_that_is_not_zero():
    assert math.isnan(noise_share(np.zeros((3, 2))))
    with pytest.raises(ValueError, match="two draws"):
        noise_share(np.ones((1, 3)))
