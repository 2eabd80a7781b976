"""Waiting times before a call is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pilotage.core.errors import UsageError
from pilotage.llm.chat import Refused


@dataclass(frozen=True)
class Retries:
    """Exponential back-off with full jitter: before try k + 1, a uniform draw from [0, min(longest, first · 2^k)].

    Where the endpoint names a wait (Retry-After), it is respected, plus the jitter of the first wait so that clients do
    not return at the same moment. Source: M. Brooker, «Exponential Backoff And Jitter», AWS Architecture Blog, 2015.
    """

    tries: int = 6
    """Largest number of calls for one request, the first included."""
    first: float = 1.0
    """Upper bound of the first wait, in seconds."""
    longest: float = 60.0
    """Largest wait in seconds; where an endpoint asks for a longer one, the request fails."""

    def __post_init__(self) -> None:
        if self.tries < 1 or not 0 <= self.first <= self.longest:
            raise UsageError(
                f"retries are tries={self.tries}, first={self.first}, longest={self.longest}; "
                "give tries >= 1 and 0 <= first <= longest"
            )

    def wait(self, refusal: Refused, tried: int, noise: random.Random) -> float | None:
        """Return the seconds until the next try, or None where there is none.

        Args:
            refusal: the failure.
            tried: number of calls so far.
            noise: random numbers of the jitter.
        """
        if not refusal.again or tried >= self.tries:
            return None
        if refusal.wait is not None:
            return None if refusal.wait > self.longest else refusal.wait + noise.uniform(0, self.first)
        return noise.uniform(0, min(self.longest, self.first * 2.0 ** (tried - 1)))
