"""What theory says about taxes: Saez's formula for optimal marginal rates, and whom a majority elects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import gaussian_kde
from torch import Tensor

from pilotage.core.errors import UsageError

ELASTICITIES = (0.18, 0.11, 0.57)
"""Of taxable income for low, middle and high earners, for three brackets (Karten et al. 2025)."""


def saez_rates(
    income: Tensor,
    weights: Tensor,
    edges: Tensor,
    elasticity: float | Sequence[float] | Tensor = 0.4,
    *,
    logarithmic: bool = False,
) -> Tensor:
    """Optimal marginal rates in percent, one per bracket: τ = (1 − G) / (1 − G + a·e) (Saez 2001).

    income [N] ≥ 0: what people earn now; weights [N] ≥ 0: what a dollar for each is worth to society (their mean is
    taken as 1); edges [B]: lower edges; elasticity: e ≥ 0, one or B; logarithmic: whether the density is estimated over
    the logarithm of incomes above 0, so that one very rich person does not smooth it away for all others.
    At the middle m of a bracket: G is the mean weight above m, a = m f(m) / (1 − F(m)) from a Gaussian kernel density
    (Scott's bandwidth). In the last bracket: a = mean / (mean − edge) of incomes above the edge, G their mean weight. A
    bracket above which nobody earns gets the rate of the one below, since no income says anything about it.
    Raises UsageError for shapes that do not fit, or fewer than two different incomes."""
    e = torch.as_tensor(elasticity, dtype=torch.float64).expand(len(edges)) if _fits(elasticity, edges) else None
    if e is None or not (e >= 0).all():
        raise UsageError(f"expected an elasticity of 0 or above, one or {len(edges)}, got {elasticity}")
    if income.dim() != 1 or income.shape != weights.shape or len(income.unique()) < 2:
        raise UsageError(
            f"expected incomes and weights [N] with two different incomes, got {list(income.shape)} and "
            f"{list(weights.shape)}"
        )
    earned, normalised = income.double(), weights.double() / weights.double().mean()
    tail_of = _tails(earned, logarithmic)
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
            tail = tail_of(middle)
        gain = max(0.0, 1 - mean_weight)
        rates.append(100 * gain / (gain + tail * float(e[place])) if gain > 0 else 0.0)
    return torch.tensor(rates, dtype=torch.float64)


def _tails(income: Tensor, logarithmic: bool) -> Callable[[float], float]:
    """a(z) = z f(z) / (1 − F(z)) from a kernel density; over logarithms z f(z) is the density itself."""
    values = income[income > 0].log() if logarithmic else income
    if len(values.unique()) < 2:
        raise UsageError("a density needs two different incomes above 0")
    density = gaussian_kde(values.numpy())

    def tail(middle: float) -> float:
        at = np.log(middle) if logarithmic else middle
        survival = max(1 - float(density.integrate_box_1d(-np.inf, at)), 1e-12)
        if logarithmic:  # whoever earns nothing lies below every z, which the ratio does not see
            return float(density(at)[0]) / survival
        return middle * float(density(middle)[0]) / survival

    return tail


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
    logarithmic: bool = False,
) -> Tensor:
    """The formula where incomes are those that its own rates lead to: rates move by `damping` of the way, `rounds`
    times. respond: from rates [B] in percent to incomes [N]; the rest as in `saez_rates`. -> [B] in percent."""
    if rounds < 1 or not 0 < damping <= 1:
        raise UsageError(f"expected one round or more and damping in (0, 1], got {rounds} and {damping}")
    rates = torch.full((len(edges),), start, dtype=torch.float64)
    for _ in range(rounds):
        rates = rates + damping * (
            saez_rates(respond(rates), weights, edges, elasticity, logarithmic=logarithmic) - rates
        )
    return rates


def median_voter(utility: Tensor, skill: Tensor) -> int:
    """The schedule that the worker of median skill likes best: the prediction where preferences have one peak along
    skill (Meltzer and Richard 1981).

    utility [K, N] of N workers under K schedules; skill [N] -> place of the schedule. Of an even number the lower
    middle one votes."""
    if utility.dim() != 2 or skill.shape != utility.shape[1:] or not utility.numel():
        raise UsageError(f"expected utilities [K, N] and skills [N], got {list(utility.shape)} and {list(skill.shape)}")
    voter = skill.argsort(stable=True)[(len(skill) - 1) // 2]
    return int(utility[:, voter].argmax())


def condorcet_winner(utility: Tensor) -> int | None:
    """The schedule that beats every other in a vote of two, or None. utility [K, N]; the indifferent abstain."""
    if utility.dim() != 2 or not utility.numel():
        raise UsageError(f"expected utilities [K, N], got {list(utility.shape)}")
    candidate = 0
    for other in range(1, len(utility)):  # only the last one standing can beat all
        if (utility[other] > utility[candidate]).sum() >= (utility[candidate] > utility[other]).sum():
            candidate = other
    ahead = (utility[candidate] > utility).sum(-1)
    behind = (utility[candidate] < utility).sum(-1)
    wins = ahead > behind
    wins[candidate] = True
    return candidate if bool(wins.all()) else None
