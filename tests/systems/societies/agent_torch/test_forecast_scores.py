"""Scores by hand, identities, what may not be scored, and the forecasts that any model has to beat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.forecast_scores import (
    Forecast,
    Window,
    coverage,
    interval_score,
    scores,
    spread_origins,
    weighted_interval_score,
)
from pilotage.systems.societies.agent_torch.reference_forecasts import SEIR, fit_seir, persistence, seir


def of(draws: list[float], seen: int = 1) -> Forecast:
    return Forecast(np.array(draws, dtype=float)[:, None, None], seen)


def test_interval_score_by_hand() -> None:
    # Width 4; the truth 13 lies 3 above: 4 + 2/.2 · 3.
    assert interval_score(np.array(6.0), np.array(10.0), np.array(13.0), 0.2) == pytest.approx(34.0)
    assert interval_score(np.array(6.0), np.array(10.0), np.array(7.0), 0.2) == pytest.approx(4.0)


def test_weighted_interval_score_by_hand() -> None:
    # Draws 0 … 10: median 5; the central 80 % interval is [1, 9], the 50 % one [2.5, 7.5]. Truth 12.
    found = weighted_interval_score(of(list(range(11))), np.array([[12.0]]), alphas=(0.2, 0.5))
    by_hand = (7 / 2 + 0.2 / 2 * (8 + 2 / 0.2 * 3) + 0.5 / 2 * (5 + 2 / 0.5 * 4.5)) / 2.5
    assert found.item() == pytest.approx(by_hand)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), st.floats(-1e3, 1e3))
def test_of_the_median_alone_or_of_equal_draws_it_is_the_absolute_error(draws: list[float], truth: float) -> None:
    y = np.array([[truth]])
    error = abs(truth - np.median(draws))
    assert weighted_interval_score(of(draws), y, alphas=()).item() == pytest.approx(error, abs=1e-9)
    point = of([draws[0]])
    assert weighted_interval_score(point, y).item() == pytest.approx(abs(truth - draws[0]), abs=1e-6)


def test_it_is_the_mean_pinball_loss_of_the_quantiles() -> None:
    draws, truth, alphas = np.random.default_rng(0).normal(size=500), 0.7, (0.1, 0.5)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    q = np.quantile(draws, levels)
    pinball = [2 * ((truth <= at) - level) * (at - truth) for at, level in zip(q, levels, strict=True)]
    found = weighted_interval_score(of(list(draws)), np.array([[truth]]), alphas).item()
    assert found == pytest.approx(np.mean(pinball))


def test_intervals_of_the_right_distribution_cover_and_narrow_ones_do_not() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(40, 25))
    right = Forecast(rng.normal(size=(400, 40, 25)), 1)
    assert coverage(right, truth, 0.05) == pytest.approx(0.95, abs=0.025)
    assert coverage(right, truth, 0.5) == pytest.approx(0.5, abs=0.05)
    narrow = Forecast(0.3 * right.draws, 1)
    assert coverage(narrow, truth, 0.05) < 0.6
    assert scores(narrow, truth)["wis"] > scores(right, truth)["wis"]


def test_what_was_seen_cannot_be_scored() -> None:
    series = np.arange(12.0)[:, None] + np.zeros(2)
    window = Window(series, 8, 3)
    draws = np.ones((4, 3, 2))
    window.score(Forecast(draws, 8))
    for seen in (7, 9, 11, 12):
        with pytest.raises(UsageError, match="from its own origin"):
            window.score(Forecast(draws, seen))
    with pytest.raises(UsageError, match="expected"):
        window.score(Forecast(draws[:, :2], 8))
    assert window.observed.shape == (8, 2)
    with pytest.raises(ValueError, match="read-only"):
        window.observed[0] = 5
    with pytest.raises(UsageError, match="12 weeks"):
        Window(series, 10, 3)


def test_a_later_week_changes_no_forecast_of_an_earlier_origin() -> None:
    rng = np.random.default_rng(2)
    series = rng.poisson(200, size=(20, 2)).astype(float)
    changed = series.copy()
    changed[12:] *= 9
    people = np.array([1e5, 1e5])
    for origin in (8, 12):
        one, other = Window(series, origin, 3), Window(changed, origin, 3)
        assert np.array_equal(persistence(one).draws, persistence(other).draws)
        made = [seir(w, people, generator=np.random.default_rng(0), draws=3).draws for w in (one, other)]
        assert np.array_equal(*made)


def test_origins_are_spread_and_never_beyond_the_data() -> None:
    origins = spread_origins(30, count=6, least=8, horizon=4)
    assert origins[0] == 8
    assert origins[-1] == 26
    assert len(set(origins)) == 6
    with pytest.raises(UsageError):
        spread_origins(12, count=6, least=8, horizon=4)


def test_persistence_has_the_last_week_as_its_median_and_widens() -> None:
    rng = np.random.default_rng(3)
    series = np.exp(np.cumsum(rng.normal(0, 0.2, size=(30, 2)), axis=0) + 6)
    made = persistence(Window(series, 25, 4))
    assert np.allclose(made.median(), series[24], rtol=0.02)
    low, high = made.interval(0.2)
    assert ((high - low)[3] > (high - low)[0]).all()


def test_a_planted_compartment_model_is_forecast_and_beats_persistence() -> None:
    people = 1e6
    planted = SEIR(reproduction=1.8, infectious_days=5.0, initial=1e-4, reported=0.25)
    series = people * np.array(planted.weekly(16))[:, None]
    fitted, residuals = fit_seir(series[:10, 0], people)
    assert np.abs(residuals).max() < 0.02
    window = Window(series, 10, 4)
    by_seir = window.score(seir(window, np.array([people]), generator=np.random.default_rng(0)))
    assert by_seir["mae"] < 0.2 * window.score(persistence(window))["mae"]
    assert sum(fitted.weekly(60)) < fitted.reported


def test_nobody_appears_or_disappears_in_the_compartments() -> None:
    # Without an end everybody who falls ill is reported; R0 = 2 ends at the root of z = 1 − exp(−2 z) ≈ .797.
    total = sum(SEIR(2.0, 5.0, 1e-6, 1.0).weekly(120))
    assert total == pytest.approx(0.797, abs=0.01)
