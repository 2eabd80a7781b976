"""What traders are shown and what they may answer. Nothing here tells what is still to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from pilotage.systems.societies.stock_agent.env.exchange import Exchange
from pilotage.systems.societies.stock_agent.env.forum import Morning, Post
from pilotage.systems.societies.stock_agent.env.order_book import Side
from pilotage.systems.societies.stock_agent.env.population import Population


class Wish(NamedTuple):
    """An order that a trader would like to place."""

    stock: int
    side: Side
    amount: int
    """Shares."""
    price: int
    """Cents."""


class Borrowing(NamedTuple):
    """A loan that a trader would like to have."""

    kind: int
    """0, 1 or 2."""
    principal: int
    """Cents."""


@dataclass(frozen=True)
class Forecast:
    """What a trader expects to do tomorrow."""

    buy: tuple[bool, ...]
    """[S]."""
    sell: tuple[bool, ...]
    """[S]."""
    loan: bool


@dataclass(frozen=True)
class Firm:
    """What everybody knows of a firm on a day."""

    name: str
    story: str
    history: str
    """The quarters known before the first day, as text."""
    report: str
    """The report of this day as text; empty on other days, and where reports are switched off."""
    value: float
    """Cents a share by discounted cash flow, from the reports that are out and the rates in force."""


@dataclass(frozen=True)
class View:
    """A day, or one of its sessions, as all traders see it; a trader looks only at its own account."""

    day: int
    """From 1."""
    session: int
    """From 1; 0 in the morning, when loans are taken; sessions + 1 in the evening."""
    seed: int
    """Of the noise of scripted traders: it depends on the market's seed alone, not on what happened."""
    firms: tuple[Firm, ...]
    rates: tuple[int, ...]
    """Millionths a year, for loans of 22, 44 and 66 days."""
    announcement: str
    """What the central bank decided this morning, or nothing."""
    news: str
    """This day's news of the economy, or nothing."""
    sentiment: float
    """What is left of all news, −1 to 1."""
    morning: Morning
    """Yesterday's posts."""
    closes: Sequence[Sequence[int]]
    """Closing prices [days so far + 1][S] in cents; the first are the start prices."""
    exchange: Exchange
    """Books, last prices and accounts."""
    population: Population

    @property
    def prices(self) -> list[int]:
        """[S] last prices in cents."""
        return self.exchange.prices

    def limit(self) -> np.ndarray:
        """[N] cents that may still be borrowed: wealth at the beginning less outstanding principal."""
        return np.maximum(self.population.wealth - self.exchange.ledger.owed(), 0)

    def refuses(self, trader: int, wish: Wish) -> str:
        """Why an order cannot be placed, as `kind: words`; empty when it can."""
        if wish.stock not in range(len(self.firms)):
            return f"stock: there are stocks 0 to {len(self.firms) - 1}, got {wish.stock!r}"
        if wish.side not in ("buy", "sell"):
            return f"side: buy or sell, got {wish.side!r}"
        for name in ("amount", "price"):
            value = getattr(wish, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                return f"{name}: a whole number above 0 is needed, got {value!r}"
        reason = self.exchange.ledger.affords(trader, *wish)
        return f"funds: {reason}" if reason else ""

    def refuses_loan(self, trader: int, wish: Borrowing) -> str:
        """Why a loan cannot be had, as `kind: words`; empty when it can."""
        if isinstance(wish.kind, bool) or wish.kind not in range(len(self.rates)):
            return f"loan type: 0, 1 or 2 is needed, got {wish.kind!r}"
        limit = int(self.limit()[trader])
        if isinstance(wish.principal, bool) or not isinstance(wish.principal, int) or not 0 < wish.principal <= limit:
            return f"loan amount: whole cents above 0 and up to {limit} are needed, got {wish.principal!r}"
        return ""


class Traders(Protocol):
    """All traders' decisions. What the market refuses counts as no action."""

    scripted: bool
    """Whether no language model is asked."""
    exhausted: str
    """Why nobody acts any more, such as a budget that is used up; empty while they do."""
    counts: Counter[str]
    """Answers that could not be used, by kind."""

    def borrow(self, view: View) -> Sequence[Borrowing | None]:
        """[N], in the morning."""
        ...

    def open_session(self, view: View) -> None:
        """Before the first order of a session."""
        ...

    def order(self, view: View, trader: int) -> Wish | None:
        """One trader's turn, with the books as they are now."""
        ...

    def foresee(self, view: View) -> Sequence[Forecast | None]:
        """[N], in the evening."""
        ...

    def post(self, view: View) -> Sequence[Post]:
        """In the evening: any number of posts of any traders."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is remembered from day to day."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
