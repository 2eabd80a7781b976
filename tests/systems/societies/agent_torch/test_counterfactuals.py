"""Paired effects: intervals that cover, pairing that gains, and what cannot be paired."""

from __future__ import annotations

import numpy as np
import pytest

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.counterfactuals import effect


def test_intervals_of_paired_effects_cover() -> None:
    rng = np.random.default_rng(0)
    inside = holds = 0
    for _ in range(1000):
        shared = rng.normal(0, 5, size=8)
        found = effect(100 + shared + rng.normal(0, 1, 8), 100 + shared + rng.normal(0, 1, 8))
        inside += found.interval.low <= 0 <= found.interval.high
        holds += found.verdict == "holds"
    assert 0.93 <= inside / 1000 <= 0.97
    assert holds / 1000 <= 0.05


def test_pairing_gains_what_both_sides_share() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(100, 20, size=10)
    found = effect(shared - 5 + rng.normal(0, 0.5, 10), shared, larger=False)
    assert found.verdict == "holds"
    assert found.interval.mean == pytest.approx(-5, abs=0.5)
    assert found.share.mean == pytest.approx(found.interval.mean / shared.mean())
    assert found.correlation > 0.99
    mixed = effect(shared - 5, rng.permutation(shared))
    assert mixed.interval.high - mixed.interval.low > 10 * (found.interval.high - found.interval.low)


def test_no_effect_and_few_pairs_are_undecided() -> None:
    assert effect([1, 2, 3, 4], [0, 1, 2, 3]).verdict == "undecided"
    assert effect([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).interval.mean == 0
    assert effect([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).verdict != "holds"


def test_sides_that_cannot_be_paired_are_refused() -> None:
    for sides in (([1.0], [1.0, 2.0]), ([], []), ([1.0, float("nan")], [1.0, 2.0])):
        with pytest.raises(UsageError):
            effect(*sides)
