"""The taxation game: workers choose hours, all are taxed, and the revenue is paid back in equal shares.

    income z = skill · hours      utility u = z − T(z) + mean of all T(z) − c · hours^δ      (Karten et al. 2025, §3)

The planner leads (rates), workers follow (hours). An equal rebate makes the followers' best choices independent of each
other, so that the best response to a schedule is exact and one pass over the grid of hours.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import below_brackets, bracket_of, check_edges, check_rates, tax
from pilotage.systems.societies.llm_economist.env.population import (
    ADVERSARIAL,
    EGOTISTICAL,
    FULL_TIME,
    WorkerPopulation,
)

Welfare = Literal["fixed", "sum", "paper"]
"""Social welfare per head. fixed: mean of g·u with weights that do not depend on behaviour; sum: mean of u; paper: mean
of u / max(z, 1), which rewards a planner for making people stop working."""
WeightBase = Literal["no_tax", "forty_hours"]
"""Incomes from which the fixed weights are computed: those chosen without taxes, or those of 40 hours."""

HOURS = tuple(float(hours) for hours in range(0, 101, 10))
"""Default grid of weekly hours."""
FLAT = (0.0,)
THREE = (0.0, 90_000.0, 159_100.0)
"""Lower edges of brackets in dollars."""
CELLS = 4_000_000
"""Largest size of a table of schedules × workers × hours that is computed at once."""


def welfare_weights(income: Tensor, floor: float = 5000.0) -> Tensor:
    """Return welfare weights g ∝ 1 / max(income, floor) with mean 1, [worker].

    Raises UsageError without a floor above 0, since an income of 0 would then have all the weight.
    """
    if not floor > 0:
        raise UsageError(f"the floor of incomes in welfare weights must be above 0 dollars, got {floor}")
    weights = 1 / income.clamp(min=floor)
    return weights * len(income) / weights.sum()


def check_revenue(taxes: Tensor, rebate: Tensor, tolerance: float = 1e-6) -> None:
    """Check that the revenue is paid back: |Σ T − N · rebate| ≤ tolerance · max(1, Σ T).

    Args:
        taxes: taxes paid in dollars, [..., worker].
        rebate: equal rebates in dollars, [...].
        tolerance: relative tolerance.

    Raises:
        ArithmeticError: when it is not.
    """
    collected, returned = taxes.sum(-1), rebate * taxes.shape[-1]
    wrong = (collected - returned).abs() > tolerance * collected.abs().clamp(min=1)
    if bool(wrong.any()):
        raise ArithmeticError(
            f"taxes of ${collected[wrong].flatten()[0]:,.2f} were collected but ${returned[wrong].flatten()[0]:,.2f} "
            "given back"
        )


@dataclass(frozen=True)
class Year:
    """Choices and outcomes of one step under one or several schedules. Money is in dollars a year."""

    rates: Tensor
    """Marginal rates in percent, [..., bracket]."""
    choice: Tensor
    """Places in the grid of hours, int64 [..., worker]."""
    hours: Tensor
    """Weekly hours, [..., worker]."""
    income: Tensor
    """Income before tax, [..., worker]."""
    tax: Tensor
    """Tax paid, [..., worker]."""
    rebate: Tensor
    """Rebate, equal for all workers, [...]."""
    utility: Tensor
    """Utility in dollars, without satisfaction, [..., worker]."""
    welfare: Tensor
    """Social welfare per head, [...]."""


class TaxGame:
    """Tax game of one population with given brackets; schedules can be batched: [..., bracket]."""

    def __init__(
        self,
        population: WorkerPopulation,
        edges: Sequence[float] | Tensor,
        *,
        hours: Sequence[float] = HOURS,
        delta: float = 3.5,
        swf: Welfare = "fixed",
        weights_from: WeightBase = "no_tax",
        floor: float = 5000.0,
    ) -> None:
        """Create the game.

        Args:
            population: the workers.
            edges: lower edges in dollars, [bracket].
            hours: grid of weekly hours, rising from 0 or above.
            delta: exponent δ of the disutility, above 1; the elasticity of labour is 1 / (δ − 1).
            swf: social welfare function.
            weights_from: incomes from which the fixed weights are computed.
            floor: lower bound of incomes in the weights, in dollars.
        """
        self.population = population
        self.edges = check_edges(edges).to(population.skill.device)
        self.hours = torch.as_tensor(hours, dtype=population.skill.dtype, device=population.skill.device)
        if self.hours.dim() != 1 or len(self.hours) < 2 or self.hours[0] < 0 or not (self.hours.diff() > 0).all():
            raise UsageError(f"the grid of hours has two or more that rise from 0 or above, got {list(hours)}")
        if not delta > 1:
            raise UsageError(f"effort must cost more and more: δ > 1, got {delta}")
        if swf not in get_args(Welfare) or weights_from not in get_args(WeightBase):
            raise UsageError(
                f"social welfare is one of {', '.join(get_args(Welfare))}, with weights from "
                f"{' or '.join(get_args(WeightBase))}, got {swf!r} and {weights_from!r}"
            )
        self.delta, self.swf = delta, swf
        if swf == "paper":
            warnings.warn(
                "swf='paper' divides utilities by what people earn now: a worker who stops working counts thousands of "
                "times more, and taxes near 100 % win. Use swf='fixed' unless this defect is what you study",
                stacklevel=2,
            )
            if (population.kind != EGOTISTICAL).any():
                raise UsageError(
                    "with swf='paper' the best choice of altruistic and adversarial workers depends on all others'; "
                    "use swf='fixed' or 'sum', or egotistical workers"
                )
        self.weights = torch.ones_like(population.skill)
        """Weights g of the welfare function, mean 1, [worker]."""
        if swf == "fixed":
            self.weights = welfare_weights(self._reference_income(weights_from), floor)

    def __len__(self) -> int:
        return len(self.population)

    def _reference_income(self, weights_from: WeightBase) -> Tensor:
        skill = self.population.skill
        if weights_from == "forty_hours":
            return skill * FULL_TIME
        gain = skill[:, None] * self.hours - self.population.cost[:, None] * self.hours**self.delta
        return skill * self.hours[gain.argmax(-1)]

    def check(self, rates: Sequence[float] | Tensor) -> Tensor:
        """Return checked rates [..., bracket] in percent, in the population's type; see `check_rates`."""
        return check_rates(rates, len(self.edges)).to(self.population.skill)

    def objective(self, rates: Tensor, rows: slice = slice(None)) -> Tensor:
        """Return what workers maximise over hours, [..., worker, hours], up to terms that their hours do not change.

        Egotistical workers maximise their own utility, including the 1/N of their own tax that returns to them.
        Altruistic workers maximise N times social welfare, in which a dollar of tax, returned as 1/N to each, counts
        with the mean weight, 1. Adversarial workers maximise the negative.

        Args:
            rates: marginal rates in percent, [..., bracket].
            rows: workers to compute.
        """
        people = self.population
        skill, cost, kind = people.skill[rows, None], people.cost[rows, None], people.kind[rows, None]
        income = skill * self.hours
        paid = tax(income, rates, self.edges, bracket=bracket_of(income, self.edges))
        selfish = kind == EGOTISTICAL
        kept = income - paid - cost * self.hours**self.delta
        weight = torch.where(selfish, 1.0, self.weights[rows, None])
        returned = torch.where(selfish, 1 / len(self), 1.0).to(paid)
        return torch.where(kind == ADVERSARIAL, -1.0, 1.0).to(paid) * (weight * kept + returned * paid)

    def _blocks(self, schedules: int) -> list[slice]:
        size = max(1, CELLS // (max(1, schedules) * len(self.hours)))
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def best_response(self, rates: Sequence[float] | Tensor) -> Tensor:
        """Return the best hours of each worker as places in the grid, int64 [..., worker]; in a tie the fewest."""
        checked = self.check(rates)
        schedules = checked.shape[:-1].numel()
        return torch.cat([self.objective(checked, rows).argmax(-1) for rows in self._blocks(schedules)], -1)

    def play(self, rates: Sequence[float] | Tensor, choice: Tensor | None = None) -> Year:
        """Return one step under schedules.

        Args:
            rates: marginal rates in percent, [..., bracket].
            choice: places in the grid of hours, int64 [..., worker]; None: the best response.

        Raises:
            UsageError: for choices of another shape or outside the grid.
            ArithmeticError: when taxes and rebates differ.
        """
        checked = self.check(rates)
        if choice is None:
            choice = self.best_response(checked)
        expected = (*checked.shape[:-1], len(self))
        if choice.shape != expected or choice.dtype != torch.int64:
            raise UsageError(
                f"expected choices of hours {list(expected)} int64, got {list(choice.shape)} {choice.dtype}"
            )
        if bool(((choice < 0) | (choice >= len(self.hours))).any()):
            raise UsageError(f"choices are places 0 to {len(self.hours) - 1} in the grid of hours")
        hours = self.hours[choice]
        income = self.population.skill * hours
        paid = _own_tax(income, checked, self.edges)
        rebate = paid.mean(-1)
        check_revenue(paid, rebate)
        utility = income - paid + rebate[..., None] - self.population.cost * hours**self.delta
        return Year(checked, choice, hours, income, paid, rebate, utility, self.welfare(utility, income))

    def welfare(self, utility: Tensor, income: Tensor) -> Tensor:
        """Return social welfare per head [...] of utilities and incomes [..., worker].

        To count satisfaction, multiply the utilities by it beforehand.
        """
        if self.swf == "paper":
            return (utility / income.clamp(min=1)).mean(-1)
        return (self.weights * utility).mean(-1)

    def score(self, rates: Sequence[float] | Tensor) -> Tensor:
        """Return social welfare per head [...] of schedules [..., bracket] under best responses."""
        return self.play(rates).welfare

    def relaxed_score(self, rates: Tensor, temperature: float = 1.0) -> Tensor:
        """Return `score` with hours from softmax(objective / (temperature · skill)), differentiable in the rates.

        Args:
            rates: marginal rates in percent, [..., bracket].
            temperature: in weekly hours' worth of income; towards 0 the result approaches `score`.

        Raises:
            UsageError: with swf="paper".
        """
        if self.swf == "paper" or not temperature > 0:
            raise UsageError(
                f"the relaxed score needs fixed weights and a temperature above 0, got swf={self.swf!r} and "
                f"{temperature}"
            )
        people = self.population
        income = people.skill[:, None] * self.hours
        probability = (self.objective(rates) / (temperature * people.skill[:, None])).softmax(-1)
        paid = tax(income, rates, self.edges)
        kept = income - paid - people.cost[:, None] * self.hours**self.delta
        utility = (probability * kept).sum(-1) + (probability * paid).sum(-1).mean(-1, keepdim=True)
        return (self.weights * utility).mean(-1)


def _own_tax(income: Tensor, rates: Tensor, edges: Tensor) -> Tensor:
    """Return the tax [..., worker] of each row of incomes [..., worker] under its own schedule [..., bracket]."""
    if rates.dim() == 1:
        return tax(income, rates, edges)
    flat_income, flat_rates = income.flatten(0, -2), rates.flatten(0, -2)
    where = bracket_of(flat_income, edges)
    below = below_brackets(flat_rates, edges)
    within = flat_income - edges.to(income.dtype)[where]
    return (below.gather(1, where) + flat_rates.gather(1, where) / 100 * within).reshape(income.shape)
