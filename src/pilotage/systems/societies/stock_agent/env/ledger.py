"""Ledger of cash, shares, assets set aside for resting orders, and loans, in whole cents and shares.

Accounts 0 to N − 1 are the traders'. The last one, N, is the estate's: it takes shares that are sold by force at the
last price and the assets of bankrupt traders, so that no share is lost. The bank that lends is outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.order_book import Order, Side, Trade

MONTH = 22
"""Number of trading days. Interest is due on days 22, 44, …."""
MILLION = 1_000_000
LOAN_DAYS = (MONTH, 2 * MONTH, 3 * MONTH)
"""Days to maturity of the three types of loan."""
LOAN_RATES = (27_000, 30_000, 33_000)
"""Rates of the three types in millionths, so that interest is computed in whole numbers: 27 000 is 2.7 %."""

Flow = Literal["loans", "repayments", "interest", "exits"]
FLOWS: tuple[Flow, ...] = ("loans", "repayments", "interest", "exits")
"""The only ways in which cash comes into the market (positive) or leaves it (negative)."""


@dataclass
class Loan:
    """A debt of a trader to the bank."""

    trader: int
    kind: int
    """Type of the loan: 0, 1 or 2, place in `LOAN_DAYS`."""
    principal: int
    """Principal in cents."""
    rate: int
    """Rate in millionths at which the loan was granted."""
    due: int
    """Day of repayment."""


class LedgerBroken(AssertionError):  # noqa: N818 - its state
    """Shares or cash were created or lost: an error of the program, not of its user."""


class Ledger:
    """Accounts of N traders and the estate in S stocks."""

    def __init__(self, cash: Sequence[int] | np.ndarray, shares: Sequence[Sequence[int]] | np.ndarray) -> None:
        """Create accounts with cash in cents, [trader], and shares, [trader, stock].

        Raises UsageError for shapes that do not fit and for fractional or negative amounts.
        """
        given_cash, given_shares = np.asarray(cash), np.asarray(shares)
        if given_cash.ndim != 1 or given_shares.shape[:1] != given_cash.shape or given_shares.ndim != 2:
            raise UsageError(f"expected cash [N] and shares [N, S], got {given_cash.shape} and {given_shares.shape}")
        for name, given in (("cash", given_cash), ("shares", given_shares)):
            if not np.issubdtype(given.dtype, np.integer) or (given < 0).any():
                raise UsageError(f"{name} are whole numbers of 0 or above, in cents and in shares")
        traders, stocks = given_shares.shape
        self.cash = np.append(given_cash, 0).astype(np.int64)
        """Free cents, [account]; below 0 only between a payment and `settle_insolvent`, and for the estate."""
        self.shares = np.concatenate([given_shares, np.zeros((1, stocks), np.int64)]).astype(np.int64)
        """Free shares, [account, stock]."""
        self.cash_aside = np.zeros(traders + 1, np.int64)
        """Cents set aside for resting bids, [account]."""
        self.shares_aside = np.zeros((traders + 1, stocks), np.int64)
        """Shares set aside for resting asks, [account, stock]."""
        self.forced = np.zeros((traders + 1, stocks), np.int64)
        """Shares moved by forced sales so far, [account, stock]: negative for traders, positive for the estate."""
        self.loans: list[Loan] = []
        self.active = np.ones(traders, bool)
        """Whether a trader has not left the market, [trader]."""
        self.flows: dict[Flow, int] = dict.fromkeys(FLOWS, 0)
        """Cents that came into the market since the beginning, by flow."""
        self.opening_cash = int(self.cash.sum())
        self.opening_shares = self.shares.sum(0)

    @property
    def estate(self) -> int:
        """Return the number of the estate's account."""
        return len(self.active)

    # ---- orders ------------------------------------------------------------------------------------------------------

    def affords(self, trader: int, stock: int, side: Side, amount: int, price: int) -> str:
        """Return why a trader cannot place this order, in words; empty when it can."""
        if side == "buy":
            free, needed, what = int(self.cash[trader]), amount * price, "free cash in cents"
        else:
            free, needed, what = int(self.shares[trader, stock]), amount, "free shares"
        return "" if needed <= free else f"the order needs {needed} and the {what} are {free}"

    def set_aside(self, trader: int, stock: int, side: Side, amount: int, price: int) -> None:
        """Set aside what an order needs. Raises UsageError when the trader cannot afford it."""
        reason = self.affords(trader, stock, side, amount, price)
        if reason:
            raise UsageError(reason)
        self._move_aside(trader, stock, side, amount, price)

    def give_back(self, stock: int, order: Order) -> None:
        """Give back what was set aside for an order that was removed from the book."""
        self._move_aside(order.trader, stock, order.side, -order.amount, order.price)

    def settle(self, stock: int, trade: Trade) -> None:
        """Move shares to the buyer, cash to the seller, and the excess of the limit over the price to the buyer."""
        value = trade.amount * trade.price
        self.cash_aside[trade.buyer] -= trade.amount * trade.bought_at
        self.cash[trade.buyer] += trade.amount * (trade.bought_at - trade.price)
        self.cash[trade.seller] += value
        self.shares_aside[trade.seller, stock] -= trade.amount
        self.shares[trade.buyer, stock] += trade.amount

    def _move_aside(self, trader: int, stock: int, side: Side, amount: int, price: int) -> None:
        if side == "buy":
            self.cash[trader] -= amount * price
            self.cash_aside[trader] += amount * price
        else:
            self.shares[trader, stock] -= amount
            self.shares_aside[trader, stock] += amount

    # ---- loans -------------------------------------------------------------------------------------------------------

    def owed(self) -> np.ndarray:
        """Return the outstanding principal in cents, [trader]."""
        owed = np.zeros(len(self.active), np.int64)
        for loan in self.loans:
            owed[loan.trader] += loan.principal
        return owed

    def open_loan(self, trader: int, kind: int, principal: int, rate: int, due: int) -> Loan:
        """Open a debt whose cash the trader already holds. Raises UsageError for an invalid type or principal.

        Args:
            trader: number of the account.
            kind: type of the loan, 0, 1 or 2.
            principal: cents.
            rate: millionths.
            due: day of repayment.
        """
        if kind not in range(len(LOAN_DAYS)):
            raise UsageError(f"a loan's type is 0, 1 or 2, got {kind!r}")
        if isinstance(principal, bool) or not isinstance(principal, int | np.integer) or principal < 1 or rate < 0:
            raise UsageError(
                f"a loan needs whole cents above 0 and a rate that is not negative, got {principal}, {rate}"
            )
        loan = Loan(trader, kind, int(principal), rate, due)
        self.loans.append(loan)
        return loan

    def borrow(self, trader: int, kind: int, principal: int, rate: int, day: int) -> Loan:
        """Grant a loan, which is paid out at once and is due after the days of its type.

        Args:
            trader: number of the account.
            kind: type of the loan, 0, 1 or 2.
            principal: cents.
            rate: millionths.
            day: present day.
        """
        loan = self.open_loan(trader, kind, principal, rate, day)
        loan.due = day + LOAN_DAYS[kind]
        self.cash[trader] += loan.principal
        self.flows["loans"] += loan.principal
        return loan

    def repay(self, day: int) -> int:
        """Repay loans that are due, principal · (1 + rate); return the cents paid. Cash may fall below 0."""
        paid = 0
        for loan in [loan for loan in self.loans if loan.due <= day]:
            amount = loan.principal + _share(loan.principal * loan.rate, MILLION)
            self.cash[loan.trader] -= amount
            paid += amount
            self.loans.remove(loan)
        self.flows["repayments"] -= paid
        return paid

    def pay_interest(self, day: int) -> int:
        """Pay principal · rate / 12 for every loan on days 22, 44, …; return the cents paid."""
        if day % MONTH:
            return 0
        paid = 0
        for loan in self.loans:
            amount = _share(loan.principal * loan.rate, 12 * MILLION)
            self.cash[loan.trader] -= amount
            paid += amount
        self.flows["interest"] -= paid
        return paid

    def settle_insolvent(self, prices: Sequence[int]) -> list[int]:
        """Settle the accounts of traders with negative cash; return the traders who left. No order may rest.

        Such a trader sells to the estate at the last prices in cents, the first stock first, no more shares than
        needed. A trader whose cash is still negative leaves, and what it owes is written off.
        """
        left = []
        for trader in np.flatnonzero((self.cash[:-1] < 0) & self.active):
            for stock, price in enumerate(prices):
                if self.cash[trader] >= 0:
                    break
                amount = min(int(self.shares[trader, stock]), -(int(self.cash[trader]) // price))
                for account, sign in ((trader, -1), (self.estate, 1)):
                    self.shares[account, stock] += sign * amount
                    self.forced[account, stock] += sign * amount
                self.cash[trader] += amount * price
                self.cash[self.estate] -= amount * price
            if self.cash[trader] < 0:
                left.append(int(trader))
                self.flows["exits"] -= int(self.cash[trader])
                self.cash[trader] = 0
                self.active[trader] = False
                self.loans = [loan for loan in self.loans if loan.trader != trader]
        return left

    # ---- what there is -----------------------------------------------------------------------------------------------

    def wealth(self, prices: Sequence[int]) -> np.ndarray:
        """Return net wealth in cents at these prices, [trader], debts taken off and assets set aside included."""
        held = (self.shares + self.shares_aside)[:-1] @ np.asarray(prices, np.int64)
        return (self.cash + self.cash_aside)[:-1] + held - self.owed()

    def check(self) -> None:
        """Check the sums of all accounts.

        Raises LedgerBroken unless shares of each stock are what they were, cash has changed by loans, repayments,
        interest and exits alone, and only the estate's cash is negative.
        """
        shares = (self.shares + self.shares_aside).sum(0)
        if (shares != self.opening_shares).any():
            raise LedgerBroken(f"shares were {self.opening_shares.tolist()} and are {shares.tolist()}")
        cash, expected = int((self.cash + self.cash_aside).sum()), self.opening_cash + sum(self.flows.values())
        if cash != expected:
            raise LedgerBroken(f"cash should be {expected} cents and is {cash}; flows: {self.flows}")
        least = min(map(int, (self.cash[:-1].min(), self.shares.min(), self.cash_aside.min(), self.shares_aside.min())))
        if least < 0:
            raise LedgerBroken(f"an account holds {least}")

    def state_dict(self) -> dict[str, Any]:
        """Return all accounts as plain lists."""
        return {
            "cash": self.cash.tolist(),
            "shares": self.shares.tolist(),
            "cash_aside": self.cash_aside.tolist(),
            "shares_aside": self.shares_aside.tolist(),
            "forced": self.forced.tolist(),
            "loans": [[loan.trader, loan.kind, loan.principal, loan.rate, loan.due] for loan in self.loans],
            "active": self.active.tolist(),
            "flows": dict(self.flows),
            "opening_cash": self.opening_cash,
            "opening_shares": self.opening_shares.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in ("cash", "shares", "cash_aside", "shares_aside", "forced", "opening_shares"):
            setattr(self, name, np.array(state[name], np.int64))
        self.active = np.array(state["active"], bool)
        self.loans = [Loan(*map(int, loan)) for loan in state["loans"]]
        self.flows = {flow: int(state["flows"][flow]) for flow in FLOWS}
        self.opening_cash = int(state["opening_cash"])


def _share(numerator: int, denominator: int) -> int:
    """Return the quotient, rounded to the nearest whole number, half a cent up."""
    return (2 * numerator + denominator) // (2 * denominator)
