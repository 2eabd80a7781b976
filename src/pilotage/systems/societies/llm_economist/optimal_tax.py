"""Saez's formula for optimal marginal tax rates (Saez 2001)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import gaussian_kde
from torch import Tensor

from pilotage.core.errors import UsageError


def saez_rates(
    income: Tensor,
    weights: Tensor,
    edges: Tensor,
    elasticity: float | Sequence[float] | Tensor = 0.4,
) -> Tensor:
    """Return the optimal marginal rates in percent, [bracket]: τ = (1 − G) / (1 − G + a·e) (Saez 2001).

    At the middle m of a bracket, G is the mean weight above m and a = m f(m) / (1 − F(m)) from a Gaussian kernel
    density with Scott's bandwidth. In the last bracket, a = mean / (mean − edge) of incomes above the edge, and G their
    mean weight. A bracket without incomes above its middle gets the rate of the bracket below.

    Args:
        income: present incomes in dollars, 0 or above, [worker].
        weights: social value of a dollar for each worker, 0 or above, [worker]; scaled to a mean of 1.
            When all are 0 the rates are those of the largest revenue (G = 0).
        edges: lower edges in dollars, [bracket].
        elasticity: e of taxable income, 0 or above, one or [bracket].

    Raises:
        UsageError: for shapes that do not fit, negative weights, or fewer than two different incomes.
    """
    e = torch.as_tensor(elasticity, dtype=torch.float64).expand(len(edges)) if _fits(elasticity, edges) else None
    if e is None or not (e >= 0).all():
        raise UsageError(f"expected an elasticity of 0 or above, one or {len(edges)}, got {elasticity}")
    if income.dim() != 1 or income.shape != weights.shape or len(income.unique()) < 2:
        raise UsageError(
            f"expected incomes and weights [N] with two different incomes, got {list(income.shape)} and "
            f"{list(weights.shape)}"
        )
    if not (weights >= 0).all():
        raise UsageError(f"expected weights of 0 or above, got one of {float(weights.min()):g}")
    scale = weights.double().mean()
    earned, normalised = income.double(), weights.double() / (scale if scale > 0 else 1.0)
    density = gaussian_kde(earned.numpy())
    rates: list[float] = []
    for place, low in enumerate(edges.tolist()):
        last = place == len(edges) - 1
        middle = low if last else (low + float(edges[place + 1])) / 2
        above = earned > middle
        if not above.any():
            rates.append(rates[-1] if rates else 0.0)
            continue
        mean_weight = float(normalised[above].mean())
        if last and low > 0:
            mean = float(earned[above].mean())
            tail = mean / (mean - low)
        elif last:  # a flat tax: the base is all income, so that the tail is 1 and G weighs people by their income
            tail, mean_weight = 1.0, float((normalised * earned).sum() / earned.sum())
        else:
            survival = max(1 - float(density.integrate_box_1d(-np.inf, middle)), 1e-12)
            tail = middle * float(density(middle)[0]) / survival
        gain = max(0.0, 1 - mean_weight)
        rates.append(100 * gain / (gain + tail * float(e[place])) if gain > 0 else 0.0)
    return torch.tensor(rates, dtype=torch.float64)


def _fits(elasticity: float | Sequence[float] | Tensor, edges: Tensor) -> bool:
    shape = torch.as_tensor(elasticity).shape
    return shape == () or shape == edges.shape


def saez_fixed_point(
    respond: Callable[[Tensor], Tensor],
    weights: Tensor,
    edges: Tensor,
    elasticity: float | Sequence[float] | Tensor = 0.4,
    *,
    start: float = 50.0,
    rounds: int = 20,
    damping: float = 0.5,
) -> Tensor:
    """Return the rates in percent, [bracket], of the formula at the incomes to which these rates lead.

    Args:
        respond: returns incomes [worker] under rates [bracket] in percent.
        weights: as in `saez_rates`.
        edges: as in `saez_rates`.
        elasticity: as in `saez_rates`.
        start: first rate of all brackets, in percent.
        rounds: number of steps, 1 or more.
        damping: part of the way to the formula's rates that a step goes, in (0, 1].
    """
    if rounds < 1 or not 0 < damping <= 1:
        raise UsageError(f"expected one round or more and damping in (0, 1], got {rounds} and {damping}")
    rates = torch.full((len(edges),), start, dtype=torch.float64)
    for _ in range(rounds):
        rates = rates + damping * (saez_rates(respond(rates), weights, edges, elasticity) - rates)
    return rates
