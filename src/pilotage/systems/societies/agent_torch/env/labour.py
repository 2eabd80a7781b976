"""A labour market of months: who works, earns, pays tax, consumes; wages, prices and the interest that follow.

The rules are those of AgentTorch (arXiv 2409.10568) after EconAgent (arXiv 2310.10436). Money enters as wages and
interest and leaves as consumption; taxes are paid back in equal shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import Schedule, federal_schedule
from pilotage.objectives import discrete_gradients
from pilotage.systems.societies.agent_torch.env.noise import Noise, thresholds
from pilotage.systems.societies.agent_torch.env.people import WORKING, Population
from pilotage.systems.societies.agent_torch.env.substeps import Action, State, Substep, register

MONTHS = 12


@dataclass(frozen=True)
class LabourRules:
    """Rules of the labour market."""

    wage: float = 25.0
    """Dollars an hour at skill 1, in the first month."""
    price: float = 20.0
    """Dollars for a unit of goods, in the first month. An hour at skill 1 makes one unit."""
    hours: float = 160.0
    """A month, of who works."""
    skill_spread: float = 0.6
    """Standard deviation of the logarithm of skills, whose median is 1."""
    taxes: Schedule = field(default_factory=lambda: federal_schedule(2020, deduct=True))
    """Of a year's income; a month pays a twelfth of the tax on twelve such months."""
    most_wage_change: float = 0.05
    """Largest relative change of the wage in a month, at an imbalance of 1."""
    most_price_change: float = 0.1
    """The same of the price."""
    natural_rate: float = 0.01
    """r_n, per year."""
    target_inflation: float = 0.02
    """π*, per year."""
    natural_unemployment: float = 0.04
    """u_n."""
    inflation_weight: float = 0.5
    """a_π."""
    unemployment_weight: float = 0.5
    """a_u."""
    working: tuple[int, ...] = WORKING
    """Age groups of the workforce."""

    def __post_init__(self) -> None:
        if min(self.wage, self.price, self.hours) <= 0 or self.skill_spread < 0:
            raise UsageError("wage, price and hours are above 0, skill_spread is 0 or more")
        if not (0 <= self.most_wage_change < 1 and 0 <= self.most_price_change < 1):
            raise UsageError(
                f"largest changes in a month are 0 or more and below 1, got {self.most_wage_change} and "
                f"{self.most_price_change}"
            )

    def interest(self, inflation: Tensor, unemployment: Tensor) -> Tensor:
        """Return the interest of the Taylor rule: max(0, r_n + π* + a_π(π − π*) + a_u(u_n − u)), per year."""
        above = self.inflation_weight * (inflation - self.target_inflation)
        slack = self.unemployment_weight * (self.natural_unemployment - unemployment)
        return (self.natural_rate + self.target_inflation + above + slack).clamp(min=0)


@dataclass(frozen=True)
class LabourMarket:
    """Constants of an episode of months."""

    population: Population
    rules: LabourRules
    group: Tensor
    """[N] int32: the archetype of each agent."""
    skill: Tensor
    """[N] float32."""
    workforce: Tensor
    """[W] int32: agents of working age."""


def market(population: Population, rules: LabourRules, groups: Tensor, seed: int) -> LabourMarket:
    """Draw the skills by (seed, agent). Raises UsageError for groups of another length, or without a workforce."""
    if groups.shape != (len(population),):
        raise UsageError(f"groups must be [{len(population)}], got {list(groups.shape)}")
    works = torch.zeros(len(population.ages), dtype=torch.bool)
    works[[age for age in rules.working if age < len(works)]] = True
    workforce = works[population.age.long()].nonzero()[:, 0].to(torch.int32)
    if not len(workforce):
        raise UsageError(f"no agent is of the working ages {rules.working}")
    agents = torch.arange(len(population), dtype=torch.int32)
    uniform = Noise(seed, -1).uniforms("skill", agents).clamp(min=1e-7)
    skill = (rules.skill_spread * torch.special.ndtri(uniform)).exp()
    return LabourMarket(population, rules, groups.to(torch.int32), skill, workforce)


def first_month(where: LabourMarket) -> State:
    """Return the first state: savings [agents], wage, price, interest, inventory, prices of the last twelve months."""
    rules = where.rules
    price = torch.tensor(rules.price)
    return {
        "savings": torch.zeros(len(where.population)),
        "wage": torch.tensor(rules.wage),
        "price": price,
        "interest": torch.tensor(rules.natural_rate + rules.target_inflation),
        "inventory": torch.tensor(0.0),
        "prices": price.expand(MONTHS).clone(),
    }


@register("work")
def work(where: LabourMarket) -> Substep:
    """Return the substep in which agents of working age decide; counts `willing` and `claims` [boroughs]."""
    population, workforce = where.population, where.workforce
    group = where.group.index_select(0, workforce)
    borough = population.borough.index_select(0, workforce).to(torch.int32)
    people = torch.zeros(len(population.boroughs)).index_add(0, borough, torch.ones(len(workforce)))

    def substep(state: State, action: Action, noise: Noise) -> State:
        drawn = noise.random_bits("work", workforce) < thresholds(action["work"]).index_select(0, group)
        works = drawn.float()
        if action["work"].requires_grad:
            works = discrete_gradients.straight_through(works, action["work"].float().index_select(0, group))
        willing = torch.zeros_like(people).index_add(0, borough, works)
        hours = torch.zeros(len(population)).index_add(0, workforce, where.rules.hours * works)
        return state | {"hours": hours, "willing": willing, "claims": people - willing}

    return substep


@register("earn")
def earn(where: LabourMarket) -> Substep:
    """Return the substep of wages by hours and skill, tax by brackets, and its return in equal shares."""

    def substep(state: State, action: Action, noise: Noise) -> State:  # noqa: ARG001
        income = state["wage"] * where.skill * state["hours"]
        tax = (where.rules.taxes.tax(MONTHS * income) / MONTHS).float()
        # Summed in float64: eight million terms.
        transfer = (tax.double().sum() / len(tax)).float()
        cash = state["savings"] * (1 + state["interest"] / MONTHS) + income - tax + transfer
        return state | {"income": income, "tax": tax, "transfer": transfer, "cash": cash}

    return substep


@register("consume")
def consume(where: LabourMarket) -> Substep:
    """Return the substep in which agents buy goods for a share of their cash, rationed evenly if there are too few."""

    def substep(state: State, action: Action, noise: Noise) -> State:  # noqa: ARG001
        share = action["consumption"].float().index_select(0, where.group)
        wanted = share * state["cash"]
        demand = wanted.double().sum() / state["price"]
        supply = state["inventory"] + (where.skill * state["hours"]).double().sum()
        served = (supply / demand.clamp(min=1e-9)).clamp(max=1.0)
        spent = wanted * served.float()
        larger = torch.maximum(demand, supply).clamp(min=1e-9)
        return state | {
            "spent": spent,
            "savings": state["cash"] - spent,
            "demand": demand,
            "supply": supply,
            "inventory": supply - demand * served,
            "imbalance": ((demand - supply) / larger).float(),
        }

    return substep


@register("prices")
def prices(where: LabourMarket) -> Substep:
    """Return the substep in which wage and price follow the imbalance of demand, by U(0, most · |imbalance|)."""
    rules = where.rules

    def substep(state: State, action: Action, noise: Noise) -> State:  # noqa: ARG001
        first = torch.zeros(1, dtype=torch.int32)
        wage = state["wage"] * (1 + rules.most_wage_change * state["imbalance"] * noise.uniforms("wage", first)[0])
        price = state["price"] * (1 + rules.most_price_change * state["imbalance"] * noise.uniforms("price", first)[0])
        return state | {"wage": wage, "price": price}

    return substep


@register("interest")
def interest(where: LabourMarket) -> Substep:
    """Return the substep of the Taylor rule on twelve months' inflation and the share without work."""

    def substep(state: State, action: Action, noise: Noise) -> State:  # noqa: ARG001
        inflation = state["price"] / state["prices"][0] - 1
        unemployment = state["claims"].sum() / len(where.workforce)
        return state | {
            "inflation": inflation,
            "interest": where.rules.interest(inflation, unemployment),
            "prices": torch.cat([state["prices"][1:], state["price"][None]]),
        }

    return substep


LABOUR_SUBSTEPS: Sequence[str] = ("work", "earn", "consume", "prices", "interest")
Decision = Tensor | Callable[[int, "LabourOutcome"], Tensor]
"""[months, groups], [groups], or (month, history) -> [groups]; probabilities or shares."""


@dataclass(frozen=True)
class LabourOutcome:
    """Outcome by month."""

    willing: Tensor
    """Persons who work, [months, boroughs]."""
    claims: Tensor
    """Persons of working age who do not work, [months, boroughs]."""
    wage: Tensor
    """[months] dollars an hour, after the month."""
    price: Tensor
    """[months]"""
    interest: Tensor
    """[months] per year."""
    imbalance: Tensor
    """[months] (demand − supply) / the larger."""
    income: Tensor
    """[months] dollars before tax, mean over all agents."""
    consumption: Tensor
    """[months] dollars spent, mean over all agents."""
    state: State | None = None
