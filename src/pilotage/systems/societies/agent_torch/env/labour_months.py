"""From propensities to unemployment: `simulate_labour`, and the tied regression to published rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.labour import (
    LABOUR_SUBSTEPS,
    Decision,
    LabourOutcome,
    LabourRules,
    first_month,
    market,
)
from pilotage.systems.societies.agent_torch.env.people import Population
from pilotage.systems.societies.agent_torch.env.substeps import Action, State, Substep, copied, episode, made

_SCALARS = ("wage", "price", "interest", "imbalance")


def simulate_labour(
    population: Population,
    *,
    work: Decision,
    consumption: Decision,
    months: int,
    seed: int,
    rules: LabourRules | None = None,
    groups: Tensor | None = None,
    substeps: Sequence[str | Substep] = LABOUR_SUBSTEPS,
    differentiable: bool = False,
    start: tuple[int, State] | None = None,
) -> LabourOutcome:
    """Simulate a labour market.

    Args:
        population: the agents; their working ages are the workforce.
        work: probability of working in a month, by group; a function is asked every month.
        consumption: share of cash that is spent in a month, by group; likewise.
        months: number of months.
        seed: seed of all noise; two simulations under one seed share it.
        rules: rules of the market; None: the defaults.
        groups: [N] integers: the group of each agent; None: its age group.
        substeps: substeps of a month, in order: registered names or functions.
        differentiable: whether gradients reach `work` and `consumption` (straight-through: counts are linear in draws).
        start: (month, state) of an earlier outcome, to go on from there.

    Raises:
        UsageError: the decisions do not fit the groups or the months.
    """
    if months < 1:
        raise UsageError(f"at least one month is simulated, got {months}")
    where = market(population, rules or LabourRules(), population.age if groups is None else groups, seed)
    first, state = (0, first_month(where)) if start is None else (start[0], copied(start[1]))
    count = int(where.group.max()) + 1
    columns: dict[str, list[Tensor]] = {name: [] for name in ("willing", "claims", *_SCALARS, "income", "spent")}
    last = state

    def history() -> LabourOutcome:
        boroughs = len(population.boroughs)
        table = {
            name: torch.stack(rows) if rows else torch.zeros((0, boroughs) if name in ("willing", "claims") else (0,))
            for name, rows in columns.items()
        }
        persons = {name: population.weight * table[name] for name in ("willing", "claims")}
        scalars = {name: table[name] for name in _SCALARS}
        return LabourOutcome(**persons, **scalars, income=table["income"], consumption=table["spent"], state=last)

    def act(month: int, _: State) -> Action:
        return {
            name: _decided(name, decision, month, first + months, count, history)
            for name, decision in (("work", work), ("consumption", consumption))
        }

    with torch.set_grad_enabled(differentiable):
        for last in episode(state, made(substeps, where), act, days=range(first, first + months), seed=seed):
            for name, rows in columns.items():
                value = last[name]
                rows.append(value.double().mean().float() if name in ("income", "spent") else value)
        return history()


def _decided(
    name: str, decision: Decision, month: int, months: int, groups: int, history: Callable[[], LabourOutcome]
) -> Tensor:
    asked = decision if isinstance(decision, Tensor) else decision(month, history())
    if isinstance(decision, Tensor) and asked.dim() == 2:
        if len(asked) < months:
            raise UsageError(f"{name} covers {len(asked)} months; {months} are simulated")
        asked = asked[month]
    if asked.dim() != 1 or len(asked) < groups:
        raise UsageError(f"{name} must be by group, [{groups}], got {list(asked.shape)}")
    if not ((asked >= 0) & (asked <= 1)).all():
        raise UsageError(f"{name} holds probabilities or shares, 0 to 1, got {asked.detach()[:10].tolist()}")
    return asked


# ---- published rates -------------------------------------------------------------------------------------------------


def borough_unemployment(willing: Tensor, claims: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """Return u = α_b log(1 + labour force) + β_b log(1 + claims) + γ_b, in per cent.

    With three free numbers per month and borough, as in the authors' code, any behaviour would fit; these are refused.

    Args:
        willing: persons who work [months, boroughs].
        claims: persons of working age who do not work [months, boroughs].
        alpha: α for all months [boroughs].
        beta: β for all months [boroughs].
        gamma: γ for all months [boroughs].

    Returns:
        Rates [months, boroughs].
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if value.shape != willing.shape[1:]:
            raise UsageError(
                f"{name} must be [boroughs] = {list(willing.shape[1:])}, the same in all months; got {value.shape}"
            )
    return alpha * torch.log1p(willing) + beta * torch.log1p(claims) + gamma


def fit_tied(willing: Tensor, claims: Tensor, rates: Tensor, *, ridge: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """Fit α, β, γ [boroughs] of `borough_unemployment` by least squares, each borough over its months.

    Both logarithms are nearly a function of each other (together they are the workforce), so that the smallest α and β
    among near equals are taken by a ridge penalty after centring.

    Args:
        willing: persons who work [months, boroughs], at least two months.
        claims: persons of working age who do not work [months, boroughs].
        rates: published rates [months, boroughs].
        ridge: weight of the squares of α and β, times the months.
    """
    if not willing.shape == claims.shape == rates.shape or willing.dim() != 2 or len(rates) < 2:
        raise UsageError(
            f"expected [months, boroughs] with two months or more, got {list(willing.shape)}, {list(claims.shape)} and "
            f"{list(rates.shape)}"
        )
    features = torch.stack([torch.log1p(willing.double()), torch.log1p(claims.double())], -1).transpose(0, 1)
    target = rates.double().T[..., None]
    centre, level = features.mean(1, keepdim=True), target.mean(1, keepdim=True)
    moved = features - centre
    gram = moved.transpose(1, 2) @ moved + ridge * len(rates) * torch.eye(2, dtype=torch.float64)
    slopes = torch.linalg.solve(gram, moved.transpose(1, 2) @ (target - level))
    gamma = (level - centre @ slopes)[:, 0, 0]
    return slopes[:, 0, 0].float(), slopes[:, 1, 0].float(), gamma.float()
