from __future__ import annotations

import math

import pytest

from pilotage.evaluation.matched import at_first_reaching, mean_over_progress, value_at


def test_a_value_lies_between_its_neighbours_and_nowhere_outside_of_the_curve():
    assert value_at([0, 10, 30], [1.0, 2.0, 4.0], 20) == 3.0
    assert value_at([0, 10, 30], [1.0, 2.0, 4.0], 30) == 4.0
    assert value_at([0, 10, 10, 30], [1.0, 2.0, 5.0, 4.0], 10) == 5.0
    assert math.isnan(value_at([0, 10], [1.0, 2.0], 11))
    assert math.isnan(value_at([5, 10], [1.0, 2.0], 4))
    with pytest.raises(ValueError, match="falls"):
        value_at([0, 10, 5], [1.0, 2.0, 3.0], 4)


def test_a_level_counts_where_it_is_first_reached_whatever_comes_later():
    accuracy, entropy = [0.2, 0.4, 0.3, 0.6], [1.0, 0.8, 0.7, 0.1]
    assert at_first_reaching(accuracy, entropy, 0.3) == pytest.approx(0.9)
    assert at_first_reaching(accuracy, entropy, 0.1) == 1.0
    assert at_first_reaching(accuracy, entropy, 0.5) == pytest.approx(0.7 + (0.5 - 0.3) / 0.3 * (0.1 - 0.7))
    assert math.isnan(at_first_reaching(accuracy, entropy, 0.7))


def test_the_mean_over_progress_of_a_straight_line_is_its_middle():
    assert mean_over_progress([0.2, 0.6], [1.0, 0.0], 0.3, 0.5) == pytest.approx(0.5)
    # A slower learner on the same line has the same entropy at equal accuracy.
    assert mean_over_progress([0.2, 0.3, 0.4, 0.55], [1.0, 0.75, 0.5, 0.125], 0.3, 0.5) == pytest.approx(0.5)
    assert math.isnan(mean_over_progress([0.2, 0.45], [1.0, 0.0], 0.3, 0.5))
    with pytest.raises(ValueError, match="low < high"):
        mean_over_progress([0.2, 0.6], [1.0, 0.0], 0.5, 0.5)


def test_a_curve_needs_as_many_of_both():
    with pytest.raises(ValueError, match="one x for each y"):
        value_at([0, 1], [1.0], 0)
