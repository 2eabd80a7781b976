"""The labour market: money is conserved, prices follow demand, and only tied regressions are allowed."""

from __future__ import annotations

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import Schedule
from pilotage.systems.societies.agent_torch.env import tiny_city
from pilotage.systems.societies.agent_torch.env.labour import LabourRules
from pilotage.systems.societies.agent_torch.env.labour_months import borough_unemployment, fit_tied, simulate_labour

TOWN = tiny_city(4000, seed=0)
WORK = torch.tensor([0.0, 0.7, 0.9, 0.9, 0.8, 0.0])
CONSUME = torch.full((6,), 0.6)


def months(count=6, work=WORK, consumption=CONSUME, seed=0, **settings):
    return simulate_labour(TOWN, work=work, consumption=consumption, months=count, seed=seed, **settings)


def test_the_workforce_decides_with_the_probability_of_its_group():
    outcome = months(12)
    counts = TOWN.counts()
    everybody = outcome.willing + outcome.claims
    assert torch.equal(everybody, counts[:, 1:5].sum(1).float().expand(12, 5))
    expected = (counts.float() @ torch.tensor([0, 0.7, 0.9, 0.9, 0.8, 0])).sum()
    assert float(outcome.willing.sum(1).mean()) == pytest.approx(float(expected), rel=0.01)
    assert not torch.equal(outcome.willing[0], outcome.willing[1])


def test_money_is_conserved_and_taxes_come_back_in_equal_shares():
    rules = LabourRules(natural_rate=0.5)
    state = months(1, rules=rules).state
    assert float(state["tax"].sum()) == pytest.approx(4000 * float(state["transfer"]), rel=1e-5)
    change = state["savings"].double().sum() + state["spent"].double().sum()
    assert float(change) == pytest.approx(float(state["income"].double().sum()), rel=1e-6)
    second = months(2, rules=rules).state
    kept = second["savings"].double().sum() + second["spent"].double().sum() - second["income"].double().sum()
    paid = float(kept / state["savings"].double().sum() - 1) * 12
    assert paid == pytest.approx(float(state["interest"]), abs=1e-3)
    assert paid > 0.2


def test_the_tax_is_that_of_the_schedule():
    schedule = Schedule(torch.tensor([0.0, 30_000.0]), torch.tensor([10.0, 50.0]))
    state = months(1, rules=LabourRules(taxes=schedule)).state
    yearly = 12 * state["income"].double()
    by_hand = 0.1 * yearly.clamp(max=30_000) + 0.5 * (yearly - 30_000).clamp(min=0)
    assert torch.allclose(12 * state["tax"].double(), by_hand, rtol=1e-5, atol=1e-2)
    assert (yearly > 30_000).any()
    assert (state["income"][TOWN.age == 0] == 0).all()


def test_goods_are_never_sold_twice_and_prices_move_with_the_imbalance():
    scarce = months(8, consumption=torch.ones(6), rules=LabourRules(price=5.0))
    glut = months(8, consumption=torch.full((6,), 0.05))
    assert scarce.imbalance[0] > 0
    assert (glut.imbalance < 0).all()
    assert scarce.price[0] > 5
    assert glut.price[-1] < 20
    assert (glut.wage.diff() <= 0).all()
    assert scarce.state["inventory"] >= 0
    state = months(1, consumption=torch.ones(6), rules=LabourRules(price=5.0)).state
    assert float(state["spent"].double().sum() / 5) == pytest.approx(float(state["supply"]), rel=1e-5)
    for outcome, start in ((scarce, 5.0), (glut, 20.0)):
        change = torch.cat([torch.tensor([start]), outcome.price])
        change = (change[1:] / change[:-1] - 1).abs()
        assert (change <= 0.1 * outcome.imbalance.abs() + 1e-6).all()


def test_the_taylor_rule_has_its_slopes_and_never_falls_below_zero():
    rules = LabourRules()
    zero = torch.tensor(0.0)
    at_target = rules.interest(torch.tensor(0.02), torch.tensor(0.04))
    assert float(at_target) == pytest.approx(0.03)
    assert float(rules.interest(torch.tensor(0.04), torch.tensor(0.04)) - at_target) == pytest.approx(0.01)
    assert float(rules.interest(torch.tensor(0.02), torch.tensor(0.06)) - at_target) == pytest.approx(-0.01)
    assert rules.interest(torch.tensor(-0.5), torch.tensor(0.9)) == zero
    outcome = months(6)
    unemployment = outcome.claims.sum(1) / (outcome.claims + outcome.willing).sum(1)
    inflation = outcome.price / 20 - 1  # the price of twelve months before is still the first one
    assert torch.allclose(outcome.interest, rules.interest(inflation, unemployment), atol=1e-6)


def test_behaviour_is_asked_every_month_and_going_on_equals_going_through():
    asked = []

    def tired(month, history):
        asked.append((month, len(history.willing)))
        return WORK * (0.5 if month >= 2 else 1.0)

    whole = months(5, work=tired)
    assert asked == [(m, m) for m in range(5)]
    assert whole.willing[2].sum() < 0.6 * whole.willing[1].sum()
    plain, first = months(5), months(2)
    second = months(3, start=(2, first.state))
    assert torch.equal(torch.cat([first.wage, second.wage]), plain.wage)
    assert torch.equal(second.state["savings"], plain.state["savings"])


def test_gradients_of_unemployment_are_the_people_of_each_group():
    work = WORK.clone().requires_grad_()
    outcome = months(3, work=work, differentiable=True)
    assert torch.equal(outcome.willing.detach(), months(3).willing)
    outcome.claims.sum().backward(retain_graph=True)
    assert torch.allclose(work.grad[1:5], -3 * TOWN.counts().sum(0)[1:5].float())
    share = CONSUME.clone().requires_grad_()
    months(3, consumption=share, differentiable=True).price[-1].backward()
    assert (share.grad[1:5] > 0).all()


def test_the_tied_regression_finds_its_coefficients_and_refuses_one_for_every_month():
    generator = torch.Generator().manual_seed(0)
    willing = 1000 + 4000 * torch.rand(20, 5, generator=generator)
    claims = 100 + 900 * torch.rand(20, 5, generator=generator)
    planted = [torch.randn(5, generator=generator) for _ in range(3)]
    rates = borough_unemployment(willing, claims, *planted)
    for got, true in zip(fit_tied(willing, claims, rates), planted, strict=True):
        assert torch.allclose(got, true, atol=0.02)
    fitted = fit_tied(willing, claims, rates)
    assert torch.allclose(borough_unemployment(willing, claims, *fitted), rates, atol=1e-3)
    noise = torch.randn(20, 5, generator=generator)
    left = borough_unemployment(willing, claims, *fit_tied(willing, claims, noise)) - noise
    assert left.std() > 0.7  # three numbers do not fit twenty
    with pytest.raises(UsageError, match="the same in all months"):
        borough_unemployment(willing, claims, torch.zeros(20, 5), planted[1], planted[2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "at least one month"),
        ({"work": torch.full((6,), 1.5)}, "0 to 1"),
        ({"work": torch.zeros(2, 6)}, "covers 2 months; 6 are"),
        ({"consumption": torch.zeros(3)}, r"by group, \[6\], got \[3\]"),
        ({"groups": torch.zeros(5, dtype=torch.int32)}, "groups must be"),
        ({"rules": LabourRules(working=(9,))}, "no agent is of the working ages"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        months(**given)
    with pytest.raises(UsageError, match="below 1"):
        LabourRules(most_price_change=1.0)
