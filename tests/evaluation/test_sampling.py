from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.evaluation.sampling import majority_at_k, pass_at_k


@given(st.integers(1, 40), st.data())
def test_pass_at_k_equals_the_binomials(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at_k([c], [n], k)[0] == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-9)


def test_pass_at_k_is_the_share_of_choices_with_a_right_answer():
    right = [1, 0, 0, 1, 0, 0]
    share = np.mean([max(chosen) for chosen in combinations(right, 3)])
    assert pass_at_k(2, 6, 3) == pytest.approx(share)


def test_pass_at_one_is_the_accuracy_and_large_counts_stay_finite():
    assert pass_at_k([0, 3, 8], 8, 1).tolist() == pytest.approx([0, 3 / 8, 1])
    assert pass_at_k(1, 1_000_000, 500_000) == pytest.approx(0.5)


def test_too_few_answers_are_refused():
    with pytest.raises(UsageError, match="pass@5 from 4 answers"):
        pass_at_k([1, 1], [4, 8], 5)
    with pytest.raises(UsageError, match="right"):
        pass_at_k(5, 4, 1)


def test_the_majority_of_all_answers():
    generator = np.random.default_rng(0)
    assert majority_at_k(["a", "b", "a"], [1, 0, 1], 3, generator) == 1.0
    assert majority_at_k(["a", "b", "b", None, None, None], [1, 0, 0, 0, 0, 0], 6, generator) == 0.0
    assert majority_at_k(["a", "b"], [1, 0], 2, generator) == 0.5
    assert majority_at_k([None], [0], 1, generator) == 0.0


def test_the_majority_of_some_averages_over_choices():
    answers, right = ["a", "a", "b", "c", "c"], [1, 1, 0, 0, 0]
    exact = np.mean(
        [majority_at_k([answers[i] for i in s], [right[i] for i in s], 3, None) for s in combinations(range(5), 3)]
    )
    estimate = majority_at_k(answers, right, 3, np.random.default_rng(0), draws=4000)
    assert estimate == pytest.approx(exact, abs=0.03)


def test_lengths_are_checked():
    with pytest.raises(UsageError, match="as many"):
        majority_at_k(["a"], [1, 0], 1, np.random.default_rng(0))
    with pytest.raises(UsageError, match="maj@2 from 1"):
        majority_at_k(["a"], [1], 2, np.random.default_rng(0))
