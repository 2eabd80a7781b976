"""Numbers as text for people."""

from __future__ import annotations

import math

import pytest

from pilotage.core.text import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5123456, "0.5123"),
        (1234, "1234"),
        (1234.5678, "1235"),
        (9999.7, "10,000"),
        (298_612.4, "298,600"),
        (298_612, "298,612"),
        (-298_612.4, "-298,600"),
        (2.986e12, "2.99 × 10¹²"),
        (0.000012, "1.2 × 10⁻⁵"),
        (-2e-9, "-2 × 10⁻⁹"),
        (0, "0"),
        (0.0, "0"),
        (math.inf, "inf"),
        (True, "True"),
        ("as it is", "as it is"),
    ],
)
def test_numbers_are_written_without_an_e(value: object, text: str) -> None:
    assert number(value) == text
