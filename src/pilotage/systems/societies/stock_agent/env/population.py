"""Population of traders: characters, opening accounts and debts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, MONTH, Ledger

CHARACTERS = ("conservative", "aggressive", "balanced", "growth-oriented")
LEAST, MOST = 1e5, 5e6
"""Range of opening wealth in dollars, with shares at the start prices and debts not taken off."""


@dataclass(frozen=True)
class TraderPopulation:
    """Traders with their opening accounts."""

    character: np.ndarray
    """Places in `CHARACTERS`, [trader]."""
    cash: np.ndarray
    """Cash in cents, [trader]."""
    shares: np.ndarray
    """Shares, [trader, stock]."""
    debt: np.ndarray
    """Opening loan in cents, 0: none, [trader]."""
    kind: np.ndarray
    """Type of the opening loan, [trader]."""
    due: np.ndarray
    """Day of repayment of the opening loan, 22, 44, …, [trader]."""
    wealth: np.ndarray
    """Wealth in cents at the start prices, debts not taken off, [trader]; the limit of all loans."""

    def ledger(self, rates: Sequence[int]) -> Ledger:
        """Create accounts with the opening loans at these rates in millionths."""
        ledger = Ledger(self.cash, self.shares)
        for trader in np.flatnonzero(self.debt):
            kind = int(self.kind[trader])
            ledger.open_loan(int(trader), kind, int(self.debt[trader]), rates[kind], int(self.due[trader]))
        return ledger


def draw_population(traders: int, prices: Sequence[int], days: int, seed: int) -> TraderPopulation:
    """Draw a population.

    Characters are equally likely. Shares of each stock, cash and debt are drawn up to 5 million dollars each, again
    until the trader owns 0.1 to 5 million and owes no more than it owns.

    Args:
        traders: number of traders, 2 or more.
        prices: start prices in cents, [stock].
        days: number of days in which repayments lie (the first is on day 22).
        seed: seed of the draws.
    """
    if traders < 2 or days < 1:
        raise UsageError(f"a market needs 2 traders and a day or more, got {traders} and {days}")
    generator = np.random.default_rng((seed, 0))
    price = np.array(prices, np.int64)
    most = 100 * MOST
    character = generator.integers(0, len(CHARACTERS), traders)
    rows = [_draw(generator, price, most) for _ in range(traders)]
    months = max(1, days // MONTH)
    return TraderPopulation(
        character=character,
        cash=np.array([row[0] for row in rows], np.int64),
        shares=np.array([row[1] for row in rows], np.int64),
        debt=np.array([row[2] for row in rows], np.int64),
        kind=generator.integers(0, len(LOAN_DAYS), traders),
        due=MONTH * generator.integers(1, months + 1, traders),
        wealth=np.array([row[3] for row in rows], np.int64),
    )


def _draw(generator: np.random.Generator, price: np.ndarray, most: float) -> tuple[int, list[int], int, int]:
    """Draw cash, shares, debt and wealth of one trader."""
    while True:
        shares = [int(share * (most / stock)) for share, stock in zip(generator.random(len(price)), price, strict=True)]
        cash, debt = (int(share * most) for share in generator.random(2))
        wealth = cash + int(np.dot(shares, price))
        if most * LEAST / MOST <= wealth <= most and debt <= wealth:
            return cash, shares, debt, wealth
