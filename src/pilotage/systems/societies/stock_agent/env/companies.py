"""Fictitious firms: their quarterly statements, and valuations of a share by discounted cash flow.

Figures are in millions of dollars a quarter. A valuation is compared with prices and shown to traders; it does not set
a price.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pilotage.core.errors import UsageError

HISTORY = 12
"""Number of quarters known before the first day."""
COLUMNS = ("revenue", "operating_costs", "depreciation", "capital_expenditure", "working_capital", "interest")
"""Columns of the statements; working_capital is its increase."""


@dataclass(frozen=True)
class Valuation:
    """Terms of the discounted cash flow, with a yearly WACC and CAPM."""

    risk_free: float = 0.027
    """Risk-free rate at the beginning; it moves with the rate of the shortest loan."""
    premium: float = 0.055
    """Market premium over the risk-free rate."""
    cost_of_debt: float = 0.045
    tax: float = 0.25
    years: int = 5
    """Number of years before the terminal value (n)."""
    terminal_growth: float = 0.02
    base_quarters: int = 2
    """Number of last quarters whose mean, times 4, is the cash flow from which growth begins."""

    def __post_init__(self) -> None:
        if not 0 <= self.tax < 1 or self.years < 1 or not 1 <= self.base_quarters <= HISTORY:
            raise UsageError(
                f"a valuation needs a tax in [0, 1), 1 year or more and 1 to {HISTORY} base quarters, got {self.tax}, "
                f"{self.years} and {self.base_quarters}"
            )


@dataclass(frozen=True)
class Company:
    """Fictitious firm with its statements and outlooks."""

    name: str
    story: str
    """Description that all traders know."""
    start_price: float
    """Start price in dollars."""
    shares: float
    """Millions of shares in circulation, of which the traders hold a part."""
    debt: float
    """Net debt in millions of dollars."""
    beta: float
    """Beta of the CAPM."""
    growth: tuple[float, ...]
    """Expected yearly growth of cash flow at the beginning, then after each report."""
    revenue: tuple[float, ...]
    """Revenue; like all columns 12 quarters that are known, then one for each report."""
    operating_costs: tuple[float, ...]
    depreciation: tuple[float, ...]
    capital_expenditure: tuple[float, ...]
    working_capital: tuple[float, ...]
    """Increase of working capital."""
    interest: tuple[float, ...]
    outlooks: tuple[str, ...]
    """Text of the firm with each report."""

    def __post_init__(self) -> None:
        quarters = HISTORY + self.reports
        for column in COLUMNS:
            if len(getattr(self, column)) != quarters:
                raise UsageError(
                    f"{self.name}: {column} has {len(getattr(self, column))} quarters; with {self.reports} outlooks it "
                    f"needs {HISTORY} + {self.reports}"
                )
        if len(self.growth) != self.reports + 1:
            raise UsageError(f"{self.name}: growth needs 1 + {self.reports} values, got {len(self.growth)}")
        if min(self.start_price, self.shares) <= 0 or self.debt < 0 or self.beta < 0:
            raise UsageError(f"{self.name}: start_price and shares are above 0, debt and beta not below")

    @property
    def reports(self) -> int:
        """Return the number of quarterly reports to come."""
        return len(self.outlooks)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Return the given columns and EBIT, each [quarter]."""
        given = {column: np.array(getattr(self, column)) for column in COLUMNS}
        given["ebit"] = given["revenue"] - given["operating_costs"] - given["depreciation"]
        return given

    def profit(self, tax: float) -> np.ndarray:
        """Return the profit after interest and tax, [quarter]."""
        return (self.columns["ebit"] - self.columns["interest"]) * (1 - tax)

    def free_cash_flow(self, tax: float) -> np.ndarray:
        """Return the free cash flow to the firm, [quarter].

        It is EBIT · (1 − tax) + depreciation − investment − increase of working capital.
        """
        columns = self.columns
        invested = columns["capital_expenditure"] + columns["working_capital"]
        return columns["ebit"] * (1 - tax) + columns["depreciation"] - invested

    def value(self, known: int, terms: Valuation, risk_free: float | None = None) -> float:
        """Return the valuation in dollars a share: V = Σ FCF_t / (1 + WACC)^t + TV / (1 + WACC)^n, less debt.

        K_e = risk_free + β · premium; debt weighs by its book value, equity by its start price, so that a valuation
        does not depend on the price with which it is compared. A share is worth at least a cent.

        Args:
            known: number of reports that are out.
            terms: terms of the valuation.
            risk_free: present risk-free rate; None: that of `terms`.

        Raises:
            UsageError: when WACC is not above the terminal growth.
        """
        if known not in range(self.reports + 1):
            raise UsageError(f"{self.name} has {self.reports} reports to come, so 0 to {self.reports} are known")
        equity = self.start_price * self.shares
        cost_of_equity = (terms.risk_free if risk_free is None else risk_free) + self.beta * terms.premium
        weight = self.debt / (self.debt + equity)
        wacc = (1 - weight) * cost_of_equity + weight * terms.cost_of_debt * (1 - terms.tax)
        if wacc <= terms.terminal_growth:
            raise UsageError(f"{self.name}: WACC is {wacc:.4f}, which must be above the terminal growth")
        last = HISTORY + known
        base = 4 * float(self.free_cash_flow(terms.tax)[last - terms.base_quarters : last].mean())
        years = np.arange(1, terms.years + 1)
        flows = base * (1 + self.growth[known]) ** years
        terminal = flows[-1] * (1 + terms.terminal_growth) / (wacc - terms.terminal_growth)
        value = float((flows / (1 + wacc) ** years).sum() + terminal / (1 + wacc) ** terms.years)
        return max((value - self.debt) / self.shares, 0.01)

    def surprised(self, report: int, surprise: float, tax: float) -> Company:
        """Return the firm with a profit (1 + surprise) times as high in one quarter, by lower costs.

        Text and expected growth stay, so that only the figure shows the surprise.

        Args:
            report: number of the report, from 0.
            surprise: relative change of the profit.
            tax: tax rate.
        """
        if report not in range(self.reports):
            raise UsageError(f"{self.name} has reports 0 to {self.reports - 1}, got {report}")
        quarter = HISTORY + report
        costs = list(self.operating_costs)
        costs[quarter] -= surprise * float(self.profit(tax)[quarter]) / (1 - tax)
        return replace(self, operating_costs=tuple(costs))

    def statement(self, quarter: int, tax: float) -> str:
        """Return one quarter as a line of text, in which quarters count from 1."""
        figures = {name.replace("_", " "): self.columns[name][quarter] for name in (*COLUMNS[:2], "ebit")}
        figures |= {"profit": self.profit(tax)[quarter], "free cash flow": self.free_cash_flow(tax)[quarter]}
        listed = ", ".join(f"{name} {float(value):.1f}" for name, value in figures.items())
        return f"quarter {quarter + 1}: {listed} (millions of dollars)"

    def history(self, tax: float) -> str:
        """Return the quarters known before the first day, a line each."""
        return "\n".join(self.statement(quarter, tax) for quarter in range(HISTORY))

    def report(self, number: int, tax: float) -> str:
        """Return a quarterly report (from 0) as text: figures, changes against the quarter before, and outlook."""
        quarter = HISTORY + number
        revenue, profit = self.columns["revenue"], self.profit(tax)
        changes = ", ".join(
            f"{name} {column[quarter] / column[quarter - 1] - 1:+.1%}"
            for name, column in (("revenue", revenue), ("profit", profit))
            if column[quarter - 1] > 0
        )
        against = f" Against the quarter before: {changes}." if changes else ""
        return f"{self.name}, {self.statement(quarter, tax)}.{against} {self.outlooks[number]}"
