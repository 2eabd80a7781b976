"""Parser of the answers of planners and voters: JSON somewhere in a text.

`{"DELTA": [10, 0, -20]}` changes marginal rates by so many points; `{"LEADER": 7}` is a vote. An answer that cannot be
read is refused with a reason and counted, not guessed; a change that is too large is bounded and counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pilotage.core.model_text import read_model_text

LARGEST = 20.0
"""Largest change of a rate in a year, in points."""
GRAIN = 10.0
"""Changes are rounded to multiples of so many points; halves go to the even multiple."""


@dataclass(frozen=True)
class Refused:
    """An answer that cannot be used. `reason`: no_json, no_key, no_list, length, no_number, fraction, no_candidate."""

    reason: str
    detail: str
    """Explanation for the planner or voter: what is wrong and what is expected."""


def find_object(text: str, key: str) -> dict[str, Any] | Refused:
    """Return the last JSON object of an answer that has `key` (a model may correct itself).

    Reasoning before the answer is not read.
    """
    text = read_model_text(text).answer
    decoder, found, any_object, start = json.JSONDecoder(), None, False, text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # also an integer of thousands of digits
            pass
        else:
            any_object = True
            found = value if key in value else found
        start = text.find("{", end)
    if found is not None:
        return found
    if any_object:
        return Refused("no_key", f'the JSON object lacks the key "{key}"')
    return Refused("no_json", f'expected a JSON object such as {{"{key}": ...}}, found none')


def parse_delta(text: str, brackets: int, counts: Counter[str] | None = None) -> Tensor | Refused:
    """Return the change of rates in a text, float64 [bracket] in points: multiples of 10 within ±20.

    Refused are another number of entries, strings such as "10%", truth values, NaN and infinities, and entries between
    −1 and 1 other than 0, since .1 most likely means ten points.

    Args:
        text: the answer.
        brackets: number of brackets.
        counts: collects accepted, clipped (beyond ±20), rounded (not a multiple of 10) and refused/REASON, each once
            per answer.
    """
    found = _read_delta(text, brackets)
    tally = Counter[str]() if counts is None else counts
    if isinstance(found, Refused):
        tally[f"refused/{found.reason}"] += 1
        return found
    asked = torch.tensor(found, dtype=torch.float64)
    inside = asked.clamp(-LARGEST, LARGEST)
    whole = (inside / GRAIN).round() * GRAIN
    tally["accepted"] += 1
    tally["clipped"] += int(bool((inside != asked).any()))
    tally["rounded"] += int(bool((whole != inside).any()))
    return whole


def _read_delta(text: str, brackets: int) -> list[float] | Refused:
    found = find_object(text, "DELTA")
    if isinstance(found, Refused):
        return found
    entries = found["DELTA"]
    if not isinstance(entries, list):
        return Refused("no_list", f'"DELTA" must be a list of {brackets} numbers, got {type(entries).__name__}')
    if len(entries) != brackets:
        return Refused("length", f'"DELTA" must have {brackets} entries, one per bracket, got {len(entries)}')
    for entry in entries:
        number = isinstance(entry, int | float) and not isinstance(entry, bool)
        if not number or (isinstance(entry, float) and not math.isfinite(entry)):
            return Refused("no_number", f"every entry must be a plain number of points such as -10, got {entry!r}")
        if 0 < abs(entry) < 1:
            return Refused("fraction", f"entries are points of percent, so {entry!r} is almost none: write 10 for 10 %")
    # A huge integer overflows a float.
    return [float(max(-1e9, min(1e9, entry))) for entry in entries]


def apply_delta(rates: Tensor, delta: Tensor, counts: Counter[str] | None = None) -> Tensor:
    """Return the rates after a change, cut to [0, 100].

    Args:
        rates: present rates in percent, [bracket].
        delta: change in points, [bracket].
        counts: its entry "truncated" counts changes that were cut.
    """
    moved = rates + delta
    kept = moved.clamp(0, 100)
    if counts is not None:
        counts["truncated"] += int(bool((kept != moved).any()))
    return kept


def parse_vote(text: str, candidates: Sequence[int], counts: Counter[str] | None = None) -> int | Refused | None:
    """Return the candidate that a text votes for; None for an abstention, `{"LEADER": null}`.

    Args:
        text: the answer.
        candidates: numbers of the candidates; a vote for another worker is refused.
        counts: collects accepted, abstained and refused/REASON.
    """
    tally = Counter[str]() if counts is None else counts
    found = find_object(text, "LEADER")
    if not isinstance(found, Refused):
        vote = found["LEADER"]
        if vote is None:
            tally["abstained"] += 1
            return None
        if isinstance(vote, int) and not isinstance(vote, bool) and vote in candidates:
            tally["accepted"] += 1
            return vote
        found = Refused("no_candidate", f"the candidates are {list(candidates)}, got {vote!r}")
    tally[f"refused/{found.reason}"] += 1
    return found
