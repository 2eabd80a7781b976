"""Numbers, durations and texts from outside, as text for people."""

from __future__ import annotations

import math
from typing import Any

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any) -> str:
    """Return a number for people; other values as they are.

    Four significant digits (0.5123, 1234), from 10,000 on with commas (298,600), and powers of ten (1.2 × 10⁻⁵) below
    0.0001 and from a thousand millions on. Whole numbers keep all digits below that.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size >= 1e9 or size < 1e-4:
        return scientific(value)
    if isinstance(value, int):
        return f"{value:,}" if size >= 10_000 else str(value)
    if size >= 9999.5:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.4g}"


def scientific(value: float, digits: int = 3) -> str:
    """Return a number as a mantissa of `digits` significant digits and a power of ten: 2.99 × 10⁵."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"


def escape_unprintable(text: str) -> str:
    """Return a text whose control characters, direction marks and lone surrogates are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """Return a duration such as "45 s", "3 min 20 s" or "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def printable(text: str) -> str:
    """Return a text that UTF-8 can hold: halves of surrogate pairs are joined, and single ones become U+FFFD.

    Texts from outside (a model's answer, a reply of a server, a file) go through it where they come in.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
