"""Learned traders in a market: what they see of it, which orders they can give, and their turns.

All that is seen is relative: returns, distances, shares of what one owns, days. So money in other units changes
nothing. A learned trader draws its order from the network's odds; it takes no new loans, and posts and forecasts
nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.forum import Post
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, LOAN_RATES, MONTH
from pilotage.systems.societies.stock_agent.env.market import Market
from pilotage.systems.societies.stock_agent.env.order_book import Side
from pilotage.systems.societies.stock_agent.env.traders import ScriptedTraders, Style
from pilotage.systems.societies.stock_agent.env.views import Borrowing, Forecast, View, Wish
from pilotage.systems.societies.stock_agent.trader_network import FastTrader, TraderNetwork

Kind = Literal["value", "trend", "learned"]
SIDES: tuple[Side, ...] = ("buy", "sell")
SIZES = (0.05, 0.2)
"""Of an order, in parts of what the trader owns, debts not taken off."""
OFFERS = (0.01, -0.005)
"""By how much a bid lies above the last price, and an ask below it: at once for a worse price, or wait for a better."""
ORDERS = tuple((side, size, offer) for side in SIDES for size in SIZES for offer in OFFERS)
"""K = 8 orders in each stock."""
DUE_SOON = 10
"""Days ahead for which repayments are seen."""
LEAST = 0.1
"""Net wealth counts as at least this part of the opening wealth, so that its logarithm exists."""
PER_STOCK, COMMON = 10, 7
FEATURES = 2 * PER_STOCK + COMMON
"""F: of a stock, the mean of the others' and what has no stock."""


@dataclass(frozen=True)
class Turn:
    """What a learned trader saw and did once; for training."""

    trader: int
    seen: np.ndarray
    """[S, F]."""
    allowed: np.ndarray
    """[S·K]."""
    choice: int
    """0: hold; 1 + stock · K + number of the order."""
    wealth: float
    """Logarithm of net wealth over opening wealth, at the last prices, see `log_wealth`."""


class LearnedTraders:
    """N traders, some of whom a network plays and the others are scripted."""

    scripted = True
    exhausted = ""

    def __init__(self, network: TraderNetwork, kinds: Sequence[Kind], *, turns: list[Turn] | None = None) -> None:
        """kinds: [N]; turns: is given what learned traders see and do. Raises UsageError for a network that was made
        for other features or orders."""
        if (network.features, network.orders) != (FEATURES, len(ORDERS)):
            raise UsageError(
                f"the network reads {network.features} features and knows {network.orders} orders; there are "
                f"{FEATURES} and {len(ORDERS)}: train it anew"
            )
        self.styles = tuple(kinds)
        self.counts = Counter[str]()
        self.turns = turns
        self._learned = np.array([kind == "learned" for kind in kinds])
        others: list[Style] = [kind if kind != "learned" else "value" for kind in kinds]
        self._others = ScriptedTraders(others)
        self._policy: FastTrader = network.fast()

    def borrow(self, view: View) -> list[Borrowing | None]:
        wishes = self._others.borrow(view)
        return [None if learned else wish for learned, wish in zip(self._learned, wishes, strict=True)]

    def open_session(self, view: View) -> None:
        self._others.open_session(view)
        chance = np.random.default_rng((view.seed, 7, view.day, view.session))
        self._chance = chance.random(len(self.styles))
        self._moves = _moves(view)
        self._owed = view.exchange.ledger.owed().tolist()
        self._due = _due(view)

    def order(self, view: View, trader: int) -> Wish | None:
        if not self._learned[trader]:
            return self._others.order(view, trader)
        account = _Account.of(view, trader, self._owed[trader])
        seen = observe(view, self._moves, account, self._due.get(trader, (0, math.inf)))
        allowed, wishes = orders(view, account)
        odds = self._policy.probabilities(seen, allowed)
        choice = int(min(np.searchsorted(odds.cumsum(), self._chance[trader], side="right"), len(odds) - 1))
        if choice and not allowed[choice - 1]:  # beyond the last odds by rounding
            choice = 0
        if self.turns is not None:
            wealth = log_wealth(account.owned - account.owed, int(view.population.wealth[trader]))
            self.turns.append(Turn(trader, seen, allowed, choice, wealth))
        return wishes[choice - 1] if choice else None

    def foresee(self, view: View) -> list[Forecast | None]:
        found = self._others.foresee(view)
        return [None if learned else one for learned, one in zip(self._learned, found, strict=True)]

    def post(self, view: View) -> list[Post]:
        return [post for post in self._others.post(view) if not self._learned[post.trader]]

    def state_dict(self) -> dict[str, Any]:
        return {}  # whatever is drawn depends on the seed and the day alone

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


# ---- what they see ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Account:
    """A trader's own, in cents and shares."""

    cash: int
    """Free."""
    owned: int
    """Cash and shares, set aside or not, at the last prices."""
    owed: int
    free: list[int]
    """[S] shares."""
    held: list[int]
    """[S] shares, those set aside included."""

    @classmethod
    def of(cls, view: View, trader: int, owed: int) -> _Account:
        ledger = view.exchange.ledger
        free = ledger.shares[trader].tolist()
        held = [a + b for a, b in zip(free, ledger.shares_aside[trader].tolist(), strict=True)]
        cash = int(ledger.cash[trader])
        value = sum(amount * price for amount, price in zip(held, view.prices, strict=True))
        return cls(cash, cash + int(ledger.cash_aside[trader]) + value, owed, free, held)


def log_wealth(net: float, opening: int) -> float:
    """log(max(net wealth, LEAST · opening wealth) / opening wealth): net wealth of a debtor may be 0 or less."""
    return math.log(max(net / opening, LEAST)) if opening else 0.0


def wealth_changes(market: Market, kind: Kind = "learned") -> np.ndarray:
    """Change of log wealth from before the first day to the last close, of all of a kind in a market of
    `LearnedTraders`."""
    population, last, traders = market.population, market.record.wealth[-1], market.traders
    assert isinstance(traders, LearnedTraders)
    return np.array(
        [
            log_wealth(last[trader], int(population.wealth[trader]))
            - log_wealth(int(population.wealth[trader] - population.debt[trader]), int(population.wealth[trader]))
            for trader, style in enumerate(traders.styles)
            if style == kind
        ]
    )


def _moves(view: View) -> np.ndarray:
    """[S, 5] what is the same for all traders in a session: distance of the valuation, returns since yesterday, over 5
    and 20 days, mean tone of the posts."""
    prices, closes = np.array(view.prices, float), view.closes
    value = np.array([firm.value for firm in view.firms])

    def since(days: int) -> np.ndarray:
        return np.log(prices / np.array(closes[max(0, len(closes) - days)], float))

    tone = view.morning.mean(len(prices))
    columns = [5 * np.log(value / prices), 20 * since(1), 10 * since(5), 5 * since(20), tone]
    return np.clip(np.stack(columns, 1), -3, 3)


def _due(view: View) -> dict[int, tuple[int, float]]:
    """By trader: cents of principal that are due soon, and days to the next repayment."""
    found: dict[int, tuple[int, float]] = {}
    for loan in view.exchange.ledger.loans:
        soon, days = found.get(loan.trader, (0, math.inf))
        left = loan.due - view.day
        found[loan.trader] = (soon + (loan.principal if left <= DUE_SOON else 0), min(days, left))
    return found


def observe(view: View, moves: np.ndarray, account: _Account, due: tuple[int, float]) -> np.ndarray:
    """[S, F] float32, each of the order of 1. moves: `_moves`; due: cents due soon and days to a repayment."""
    owned = max(account.owned, 1)
    rows = []
    for stock, price in enumerate(view.prices):
        book = view.exchange.books[stock]
        ask, bid = book.best("sell"), book.best("buy")
        bids, asks = book.open["buy"], book.open["sell"]
        rows.append(
            (
                0.0 if ask is None else _clipped(50 * math.log(ask / price)),
                0.0 if bid is None else _clipped(50 * math.log(bid / price)),
                (bids - asks) / (bids + asks) if bids + asks else 0.0,
                2 * account.held[stock] * price / owned - 1,
                (account.held[stock] - account.free[stock]) * price / owned,
            )
        )
    soon, days = due
    common = (
        2 * account.cash / owned - 1,
        min(account.owed / owned, 2.0),
        min(soon / owned, 2.0),
        min(days, LOAN_DAYS[-1]) / LOAN_DAYS[-1],
        (view.day % MONTH) / MONTH,
        view.sentiment,
        10 * (view.rates[0] / LOAN_RATES[0] - 1),
    )
    own = np.concatenate([moves, np.array(rows)], 1)
    many = len(own)
    others = (own.sum(0) - own) / max(many - 1, 1)
    return np.concatenate([own, others, np.broadcast_to(common, (many, COMMON))], 1).astype(np.float32)


def _clipped(number: float) -> float:
    return min(max(number, -3.0), 3.0)


# ---- what they can do ------------------------------------------------------------------------------------------------


def orders(view: View, account: _Account) -> tuple[np.ndarray, list[Wish]]:
    """[S·K] which orders the trader can pay for, and all of them. The last free shares are sold in one order, however
    small they are."""
    wishes, allowed = [], []
    for stock, price in enumerate(view.prices):
        for side, size, offer in ORDERS:
            if side == "buy":
                limit = max(1, round(price * (1 + offer)))
                amount = int(min(size * account.owned, account.cash) // limit)
            else:
                limit = max(1, round(price * (1 - offer)))
                amount = min(int(size * account.owned // limit) + 1, account.free[stock])
            wishes.append(Wish(stock, side, amount, limit))
            allowed.append(amount > 0)
    return np.array(allowed), wishes
