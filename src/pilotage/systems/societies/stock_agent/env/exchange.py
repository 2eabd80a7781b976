"""Exchange: checks an order against the ledger, sets aside what it needs, matches it and settles the trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.ledger import Ledger
from pilotage.systems.societies.stock_agent.env.order_book import OrderBook, OrderOutcome, Rule, Side, check_order


class StockExchange:
    """One book per stock, one ledger, and the last prices."""

    def __init__(self, ledger: Ledger, prices: Sequence[int], rule: Rule = "continuous") -> None:
        """Create an exchange with opening prices in cents, above 0, [stock]."""
        if len(prices) != ledger.shares.shape[1] or any(price < 1 for price in prices):
            raise UsageError(f"expected {ledger.shares.shape[1]} prices in cents above 0, got {list(prices)}")
        self.ledger = ledger
        self.books = [OrderBook(rule) for _ in prices]
        self.prices = list(prices)
        """Last prices in cents, [stock]; they change at the end of a session to the price of its last trade."""
        self._traded: list[int | None] = [None] * len(prices)

    def place(self, trader: int, stock: int, side: Side, amount: int, price: int) -> OrderOutcome:
        """Place an order, which is matched at once.

        Args:
            trader: number of the account.
            stock: number of the stock.
            side: buy or sell.
            amount: shares.
            price: limit in cents.

        Raises:
            UsageError: for an order that the trader cannot afford or that is not valid; then nothing has changed.
        """
        if stock not in range(len(self.books)):
            raise UsageError(f"a stock is a number from 0 to {len(self.books) - 1}, got {stock!r}")
        if trader < self.ledger.estate and not self.ledger.active[trader]:
            raise UsageError(f"trader {trader} has left the market")
        check_order(side, amount, price)
        reason = self.ledger.affords(trader, stock, side, amount, price)
        if reason:
            raise UsageError(reason)
        outcome = self.books[stock].submit(trader, side, amount, price)
        self.ledger.set_aside(trader, stock, side, amount, price)
        for trade in outcome.trades:
            self.ledger.settle(stock, trade)
            self._traded[stock] = trade.price
        for order in outcome.withdrawn:
            self.ledger.give_back(stock, order)
        return outcome

    def end_session(self) -> None:
        """Set prices to those of the session's last trades, unchanged without trades, and check the ledger."""
        self.prices = [old if new is None else new for old, new in zip(self.prices, self._traded, strict=True)]
        self._traded = [None] * len(self.prices)
        self.ledger.check()

    def clear(self) -> int:
        """Remove all resting orders and give back what was set aside for them; return their number."""
        count = 0
        for stock, book in enumerate(self.books):
            for order in book.clear():
                self.ledger.give_back(stock, order)
                count += 1
        return count

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two sessions."""
        return {
            "prices": list(self.prices),
            "books": [book.state_dict() for book in self.books],
            "ledger": self.ledger.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.prices = [int(price) for price in state["prices"]]
        for book, kept in zip(self.books, state["books"], strict=True):
            book.load_state_dict(kept)
        self.ledger.load_state_dict(state["ledger"])
