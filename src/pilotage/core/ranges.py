"""Intervals of numbers that an option accepts, noted at its type: `lr: Annotated[float, Range("(0, inf)")]`.

Options of configurations and hyper-parameters of pieces are checked alike.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from typing import Annotated, Any

_INTERVAL = re.compile(r"([\[(])(\S+), (\S+)([\])])")


@dataclass(frozen=True)
class Range:
    """Interval of accepted numbers in the usual notation: `Range("(0, 1]")` leaves 0 out and 1 in."""

    interval: str

    def __contains__(self, value: float) -> bool:
        match = _INTERVAL.fullmatch(self.interval)
        if match is None:
            raise ValueError(f"{self.interval!r} is no interval such as '[0, inf)'")
        opening, low, high, closing = match.groups()
        above = value >= float(low) if opening == "[" else value > float(low)
        return above and (value <= float(high) if closing == "]" else value < float(high))


PositiveFloat = Annotated[float, Range("(0, inf)")]
NonNegativeFloat = Annotated[float, Range("[0, inf)")]
Share = Annotated[float, Range("[0, 1]")]
PositiveInt = Annotated[int, Range("[1, inf)")]
NonNegativeInt = Annotated[int, Range("[0, inf)")]


def missed_range(annotation: Any, value: Any) -> str:
    """Return the interval in which a number, or every number of a tuple, should lie; empty when it does or has none.

    Args:
        annotation: type of the option, resolved with its `Annotated` parts.
        value: value of the option; what is no number has no range.
    """
    if isinstance(value, (tuple, list)):
        return next(filter(None, (missed_range(annotation, one) for one in value)), "")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    ranges = _ranges(annotation)
    return "" if any(value in one for one in ranges) else " or ".join(one.interval for one in ranges)


def _ranges(annotation: Any) -> list[Range]:
    own = [one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Range)]
    inner = [annotation.__origin__] if hasattr(annotation, "__metadata__") else typing.get_args(annotation)
    return own + [found for one in inner for found in _ranges(one)]
