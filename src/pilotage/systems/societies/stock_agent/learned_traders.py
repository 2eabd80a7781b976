"""Learned traders in a market: their observations, orders and turns.

Observations are relative (returns, distances, shares of wealth, days), so that the unit of money does not matter. A
learned trader samples its order from the network's probabilities; it takes no new loans, posts nothing and forecasts
nothing.
"""

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
from pilotage.systems.societies.stock_agent.env.views import Borrowing, MarketView, OrderIntent, TraderForecast
from pilotage.systems.societies.stock_agent.model import NumpyPolicy, TraderNetwork

Kind = Literal["value", "trend", "learned"]
SIDES: tuple[Side, ...] = ("buy", "sell")
SIZES = (0.05, 0.2)
"""Sizes of an order as shares of the trader's wealth, debts not taken off."""
OFFERS = (0.01, -0.005)
"""Relative distance of a bid above the last price, and of an ask below it."""
ORDERS = tuple((side, size, offer) for side in SIDES for size in SIZES for offer in OFFERS)
"""Eight orders in each stock."""
DUE_SOON = 10
"""Number of days ahead for which repayments are observed."""
LEAST = 0.1
"""Lower bound of net wealth as a share of opening wealth, so that its logarithm exists."""
PER_STOCK, COMMON = 10, 7
FEATURES = 2 * PER_STOCK + COMMON
"""Number of features: of a stock, of the mean of the others, and of no stock."""


@dataclass(frozen=True)
class Turn:
    """Observation and choice of a learned trader in one turn, for training."""

    trader: int
    observed: np.ndarray
    """Observation, [stock, feature]."""
    allowed: np.ndarray
    """Orders that can be paid for, [stock · order]."""
    choice: int
    """0: hold; otherwise 1 + stock · 8 + number of the order."""
    wealth: float
    """Logarithm of net wealth over opening wealth at the last prices, see `log_wealth`."""


class LearnedTraders:
    """Traders of whom a network plays some; the others are scripted."""

    scripted = True
    exhausted = ""

    def __init__(self, network: TraderNetwork, kinds: Sequence[Kind], *, turns: list[Turn] | None = None) -> None:
        """Create the traders.

        Args:
            network: plays the learned traders.
            kinds: kind of each trader.
            turns: collects the turns of learned traders.

        Raises:
            UsageError: for a network that was made for other features or orders.
        """
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
        self._policy: NumpyPolicy = network.to_numpy()

    def borrow(self, view: MarketView) -> list[Borrowing | None]:
        """Return the scripted traders' loans."""
        loans = self._others.borrow(view)
        return [None if learned else loan for learned, loan in zip(self._learned, loans, strict=True)]

    def open_session(self, view: MarketView) -> None:
        """Compute the common features and draw the random numbers of a session."""
        self._others.open_session(view)
        chance = np.random.default_rng((view.seed, 7, view.day, view.session))
        self._chance = chance.random(len(self.styles))
        self._moves = _moves(view)
        self._owed = view.exchange.ledger.owed().tolist()
        self._due = _due(view)

    def order(self, view: MarketView, trader: int) -> OrderIntent | None:
        """Return the order of one trader's turn (None: hold)."""
        if not self._learned[trader]:
            return self._others.order(view, trader)
        account = _Account.of(view, trader, self._owed[trader])
        observed = observe(view, self._moves, account, self._due.get(trader, (0, math.inf)))
        allowed, intents = orders(view, account)
        odds = self._policy.probabilities(observed, allowed)
        choice = int(min(np.searchsorted(odds.cumsum(), self._chance[trader], side="right"), len(odds) - 1))
        if choice and not allowed[choice - 1]:  # beyond the last odds by rounding
            choice = 0
        if self.turns is not None:
            wealth = log_wealth(account.owned - account.owed, int(view.population.wealth[trader]))
            self.turns.append(Turn(trader, observed, allowed, choice, wealth))
        return intents[choice - 1] if choice else None

    def forecast(self, view: MarketView) -> list[TraderForecast | None]:
        """Return the scripted traders' forecasts."""
        found = self._others.forecast(view)
        return [None if learned else one for learned, one in zip(self._learned, found, strict=True)]

    def post(self, view: MarketView) -> list[Post]:
        """Return the scripted traders' posts."""
        return [post for post in self._others.post(view) if not self._learned[post.trader]]

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: all random numbers depend on the seed and the day."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


# ---- observations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Account:
    """Account of a trader, in cents and shares."""

    cash: int
    """Free cash."""
    owned: int
    """Cash and shares at the last prices, set aside or not."""
    owed: int
    free: list[int]
    """Free shares, [stock]."""
    held: list[int]
    """Shares, those set aside included, [stock]."""

    @classmethod
    def of(cls, view: MarketView, trader: int, owed: int) -> _Account:
        ledger = view.exchange.ledger
        free = ledger.shares[trader].tolist()
        held = [a + b for a, b in zip(free, ledger.shares_aside[trader].tolist(), strict=True)]
        cash = int(ledger.cash[trader])
        value = sum(amount * price for amount, price in zip(held, view.prices, strict=True))
        return cls(cash, cash + int(ledger.cash_aside[trader]) + value, owed, free, held)


def log_wealth(net: float, opening: int) -> float:
    """Return log(max(net wealth, LEAST · opening wealth) / opening wealth), since net wealth may be 0 or less."""
    return math.log(max(net / opening, LEAST)) if opening else 0.0


def wealth_changes(market: Market, kind: Kind = "learned") -> np.ndarray:
    """Return the change of log wealth from before the first day to the last close of all traders of a kind."""
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


def _moves(view: MarketView) -> np.ndarray:
    """Return the features that all traders share in a session, [stock, 5].

    They are the distance of the valuation, returns over 1, 5 and 20 days, and the mean tone of the posts.
    """
    prices, closes = np.array(view.prices, float), view.closes
    value = np.array([firm.value for firm in view.firms])

    def since(days: int) -> np.ndarray:
        return np.log(prices / np.array(closes[max(0, len(closes) - days)], float))

    tone = view.digest.mean(len(prices))
    columns = [5 * np.log(value / prices), 20 * since(1), 10 * since(5), 5 * since(20), tone]
    return np.clip(np.stack(columns, 1), -3, 3)


def _due(view: MarketView) -> dict[int, tuple[int, float]]:
    """Return, by trader, the cents of principal that are due soon, and the days to the next repayment."""
    found: dict[int, tuple[int, float]] = {}
    for loan in view.exchange.ledger.loans:
        soon, days = found.get(loan.trader, (0, math.inf))
        left = loan.due - view.day
        found[loan.trader] = (soon + (loan.principal if left <= DUE_SOON else 0), min(days, left))
    return found


def observe(view: MarketView, moves: np.ndarray, account: _Account, due: tuple[int, float]) -> np.ndarray:
    """Return a trader's observation, float32 [stock, feature], each of the order of 1.

    Args:
        view: the market.
        moves: features that all traders share, from `_moves`.
        account: the trader's account.
        due: cents due soon, and days to the next repayment.
    """
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


# ---- orders ----------------------------------------------------------------------------------------------------------


def orders(view: MarketView, account: _Account) -> tuple[np.ndarray, list[OrderIntent]]:
    """Return which orders the trader can pay for, [stock · order], and all orders.

    The last free shares are sold in one order, however small they are.
    """
    intents, allowed = [], []
    for stock, price in enumerate(view.prices):
        for side, size, offer in ORDERS:
            if side == "buy":
                limit = max(1, round(price * (1 + offer)))
                amount = int(min(size * account.owned, account.cash) // limit)
            else:
                limit = max(1, round(price * (1 - offer)))
                amount = min(int(size * account.owned // limit) + 1, account.free[stock])
            intents.append(OrderIntent(stock, side, amount, limit))
            allowed.append(amount > 0)
    return np.array(allowed), intents
