"""Record of a market, as tables that grow by a day at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

TRADES = ("day", "session", "stock", "price", "amount", "buyer", "seller")
"""Columns of the trades; price in cents, buyer and seller N for the estate."""
LOANS = ("day", "trader", "kind", "principal", "rate", "due")
ORDERS = ("day", "session", "trader", "stock", "side", "amount", "price", "filled")
"""Columns of the orders that were placed; side 1 for buys and −1 for sells; filled: shares traded at once."""
DAILY = ("prices", "ideal", "volume", "depth", "cash", "shares", "owed", "wealth")


@dataclass
class MarketRecord:
    """All that is kept of the days so far, in whole numbers, money in cents."""

    trades: list[tuple[int, ...]] = field(default_factory=list)
    loans: list[tuple[int, ...]] = field(default_factory=list)
    orders: list[tuple[int, ...]] = field(default_factory=list)
    prices: list[list[list[int]]] = field(default_factory=list)
    """Prices at the end of each session, [day, session, stock]."""
    ideal: list[list[int]] = field(default_factory=list)
    """Valuations from all reports that are out, [day, stock]."""
    volume: list[list[list[int]]] = field(default_factory=list)
    """Shares traded, [day, session, stock]."""
    depth: list[list[list[int]]] = field(default_factory=list)
    """Shares that rest at the end of the day on the buyers' and the sellers' side, [day, stock, side]."""
    cash: list[list[int]] = field(default_factory=list)
    """Cash at the end of the day, [day, trader]; here and below assets set aside are included."""
    shares: list[list[list[int]]] = field(default_factory=list)
    """Shares at the end of the day, [day, trader, stock]."""
    owed: list[list[int]] = field(default_factory=list)
    """Outstanding principal, [day, trader]."""
    wealth: list[list[int]] = field(default_factory=list)
    """Net wealth at the closing prices, debts taken off, [day, trader]."""
    forecasts: list[int] = field(default_factory=lambda: [0, 0])
    """Number of forecast purchases and sales that were ordered the next day, and of all."""

    def table(self, name: str) -> np.ndarray:
        """Return the trades, loans, orders or a daily table as an array of whole numbers."""
        rows = getattr(self, name)
        columns = {"trades": TRADES, "loans": LOANS, "orders": ORDERS}
        if name in columns:
            return np.array(rows, np.int64).reshape(-1, len(columns[name]))
        return np.array(rows, np.int64)

    def column(self, name: str, column: str) -> np.ndarray:
        """Return a column of the trades, loans or orders."""
        columns: Mapping[str, Sequence[str]] = {"trades": TRADES, "loans": LOANS, "orders": ORDERS}
        return self.table(name)[:, columns[name].index(column)]

    def closes(self, start: Sequence[int]) -> np.ndarray:
        """Return closing prices in cents, the start prices first, [day + 1, stock]."""
        return np.array([start, *(day[-1] for day in self.prices)], np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Return all tables as tensors."""
        tables: dict[str, Any] = {
            name: torch.from_numpy(self.table(name).copy()) for name in ("trades", "loans", "orders", *DAILY)
        }
        return {**tables, "forecasts": list(self.forecasts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in ("trades", "loans", "orders"):
            table: Tensor = state[name]
            setattr(self, name, [tuple(row) for row in table.tolist()])
        for name in DAILY:
            setattr(self, name, state[name].tolist())
        self.forecasts = [int(number) for number in state["forecasts"]]
