import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.metrics import (
    compliance,
    covered_area,
    entropy,
    hull_area,
    spread,
    success,
)

RANDOM = np.random.default_rng(0)
POSITIONS = RANDOM.normal(0, 5, (12, 6, 2))
EVERY = np.ones(12, dtype=bool)
MEASURES = [
    covered_area,
    hull_area,
    spread,
    lambda values, compliant: entropy(values, compliant, -10, 10),
]


@pytest.mark.parametrize("measure", MEASURES)
def test_only_compliant_trajectories_count(measure):
    compliant = np.arange(12) % 3 > 0
    spoiled = POSITIONS.copy()
    spoiled[~compliant] = np.nan
    assert measure(spoiled, compliant) == measure(POSITIONS[compliant], np.ones(8, dtype=bool)) > 0


@pytest.mark.parametrize("measure", MEASURES)
def test_none_compliant_is_zero(measure):
    assert measure(POSITIONS, ~EVERY) == 0.0


@pytest.mark.parametrize("measure", MEASURES)
def test_a_copy_adds_nothing(measure):
    doubled = np.concatenate([POSITIONS, POSITIONS])
    assert measure(doubled, np.ones(24, dtype=bool)) == pytest.approx(measure(POSITIONS, EVERY))


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_trajectories_does_not_matter(measure):
    assert measure(POSITIONS[::-1], EVERY) == pytest.approx(measure(POSITIONS, EVERY))


def test_area_counts_the_cells_that_are_visited():
    positions = np.array([[[0.1, 0.1], [0.4, 0.2], [0.6, 0.1]], [[-0.1, 0.1], [0.1, 0.1], [7.0, 7.0]]])
    assert covered_area(positions, np.array([True, True])) == 4 * 0.25
    assert covered_area(positions, np.array([True, False])) == 2 * 0.25
    assert covered_area(positions, np.array([True, True]), cell=10.0) == 200.0


def test_entropy_of_known_histograms():
    values = np.zeros((10, 2, 1))
    values[:, 1, 0] = np.linspace(-0.9, 0.9, 10)  # one in each bin at the second step, all in one at the first
    assert entropy(values, np.ones(10, dtype=bool), -1, 1) == pytest.approx(math.log(10) / 2)
    assert entropy(values[:1], np.ones(1, dtype=bool), -1, 1) == 0.0
    outside = np.array([[[-9.0]], [[-0.95]], [[1.0]], [[9.0]]])
    assert entropy(outside, np.ones(4, dtype=bool), -1, 1) == pytest.approx(math.log(2))


@given(st.integers(0, 2**31), st.integers(3, 20))
@settings(max_examples=25)
def test_the_hull_has_the_area_that_shapely_says(seed, n):
    points = np.random.default_rng(seed).normal(size=(n, 2, 2))
    expected = np.mean([shapely.MultiPoint(points[:, t]).convex_hull.area for t in range(2)])
    assert hull_area(points, np.ones(n, dtype=bool)) == pytest.approx(expected)


def test_positions_on_a_line_have_no_area():
    along = np.linspace(0, 1, 5)[:, None, None] * np.array([3.0, 4.0])
    assert hull_area(along, np.ones(5, dtype=bool)) == 0.0
    assert hull_area(np.ones((5, 1, 2)), np.ones(5, dtype=bool)) == 0.0
    assert hull_area(np.ones((2, 1, 2)), np.ones(2, dtype=bool)) == 0.0


def test_compliance_and_success_count_valid_samples_only():
    compliant = np.array([[True, False], [True, True], [False, False], [True, True]])
    valid = np.array([[True, True], [False, True], [True, True], [False, False]])
    assert compliance(compliant, valid) == 2 / 5
    assert success(compliant, valid) == 2 / 3
    assert compliance(compliant, ~valid & False) == success(compliant, ~valid & False) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: covered_area(POSITIONS, EVERY[:-1]),
        lambda: covered_area(POSITIONS, np.ones(12)),
        lambda: covered_area(POSITIONS[..., :1], EVERY),
        lambda: covered_area(POSITIONS, EVERY, cell=0.0),
        lambda: entropy(POSITIONS, EVERY, 1, -1),
        lambda: success(EVERY, EVERY),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(UsageError):
        call()
