"""Populations of workers: skills, costs of effort and aims, sampled from a fitted distribution or survey records."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import betainc, betaincinv
from torch import Tensor

from pilotage.core.errors import UsageError

FULL_TIME = 40.0
"""Weekly hours of full-time work, by which an annual income is converted into a skill."""
EGOTISTICAL, ALTRUISTIC, ADVERSARIAL = 0, 1, 2
"""Aims of a worker: its own utility, high social welfare, low social welfare."""


# ---- incomes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GB2:
    """Generalised beta distribution of the second kind of annual incomes.

    The defaults are the fit to the American Community Survey 2023 (Karten et al. 2025). If X is beta(p, q), income is
    scale · (X / (1 − X))^(1/a), which is the paper's μ((ν/τ) F⁻¹(2ν, 2τ))^(1/σ) since (ν/τ)·F(2ν, 2τ) = X / (1 − X).
    """

    scale: float = 72_402.78
    """Scale μ, in dollars."""
    a: float = 2.07211
    """Shape σ."""
    p: float = 0.486519
    """Shape ν; small values mean many low incomes."""
    q: float = 1.141040
    """Shape τ; small values mean a heavy upper tail. The mean exists when a · q > 1."""

    def quantile(self, probability: Tensor) -> Tensor:
        """Return the incomes in dollars, float64 [...], at probabilities [...] in [0, 1)."""
        beta = betaincinv(self.p, self.q, np.asarray(probability, dtype=np.float64))
        return torch.from_numpy(np.asarray(self.scale * (beta / (1 - beta)) ** (1 / self.a)))

    def cdf(self, income: Tensor) -> Tensor:
        """Return the probability, float64 [...], of an income up to each of `income` [...]."""
        odds = (np.asarray(income, dtype=np.float64).clip(min=0) / self.scale) ** self.a
        return torch.from_numpy(np.asarray(betainc(self.p, self.q, odds / (1 + odds))))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw incomes in dollars a year, float64 [count]."""
        return self.quantile(torch.rand(count, generator=generator, dtype=torch.float64))


@dataclass(frozen=True)
class TaxUnits:
    """Survey records of households, one row each, all of the same weight."""

    columns: dict[str, Tensor]
    """Numeric columns, float64 [household]: at least age_head, wages, wages_primary, self_employment."""
    status: tuple[str, ...]
    """Filing status of each household."""

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, rows: Tensor) -> TaxUnits:
        return TaxUnits({k: v[rows] for k, v in self.columns.items()}, tuple(self.status[i] for i in rows.tolist()))

    def working(self, low: int = 18, high: int = 64) -> TaxUnits:
        """Return the households with wages whose head is `low` to `high` years old."""
        age, wages = self.columns["age_head"], self.columns["wages"]
        return self[((age >= low) & (age <= high) & (wages > 0)).nonzero()[:, 0]]

    def earnings(self, who: str = "primary", growth: float = 1.0) -> Tensor:
        """Return the earnings above 0 in dollars a year, float64 [earner].

        Args:
            who: "primary" (wages of the first earner), "unit" (wages of the couple) or "earned" (these and income from
                self-employment).
            growth: factor on incomes since the survey's year, about 1.35 to 1.4 from 2013 to 2024.
        """
        table = {
            "primary": lambda c: c["wages_primary"],
            "unit": lambda c: c["wages"],
            "earned": lambda c: c["wages"] + c["self_employment"].clamp(min=0),
        }
        if who not in table:
            raise UsageError(f"earnings are those of {', '.join(table)}, got {who!r}")
        if not growth > 0:
            raise UsageError(f"growth multiplies incomes and is above 0, got {growth}")
        earned = growth * table[who](self.columns)
        return earned[earned > 0]


def read_tax_units(path: str | Path | None = None) -> TaxUnits:
    """Return survey records from a CSV file with a header.

    The columns are filing_status and numbers, at least age_head, wages, wages_primary and self_employment (dollars).
    Without a path these are 10,000 tax units of the Current Population Survey in dollars of 2012 to 2014, whose heads
    are 18 to 64 and which earn wages: the first such ones of 20,000 that were drawn by survey weight from the file in
    Tax-Calculator 6.8.0 (CC0; the survey is in the public domain).
    Raises UsageError with the line for what is missing or no number.
    """
    place = Path(path) if path is not None else Path(__file__).with_name("us_working_tax_units.csv")
    if not place.is_file():
        raise UsageError(f"there is no file {place} with tax units")
    with place.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        names = reader.fieldnames or []
        wanted = {"filing_status", "age_head", "wages", "wages_primary", "self_employment"}
        if missing := sorted(wanted - set(names)):
            raise UsageError(f"{place} lacks the columns {', '.join(missing)}")
        numeric = [name for name in names if name != "filing_status"]
        rows, status = [], []
        for row in reader:
            try:
                rows.append([float(row[name]) for name in numeric])
            except (TypeError, ValueError):
                raise UsageError(f"{place}, line {reader.line_num}: expected numbers, got {row}") from None
            status.append(row["filing_status"])
    if not rows:
        raise UsageError(f"{place} holds no tax unit")
    table = torch.tensor(rows, dtype=torch.float64)
    return TaxUnits({name: table[:, column] for column, name in enumerate(numeric)}, tuple(status))


def resample(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` of the values with replacement. Raises UsageError when there are none."""
    if not len(values):
        raise UsageError("there is nothing to resample from")
    return values[torch.randint(0, len(values), (count,), generator=generator)]


# ---- the distance between distributions ------------------------------------------------------------------------------


def ks_distance(sample: Tensor, other: Tensor | Callable[[Tensor], Tensor]) -> float:
    """Return the Kolmogorov-Smirnov distance, the largest gap between two distribution functions, 0 to 1.

    `other` is a second sample, or a continuous distribution function.
    """
    if not len(sample) or (isinstance(other, Tensor) and not len(other)):
        raise UsageError("the distance needs at least one value on each side")
    ordered = sample.sort().values
    if not isinstance(other, Tensor):
        heights = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
        at = other(ordered)
        return float(torch.maximum((heights[1:] - at).abs().max(), (at - heights[:-1]).abs().max()))
    second = other.sort().values.to(ordered.dtype)
    points = torch.cat([ordered, second])
    first_height = torch.searchsorted(ordered, points, right=True).double() / len(ordered)
    second_height = torch.searchsorted(second, points, right=True).double() / len(second)
    return float((first_height - second_height).abs().max())


def gini(income: Tensor) -> float:
    """Return the Gini coefficient of incomes of 0 or above, [worker]: 0 (equal, or all 0) to (N − 1) / N."""
    if not len(income) or (income < 0).any():
        raise UsageError("the Gini coefficient is of one or more incomes of 0 or above")
    total = income.sum()
    if total == 0:
        return 0.0
    count = len(income)
    rank = torch.arange(1, count + 1, dtype=income.dtype, device=income.device)
    return float(2 * (rank * income.sort().values).sum() / (count * total) - (count + 1) / count)


# ---- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WorkerPopulation:
    """Workers with their skills, costs of effort and aims."""

    skill: Tensor
    """Dollars a year that one weekly hour brings, above 0, [worker]."""
    cost: Tensor
    """Factor c of the disutility c · hours^δ in dollars, above 0, [worker]."""
    kind: Tensor
    """EGOTISTICAL, ALTRUISTIC or ADVERSARIAL, int64 [worker]."""

    def __post_init__(self) -> None:
        shape = self.skill.shape
        if self.skill.dim() != 1 or not len(self.skill) or self.cost.shape != shape or self.kind.shape != shape:
            raise UsageError(
                f"expected skill, cost and kind [N], got {list(shape)}, {list(self.cost.shape)} and "
                f"{list(self.kind.shape)}"
            )
        if not ((self.skill > 0) & self.skill.isfinite() & (self.cost > 0) & self.cost.isfinite()).all():
            raise UsageError("skills and costs of effort must be above 0 and finite")
        if not ((self.kind >= EGOTISTICAL) & (self.kind <= ADVERSARIAL)).all():
            raise UsageError("kinds of workers are 0 (egotistical), 1 (altruistic) and 2 (adversarial)")

    def __len__(self) -> int:
        return len(self.skill)

    def with_costs_spread(self, sigma: float, generator: torch.Generator) -> WorkerPopulation:
        """Return the same workers with costs of effort times exp(N(0, sigma²))."""
        if sigma < 0:
            raise UsageError(f"the spread of costs is 0 or more, got {sigma}")
        noise = torch.randn(len(self), generator=generator, dtype=self.cost.dtype)
        return replace(self, cost=self.cost * (sigma * noise).exp())

    def with_kinds(self, altruistic: float, adversarial: float, generator: torch.Generator) -> WorkerPopulation:
        """Return the same workers with these shares of kinds at random, the rest egotistical."""
        if min(altruistic, adversarial) < 0 or altruistic + adversarial > 1:
            raise UsageError(
                f"shares of kinds are 0 or more and at most 1 together, got {altruistic} and {adversarial}"
            )
        order = torch.randperm(len(self), generator=generator)
        first, second = round(altruistic * len(self)), round(adversarial * len(self))
        kind = torch.zeros_like(self.kind)
        kind[order[:first]] = ALTRUISTIC
        kind[order[first : first + second]] = ADVERSARIAL
        return replace(self, kind=kind)


def calibrated_cost(median_skill: float, *, delta: float = 3.5, hours: float = FULL_TIME, rate: float = 22.0) -> float:
    """Return the cost of effort c for which a worker of this skill chooses `hours` at a marginal rate.

    It solves the first-order condition v(1 − τ) = cδh^(δ−1). The paper's c = .0005 goes with skills in other units:
    with annual dollars nearly all workers would work as long as possible, whatever the tax.

    Args:
        median_skill: v, dollars a year that one weekly hour brings.
        delta: exponent δ, above 1.
        hours: weekly hours h.
        rate: marginal rate τ in percent.
    """
    if median_skill <= 0 or delta <= 1 or hours <= 0 or not 0 <= rate < 100:
        raise UsageError(
            f"calibration needs skill > 0, δ > 1, hours > 0 and a rate below 100 %, got {median_skill}, {delta}, "
            f"{hours}, {rate}"
        )
    return median_skill * (1 - rate / 100) / (delta * hours ** (delta - 1))


def population_of(incomes: Tensor, *, cost: float | None = None, delta: float = 3.5) -> WorkerPopulation:
    """Return egotistical workers who earn these incomes at 40 hours a week.

    Args:
        incomes: dollars a year, above 0, [worker].
        cost: c for all workers; None: calibrated so that the median worker chooses 40 hours at 22 %.
        delta: exponent δ of the disutility, for the calibration.
    """
    if incomes.dim() != 1 or not len(incomes) or not (incomes > 0).all():
        raise UsageError("a population is made of incomes [N] above 0")
    skill = incomes / FULL_TIME
    # The mean of the two middle ones, which torch's median is not.
    chosen = calibrated_cost(float(np.median(skill.numpy())), delta=delta) if cost is None else cost
    return WorkerPopulation(skill, torch.full_like(skill, chosen), torch.zeros(len(skill), dtype=torch.int64))
