"""What happens outside of the market: decisions on interest rates, and news of the economy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, MILLION


@dataclass(frozen=True)
class RateEvent:
    """From `day` on new loans cost other rates; those that run keep theirs."""

    day: int
    text: str
    rates: tuple[float, ...]
    """A year, for loans of 22, 44 and 66 days."""

    def __post_init__(self) -> None:
        check_rates(self.rates)


@dataclass(frozen=True)
class News:
    """Something about the whole economy, no firm."""

    day: int
    text: str
    sentiment: float
    """−1 (bad) to 1 (good); what scripted traders read of it."""

    def __post_init__(self) -> None:
        if not -1 <= self.sentiment <= 1:
            raise UsageError(f"the sentiment of news lies in [−1, 1], got {self.sentiment} on day {self.day}")


def check_rates(rates: Sequence[float]) -> None:
    """Raises UsageError unless there is one rate per type of loan, in [0, 1)."""
    if len(rates) != len(LOAN_DAYS) or any(not 0 <= rate < 1 for rate in rates):
        raise UsageError(f"expected {len(LOAN_DAYS)} rates in [0, 1), such as 0.027, got {list(rates)}")


def rates_on(day: int, opening: Sequence[float], events: Sequence[RateEvent]) -> tuple[int, ...]:
    """Rates in millionths in force on a day: those of the last event so far."""
    current = max((event for event in events if event.day <= day), key=lambda event: event.day, default=None)
    return tuple(round(rate * MILLION) for rate in (opening if current is None else current.rates))


def sentiment_on(day: int, news: Sequence[News], half_life: float = 5.0) -> float:
    """What is left of all news so far, in [−1, 1]: each counts half as much after `half_life` days."""
    total = sum(item.sentiment * 0.5 ** ((day - item.day) / half_life) for item in news if item.day <= day)
    return max(-1.0, min(1.0, total))
