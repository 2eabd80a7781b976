"""The order book of one stock: a continuous double auction by price and time, or matching of equal prices only.

Amounts are whole shares and prices whole cents. The book knows no cash and no holdings: `Ledger` sets aside what an
order needs and settles the trades.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pilotage.core.errors import UsageError

Side = Literal["buy", "sell"]
Rule = Literal["continuous", "exact"]
SIDES: tuple[str, ...] = get_args(Side)
RULES: tuple[str, ...] = get_args(Rule)


@dataclass
class Order:
    """Limit order, or the rest of it."""

    number: int
    """Number by time of arrival, from 0."""
    trader: int
    side: Side
    amount: int
    """Number of shares that are still open."""
    price: int
    """Limit in cents."""


@dataclass(frozen=True)
class Trade:
    """An exchange of `amount` shares for `amount` × `price` cents."""

    buyer: int
    seller: int
    amount: int
    price: int
    """The resting order's limit, in cents."""
    bought_at: int
    """The buyer's limit in cents, which was set aside per share; at or above `price`."""
    maker: int
    """Number of the resting order."""
    taker: int
    """Number of the arriving order."""


@dataclass(frozen=True)
class OrderOutcome:
    """Result of an arriving order."""

    number: int
    trades: tuple[Trade, ...]
    resting: int
    """Number of its shares that rest in the book now."""
    withdrawn: tuple[Order, ...]
    """The trader's own resting orders that were removed, so that no trader trades with itself."""


def check_order(side: object, amount: object, price: object) -> None:
    """Check an order. Raises UsageError for another side, or an amount or price that is no whole number above 0."""
    if side not in SIDES:
        raise UsageError(f"an order's side is {' or '.join(SIDES)}, got {side!r}")
    for name, value in (("amount in shares", amount), ("price in cents", price)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"an order's {name} is a whole number above 0, got {value!r}")


class OrderBook:
    """Order book of one stock.

    The rule `continuous` trades as soon as a bid reaches an ask, at the resting order's price, the best price first and
    among equal prices the oldest order first; `exact` trades only orders of equal price, the oldest first.
    """

    def __init__(self, rule: Rule = "continuous") -> None:
        if rule not in RULES:
            raise UsageError(f"a book matches by {' or '.join(RULES)}, got {rule!r}")
        self.rule = rule
        self.next_number = 0
        self._levels: dict[str, dict[int, deque[Order]]] = {side: {} for side in SIDES}
        self._prices: dict[str, list[int]] = {side: [] for side in SIDES}  # ascending, those with orders
        self._orders: dict[int, Order] = {}
        self.open = dict.fromkeys(SIDES, 0)
        """Number of shares that rest on each side."""

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, number: object) -> bool:
        """Return whether the order of this number rests here."""
        return number in self._orders

    def __iter__(self) -> Iterator[Order]:
        """Iterate over the resting orders, the oldest first."""
        return iter(sorted(self._orders.values(), key=lambda order: order.number))

    def submit(self, trader: int, side: Side, amount: int, price: int) -> OrderOutcome:
        """Match an order with those of the other side; what is left rests.

        Args:
            trader: number of the account.
            side: buy or sell.
            amount: shares.
            price: limit in cents.

        Raises:
            UsageError: for another side, or an amount or price that is no whole number above 0.
        """
        check_order(side, amount, price)
        order = Order(self.next_number, trader, side, amount, price)
        self.next_number += 1
        trades: list[Trade] = []
        withdrawn: list[Order] = []
        while order.amount and (resting := self._facing(order)) is not None:
            if resting.trader == trader:
                withdrawn.append(self._take_out(resting))
                continue
            trades.append(self._trade(order, resting))
        if order.amount:
            self._rest(order)
        return OrderOutcome(order.number, tuple(trades), order.amount, tuple(withdrawn))

    def cancel(self, number: int) -> Order:
        """Remove and return a resting order. Raises UsageError when none has this number."""
        if number not in self._orders:
            raise UsageError(f"no order {number} rests in the book: it was filled, cancelled, or never came")
        return self._take_out(self._orders[number])

    def clear(self) -> list[Order]:
        """Remove and return all orders, the oldest first."""
        orders = list(self)
        for side in SIDES:
            self._levels[side].clear()
            self._prices[side].clear()
            self.open[side] = 0
        self._orders.clear()
        return orders

    def best(self, side: Side) -> int | None:
        """Return the highest bid (`buy`) or lowest ask (`sell`) in cents; None for an empty side."""
        prices = self._prices[side]
        if not prices:
            return None
        return prices[-1] if side == "buy" else prices[0]

    def depth(self, side: Side, levels: int | None = None) -> list[tuple[int, int]]:
        """Return (price in cents, shares) from the best price on; all levels when None."""
        prices = self._prices[side]
        near = prices[::-1] if side == "buy" else prices
        return [(price, sum(order.amount for order in self._levels[side][price])) for price in near[:levels]]

    def state_dict(self) -> dict[str, Any]:
        """Return the resting orders and the next number as plain lists."""
        orders = [[order.number, order.trader, order.side, order.amount, order.price] for order in self]
        return {"next_number": self.next_number, "orders": orders}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.clear()
        self.next_number = int(state["next_number"])
        for number, trader, side, amount, price in state["orders"]:
            self._rest(Order(int(number), int(trader), side, int(amount), int(price)))

    def _facing(self, order: Order) -> Order | None:
        """Return the resting order that trades with this one next."""
        other: Side = "sell" if order.side == "buy" else "buy"
        if self.rule == "exact":
            price: int | None = order.price if order.price in self._levels[other] else None
        else:
            price = self.best(other)
            if price is not None and (price > order.price if order.side == "buy" else price < order.price):
                price = None
        return None if price is None else self._levels[other][price][0]

    def _trade(self, order: Order, resting: Order) -> Trade:
        amount = min(order.amount, resting.amount)
        order.amount -= amount
        resting.amount -= amount
        self.open[resting.side] -= amount
        if not resting.amount:
            self._take_out(resting)
        bought, sold = (order, resting) if order.side == "buy" else (resting, order)
        return Trade(
            bought.trader, sold.trader, amount, resting.price, bought.price, maker=resting.number, taker=order.number
        )

    def _rest(self, order: Order) -> None:
        levels = self._levels[order.side]
        if order.price not in levels:
            levels[order.price] = deque()
            insort(self._prices[order.side], order.price)
        levels[order.price].append(order)
        self.open[order.side] += order.amount
        self._orders[order.number] = order

    def _take_out(self, order: Order) -> Order:
        level = self._levels[order.side][order.price]
        level.remove(order)
        self.open[order.side] -= order.amount
        if not level:
            del self._levels[order.side][order.price]
            prices = self._prices[order.side]
            del prices[bisect_left(prices, order.price)]
        return self._orders.pop(order.number)
