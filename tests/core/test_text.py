"""Texts from outside can be written to UTF-8 files; numbers are written for people."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.text import number, printable


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udc00", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        ("naïve 😀\x00\n", "naïve 😀\x00\n"),
        ("", ""),
    ],
)
def test_halves_of_characters_are_joined_or_replaced(given: str, expected: str) -> None:
    assert printable(given) == expected


@given(st.text(st.characters(codec=None, categories=["Cs", "L", "So"])))
def test_every_text_becomes_one_that_files_can_hold(text: str) -> None:
    shown = printable(text)
    assert json.loads(json.dumps(shown, ensure_ascii=False).encode()) == shown == printable(shown)


@given(st.text())
def test_a_whole_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


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
