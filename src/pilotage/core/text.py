"""Numbers, durations and texts from outside, as text for people."""

from __future__ import annotations

from typing import Any


def number(value: Any) -> str:
    """Return a number with four significant digits (0.5123, 1234, 1.2e-05); other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


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
