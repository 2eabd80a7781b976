"""Who trades: characters, what each begins with, and the debt that some of it is owed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, MONTH, Ledger

CHARACTERS = ("conservative", "aggressive", "balanced", "growth-oriented")
LEAST, MOST = 1e5, 5e6
"""Dollars that a trader owns at the beginning, shares at the start prices and debts not taken off."""


@dataclass(frozen=True)
class Population:
    """N traders at the beginning."""

    character: np.ndarray
    """[N] places in `CHARACTERS`."""
    cash: np.ndarray
    """[N] cents."""
    shares: np.ndarray
    """[N, S]."""
    debt: np.ndarray
    """[N] cents of an opening loan, 0: none."""
    kind: np.ndarray
    """[N] its type."""
    due: np.ndarray
    """[N] its day of repayment: 22, 44, …."""
    wealth: np.ndarray
    """[N] cents at the start prices, debts not taken off; what may be borrowed in all."""

    def ledger(self, rates: Sequence[int]) -> Ledger:
        """Accounts and opening loans, at these rates in millionths."""
        ledger = Ledger(self.cash, self.shares)
        for trader in np.flatnonzero(self.debt):
            kind = int(self.kind[trader])
            ledger.open_loan(int(trader), kind, int(self.debt[trader]), rates[kind], int(self.due[trader]))
        return ledger


def draw_population(traders: int, prices: Sequence[int], days: int, seed: int, scale: float = 1.0) -> Population:
    """Characters with equal odds; shares of each stock from 0 to what 5 million buy, cash and debt to 5 million, drawn
    again until the trader owns 0.1 to 5 million and owes no more than it owns.

    prices: [S] cents at the start; days: repayment days lie in them (the first is day 22); scale: of all dollars here,
    for scenarios whose prices are scaled."""
    if traders < 2 or days < 1 or scale <= 0:
        raise UsageError(f"a market needs 2 traders, a day and a scale above 0, got {traders}, {days} and {scale}")
    generator = np.random.default_rng((seed, 0))
    price = np.array(prices, np.int64)
    most = 100 * MOST * scale
    character = generator.integers(0, len(CHARACTERS), traders)
    rows = [_draw(generator, price, most) for _ in range(traders)]
    months = max(1, days // MONTH)
    return Population(
        character=character,
        cash=np.array([row[0] for row in rows], np.int64),
        shares=np.array([row[1] for row in rows], np.int64),
        debt=np.array([row[2] for row in rows], np.int64),
        kind=generator.integers(0, len(LOAN_DAYS), traders),
        due=MONTH * generator.integers(1, months + 1, traders),
        wealth=np.array([row[3] for row in rows], np.int64),
    )


def _draw(generator: np.random.Generator, price: np.ndarray, most: float) -> tuple[int, list[int], int, int]:
    """Cash, shares, debt and wealth of one trader."""
    while True:
        # Shares by their value's share, so that scaled prices give the same numbers of shares.
        shares = [int(share * (most / stock)) for share, stock in zip(generator.random(len(price)), price, strict=True)]
        cash, debt = (int(share * most) for share in generator.random(2))
        wealth = cash + int(np.dot(shares, price))
        if most * LEAST / MOST <= wealth <= most and debt <= wealth:
            return cash, shares, debt, wealth
