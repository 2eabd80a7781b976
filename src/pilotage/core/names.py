"""Suggest the names that resemble one that was not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean 'a' or 'b'?)` with up to three of `names` that resemble `name`; empty when none does."""
    by_folded = {candidate.lower(): candidate for candidate in names}
    close = [by_folded[found] for found in difflib.get_close_matches(name.lower(), by_folded, n=3, cutoff=0.55)]
    return f" (did you mean {' or '.join(repr(c) for c in close)}?)" if close else ""
