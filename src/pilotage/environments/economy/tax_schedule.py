"""Piecewise linear income tax: marginal rates in percent over brackets, and the tax that follows from them.

A bracket reaches from its lower edge to the next one; the last has no upper end. The federal brackets and standard
deductions of the United States of 2013 to 2026 lie beside this file (public domain, extracted from Tax-Calculator
6.8.0, CC0).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from pilotage.core.errors import UsageError

STATUSES = ("single", "mjoint", "mseparate", "headhh", "widow")
"""Filing statuses in the tables: single, married jointly or separately, head of household, widow(er)."""


def check_edges(edges: Sequence[float] | Tensor) -> Tensor:
    """Return lower edges as float64 [bracket]. Raises UsageError unless they are finite, begin with 0 and rise."""
    checked = torch.as_tensor(edges, dtype=torch.float64)
    rises = checked.dim() == 1 and len(checked) > 0 and checked.isfinite().all() and (checked.diff() > 0).all()
    if not rises or checked[0] != 0:
        raise UsageError(
            f"lower edges of brackets must begin with 0 and rise, in dollars, got {checked.tolist()}; sort them"
        )
    return checked


def check_rates(rates: Sequence[float] | Tensor, brackets: int) -> Tensor:
    """Return marginal rates as floats [..., bracket]. Raises UsageError unless there is one of 0 to 100 per bracket."""
    checked = torch.as_tensor(rates)
    if not checked.is_floating_point():
        checked = checked.double()
    if checked.dim() == 0 or checked.shape[-1] != brackets:
        raise UsageError(f"expected one rate for each of {brackets} brackets, got the shape {list(checked.shape)}")
    if not ((checked >= 0) & (checked <= 100)).all():
        raise UsageError(f"marginal rates are in percent, 0 to 100, got {checked.tolist()}")
    return checked


def bracket_of(income: Tensor, edges: Tensor) -> Tensor:
    """Return the bracket, int64 [...] from 0, in which the next dollar of each income [...] is taxed.

    An income on an edge belongs to the bracket above it, a negative one to the first.
    """
    return (torch.bucketize(income, edges.to(income.dtype), right=True) - 1).clamp(min=0)


def below_brackets(rates: Tensor, edges: Tensor) -> Tensor:
    """Return the tax in dollars on incomes at the lower edges, [..., bracket], for rates [..., bracket] in percent."""
    full = rates[..., :-1] / 100 * edges.to(rates.dtype).diff()
    return torch.cat([torch.zeros_like(rates[..., :1]), full.cumsum(-1)], -1)


def tax(income: Tensor, rates: Tensor, edges: Tensor, *, bracket: Tensor | None = None) -> Tensor:
    """Return the tax in dollars of every income under every schedule, differentiable in the rates.

    Args:
        income: dollars, [person…]; a negative income pays nothing.
        rates: marginal rates in percent, [schedule…, bracket].
        edges: lower edges in dollars, [bracket].
        bracket: `bracket_of(income, edges)`, where it is known already.

    Returns:
        Taxes, [schedule…, person…].
    """
    where = bracket_of(income, edges) if bracket is None else bracket
    positive = income.clamp(min=0).to(rates.dtype)
    within = positive - edges.to(rates.dtype)[where]
    return below_brackets(rates, edges)[..., where] + rates[..., where] / 100 * within


@dataclass(frozen=True)
class Schedule:
    """Tax schedule with checked brackets, rates and deduction."""

    edges: Tensor
    """Lower edges in dollars, from 0, float64 [bracket]."""
    rates: Tensor
    """Marginal rates in percent, float64 [bracket]."""
    deduction: float = 0.0
    """Deduction from income, in dollars."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", check_edges(self.edges))
        object.__setattr__(self, "rates", check_rates(self.rates, len(self.edges)).double())
        if self.rates.dim() != 1:
            raise UsageError(f"a schedule has one row of rates, got the shape {list(self.rates.shape)}")
        if not 0 <= self.deduction < float("inf"):
            raise UsageError(f"a deduction is 0 dollars or more, got {self.deduction}")

    def tax(self, income: Tensor) -> Tensor:
        """Return the tax in dollars a year on incomes [...] before the deduction."""
        return tax(income - self.deduction, self.rates, self.edges)


@cache
def _table(name: str) -> tuple[dict[str, str], ...]:
    with (files(__package__) / name).open(encoding="utf-8") as lines:
        return tuple(csv.DictReader(lines))


def _rows(name: str, year: int, status: str) -> list[dict[str, str]]:
    table = _table(name)
    found = [row for row in table if row["year"] == str(year) and row["filing_status"] == status]
    if not found:
        years = sorted({int(row["year"]) for row in table})
        raise UsageError(
            f"no federal schedule for year {year!r} and status {status!r}; there are {years[0]} to {years[-1]} and "
            f"{', '.join(STATUSES)}"
        )
    return found


def federal_schedule(year: int = 2024, status: str = "single", *, deduct: bool = False) -> Schedule:
    """Return the federal tax on ordinary income of the United States, with seven brackets.

    Args:
        year: 2013 to 2026.
        status: filing status, one of `STATUSES`.
        deduct: whether the standard deduction is taken off first.

    Raises:
        UsageError: for a year or status that the tables do not hold.
    """
    rows = sorted(_rows("us_federal_brackets_2013_2026.csv", year, status), key=lambda row: int(row["bracket"]))
    deduction = _rows("us_standard_deduction_2013_2026.csv", year, status)[0]["standard_deduction_usd"]
    return Schedule(
        torch.tensor([float(row["lower_usd"]) for row in rows], dtype=torch.float64),
        # Round off what 100 · 0.1 leaves in binary, so that 22 % is 22.
        torch.tensor([round(100 * float(row["marginal_rate"]), 6) for row in rows], dtype=torch.float64),
        float(deduction) if deduct else 0.0,
    )
