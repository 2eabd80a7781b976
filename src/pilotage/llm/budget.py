"""Budget of a service, checked before a call is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.llm.chat import ChatAnswer, Usage
from pilotage.types import Failed

UNITS = 10**12
"""Money is counted in whole units of 1e-12 of the user's currency, so that sums are exact."""


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in any one currency, to six decimals."""

    prompt: float = 0.0
    """Price of prompt tokens."""
    completion: float = 0.0
    """Price of completion tokens."""

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < 1e6 and 0 <= self.completion < 1e6):
            raise UsageError(f"prices are {self.prompt} and {self.completion} per million tokens; give 0 or more")

    def units(self, usage: Usage) -> int:
        """Return the cost of tokens, in units of 1e-12."""
        return usage.prompt * round(self.prompt * 1e6) + usage.completion * round(self.completion * 1e6)


@dataclass(frozen=True)
class Budget:
    """Limits that are never passed; None: no limit. The largest possible cost of a call is reserved before it is sent.

    Calls that the endpoint refused (429, 5xx) cost nothing. Calls that timed out or were cut off may have been charged
    for, and count with their largest possible cost.
    """

    calls: int | None = None
    """Number of calls."""
    tokens: int | None = None
    """Number of prompt and completion tokens together."""
    money: float | None = None
    """Money, in the currency of the prices."""

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "money"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise UsageError(f"the budget of {name} is {limit}; give 0 or more, or None for no limit")

    def over(self, spent: Spent) -> str:
        """Return the limit that `spent` passes, in words; empty when none."""
        if self.calls is not None and spent.calls > self.calls:
            return f"{self.calls} calls"
        if self.tokens is not None and spent.tokens > self.tokens:
            return f"{self.tokens} tokens"
        # The limit is the decimal that the user wrote, not the float below it.
        if self.money is not None and spent.units > round(self.money * UNITS):
            return f"{self.money:g} of money"
        return ""


@dataclass(frozen=True)
class Spent:
    """Cost of calls, or their largest possible cost."""

    calls: int = 0
    """Number of calls."""
    prompt: int = 0
    """Prompt tokens."""
    completion: int = 0
    """Completion tokens."""
    units: int = 0
    """Money in units of 1e-12."""

    @classmethod
    def of(cls, usage: Usage, prices: Prices) -> Spent:
        """Return the cost of one call."""
        return cls(1, usage.prompt, usage.completion, prices.units(usage))

    @property
    def tokens(self) -> int:
        """Return prompt and completion tokens together."""
        return self.prompt + self.completion

    @property
    def money(self) -> float:
        """Return the money."""
        return self.units / UNITS

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.units + other.units,
        )


class BudgetReached(RuntimeError):  # noqa: N818 - a clean stop
    """Clean stop: the next call could pass the budget, so it was not sent; calls in flight were waited for and kept.

    `answers` has one entry per request, None where it was not asked. Asking again with a larger budget sends only
    requests without an answer.
    """

    def __init__(self, limit: str, spent: Spent, answers: Sequence[ChatAnswer | Failed | None]) -> None:
        done = sum(answer is not None for answer in answers)
        super().__init__(
            f"the budget of {limit} allows no further call: {spent.calls} calls, {spent.tokens} tokens and "
            f"{spent.money:g} of money are spent; {done} of {len(answers)} requests have an answer. Give a larger "
            "budget to go on: answers that are kept are not paid for again"
        )
        self.limit, self.spent, self.answers = limit, spent, list(answers)


@dataclass(frozen=True)
class Counters:
    """Counts of what a service has done, and of what its account has spent."""

    asked: int = 0
    """Number of requests."""
    cached: int = 0
    """Requests answered from disk."""
    shared: int = 0
    """Requests answered together with an equal request."""
    called: int = 0
    """Calls sent, tries after a failure included."""
    repeated: int = 0
    """Requests sent although the store holds an answer from another address, or with other options, of the model."""
    retried: int = 0
    """Calls sent again after a failure."""
    failed: int = 0
    """Requests left without an answer after all tries."""
    repaired: int = 0
    """Structured answers that were right only when asked for once more."""
    fallen_back: int = 0
    """Structured answers that the caller's fallback replaced."""
    estimated: int = 0
    """Calls whose tokens the provider did not count, or whose counts cannot be true; they are charged with their
    largest possible cost."""
    underestimated: int = 0
    """Calls that took more tokens than had been reserved for them; the budget may be passed by that difference."""
    maybe_paid_twice: int = 0
    """Calls in flight when an earlier process was killed: at most so many were paid for twice."""
    spent_calls: int = 0
    """Calls of the account, over restarts."""
    spent_prompt_tokens: int = 0
    """Prompt tokens of the account."""
    spent_completion_tokens: int = 0
    """Completion tokens of the account."""
    spent_money: float = 0.0
    """Money of the account."""

    def metrics(self, prefix: str = "llm/") -> dict[str, Any]:
        """Return the counts by name, for a line of metrics."""
        return {f"{prefix}{name}": value for name, value in vars(self).items()}
