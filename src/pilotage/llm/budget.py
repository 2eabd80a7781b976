"""How much a service may spend, counted before anything is sent."""

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
    """Money for a million tokens, in any one currency, to six decimals."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < 1e6 and 0 <= self.completion < 1e6):
            raise UsageError(f"prices are {self.prompt} and {self.completion} per million tokens; give 0 or more")

    def units(self, usage: Usage) -> int:
        """What the tokens cost, in units of 1e-12."""
        return usage.prompt * round(self.prompt * 1e6) + usage.completion * round(self.completion * 1e6)


@dataclass(frozen=True)
class Budget:
    """Limits that are never passed; None: no limit. What a call can take at most is reserved before it is sent.

    Calls that the endpoint refused (429, 5xx) cost nothing. Calls that timed out or were cut off may have been charged
    for, and count with the most that they can have taken."""

    calls: int | None = None
    tokens: int | None = None
    """Of prompts and answers together."""
    money: float | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "money"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise UsageError(f"the budget of {name} is {limit}; give 0 or more, or None for no limit")

    def over(self, spent: Spent) -> str:
        """Which limit `spent` passes, in words; empty when none."""
        if self.calls is not None and spent.calls > self.calls:
            return f"{self.calls} calls"
        if self.tokens is not None and spent.tokens > self.tokens:
            return f"{self.tokens} tokens"
        # The decimal that the user wrote is meant, not the float below it.
        if self.money is not None and spent.units > round(self.money * UNITS):
            return f"{self.money:g} of money"
        return ""


@dataclass(frozen=True)
class Spent:
    """What calls took, or can take at most."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    units: int = 0
    """Money in units of 1e-12."""

    @classmethod
    def of(cls, usage: Usage, prices: Prices) -> Spent:
        """One call."""
        return cls(1, usage.prompt, usage.completion, prices.units(usage))

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    @property
    def money(self) -> float:
        return self.units / UNITS

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.units + other.units,
        )


class BudgetReached(RuntimeError):  # noqa: N818 - a clean stop
    """The next call could pass the budget, so it was not sent. What had been sent was waited for and kept.

    `answers` has one entry per request, None where it was not asked. Ask again with a larger budget: only those
    without an answer are sent."""

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
    """What a service has done since it was made, and what its account has spent since it was opened."""

    asked: int = 0
    """Requests."""
    cached: int = 0
    """Answered from disk."""
    shared: int = 0
    """Answered together with an equal request."""
    called: int = 0
    """Calls sent, tries after a failure included."""
    retried: int = 0
    """Calls sent again after a failure."""
    failed: int = 0
    """Requests left without an answer after all tries."""
    repaired: int = 0
    """Structured answers that were right only when asked for once more."""
    fallen_back: int = 0
    """Structured answers that the caller's fallback replaced."""
    underestimated: int = 0
    """Calls that took more tokens than had been reserved for them; the budget may be passed by that difference."""
    maybe_paid_twice: int = 0
    """Calls that were under way when an earlier process was killed: the most that can have been paid for twice."""
    spent_calls: int = 0
    spent_prompt_tokens: int = 0
    spent_completion_tokens: int = 0
    spent_money: float = 0.0

    def metrics(self, prefix: str = "llm/") -> dict[str, Any]:
        """By name, for a line of metrics."""
        return {f"{prefix}{name}": value for name, value in vars(self).items()}
