"""Observations and actions of traders. Observations hold nothing of the future."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from pilotage.systems.societies.stock_agent.env.exchange import StockExchange
from pilotage.systems.societies.stock_agent.env.forum import ForumDigest, Post
from pilotage.systems.societies.stock_agent.env.order_book import Side
from pilotage.systems.societies.stock_agent.env.population import TraderPopulation


class OrderIntent(NamedTuple):
    """Order that a trader intends to place."""

    stock: int
    side: Side
    amount: int
    """Number of shares."""
    price: int
    """Limit in cents."""


class Borrowing(NamedTuple):
    """Loan that a trader intends to take."""

    kind: int
    """Type of the loan: 0, 1 or 2."""
    principal: int
    """Principal in cents."""


@dataclass(frozen=True)
class TraderForecast:
    """Actions that a trader expects to take on the next day."""

    buy: tuple[bool, ...]
    """Whether it expects to buy, [stock]."""
    sell: tuple[bool, ...]
    """Whether it expects to sell, [stock]."""
    loan: bool
    """Whether it expects to take a loan."""


@dataclass(frozen=True)
class Firm:
    """Public information on a firm on a day."""

    name: str
    story: str
    history: str
    """Quarters known before the first day, as text."""
    report: str
    """Report of this day as text; empty on other days, and without reports."""
    value: float
    """Valuation in cents a share, from the reports that are out and the rates in force."""


@dataclass(frozen=True)
class MarketView:
    """Observation of all traders on a day or in a session; a trader looks only at its own account."""

    day: int
    """Number of the day, from 1."""
    session: int
    """Number of the session from 1; 0 in the morning, when loans are taken; sessions + 1 in the evening."""
    seed: int
    """Seed of the traders' random numbers, which is the market's."""
    firms: tuple[Firm, ...]
    rates: tuple[int, ...]
    """Yearly rates in millionths of loans of 22, 44 and 66 days."""
    announcement: str
    """Decision of the central bank on this day, or an empty text."""
    news: str
    """News of the economy on this day, or an empty text."""
    sentiment: float
    """Fading sum of the tones of all news, −1 to 1."""
    digest: ForumDigest
    """Yesterday's posts."""
    closes: Sequence[Sequence[int]]
    """Closing prices in cents, [day + 1][stock]; the first are the start prices."""
    exchange: StockExchange
    """Books, last prices and accounts."""
    population: TraderPopulation

    @property
    def prices(self) -> list[int]:
        """Return the last prices in cents, [stock]."""
        return self.exchange.prices

    def limit(self) -> np.ndarray:
        """Return the cents that may still be borrowed, [trader]: opening wealth less outstanding principal."""
        return np.maximum(self.population.wealth - self.exchange.ledger.owed(), 0)

    def refuses(self, trader: int, intent: OrderIntent) -> str:
        """Return why an order cannot be placed, as `kind: words`; empty when it can."""
        if intent.stock not in range(len(self.firms)):
            return f"stock: there are stocks 0 to {len(self.firms) - 1}, got {intent.stock!r}"
        if intent.side not in ("buy", "sell"):
            return f"side: buy or sell, got {intent.side!r}"
        for name in ("amount", "price"):
            value = getattr(intent, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                return f"{name}: a whole number above 0 is needed, got {value!r}"
        reason = self.exchange.ledger.affords(trader, *intent)
        return f"funds: {reason}" if reason else ""

    def refuses_loan(self, trader: int, intent: Borrowing) -> str:
        """Return why a loan cannot be granted, as `kind: words`; empty when it can."""
        if isinstance(intent.kind, bool) or intent.kind not in range(len(self.rates)):
            return f"loan_type: 0, 1 or 2 is needed, got {intent.kind!r}"
        limit = int(self.limit()[trader])
        if (
            isinstance(intent.principal, bool)
            or not isinstance(intent.principal, int)
            or not 0 < intent.principal <= limit
        ):
            return f"loan_amount: whole cents above 0 and up to {limit} are needed, got {intent.principal!r}"
        return ""


class Traders(Protocol):
    """Decisions of all traders. An action that the market refuses counts as no action."""

    scripted: bool
    """Whether no language model is asked."""
    exhausted: str
    """Reason why the traders act no more, such as a budget that is used up; empty while they do."""
    counts: Counter[str]
    """Number of answers that could not be used, by kind."""

    def borrow(self, view: MarketView) -> Sequence[Borrowing | None]:
        """Return each trader's loan before the sessions (None: no loan)."""
        ...

    def open_session(self, view: MarketView) -> None:
        """Prepare a session, before its first order."""
        ...

    def order(self, view: MarketView, trader: int) -> OrderIntent | None:
        """Return the order of one trader's turn (None: hold)."""
        ...

    def forecast(self, view: MarketView) -> Sequence[TraderForecast | None]:
        """Return each trader's forecast after the sessions (None: no answer)."""
        ...

    def post(self, view: MarketView) -> Sequence[Post]:
        """Return the posts of the day, any number of any traders."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered from day to day."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...
