"""The finaliser of splitmix64: published values, the same for integers and arrays."""

from __future__ import annotations

import numpy as np

from pilotage.random.counters import GOLDEN, MASK, splitmix64


def test_integers_and_arrays_give_the_published_sequence():
    # The first outputs of Vigna's splitmix64.c with state 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + (place + 1) * GOLDEN) & MASK for place in range(3)]
    assert [splitmix64(state) for state in states] == published
    assert splitmix64(np.array(states, dtype=np.uint64)).tolist() == published
