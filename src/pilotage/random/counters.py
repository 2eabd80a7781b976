"""Hashes of counters: random bits without a generator that has a state."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
"""Odd number nearest to 2^64 over the golden ratio: the step between counters."""


@overload
def splitmix64(words: int) -> int: ...
@overload
def splitmix64(words: NDArray[np.uint64]) -> NDArray[np.uint64]: ...
def splitmix64(words: Any) -> Any:
    """Return the finaliser of splitmix64 (Steele, Lea and Flood 2014) of an integer below 2^64, or of uint64 arrays."""
    words = (words ^ (words >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    words = (words ^ (words >> 27)) * 0x94D049BB133111EB & MASK
    return words ^ (words >> 31)
