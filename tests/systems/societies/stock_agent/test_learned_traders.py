"""Learned traders in a market: what they see is relative, what they do is allowed, and luck depends on seed and day."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.systems.societies.stock_agent.helpers import scaled_market

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.market import Market
from pilotage.systems.societies.stock_agent.learned_traders import (
    FEATURES,
    ORDERS,
    Kind,
    LearnedTraders,
    Turn,
    log_wealth,
    wealth_changes,
)
from pilotage.systems.societies.stock_agent.model import TraderNetwork

KINDS: list[Kind] = ["learned", "value", "learned", "trend"]


@pytest.fixture(scope="module")
def network() -> TraderNetwork:
    """One with decided tastes, as after a training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TraderNetwork(FEATURES, len(ORDERS))
    with torch.no_grad():
        for layer in network.policy[::2]:
            layer.weight.mul_(3)
        network.policy[-1].weight.mul_(50)
    return network


def market(network: TraderNetwork, *, days: int = 25, scale: float = 1.0, agents: int = 8, turns=None) -> Market:
    traders = LearnedTraders(network, (KINDS * agents)[:agents], turns=turns)
    return scaled_market(traders, scale, agents=agents, seed=3, days=days)


def played(one: Market, days: int | None = None) -> Market:
    while not one.over and (days is None or one.day < days):
        one.advance()
    return one


def test_learned_traders_conserve_shares_and_cash_and_are_never_refused(network: TraderNetwork) -> None:
    one = played(market(network, days=70))  # the ledger is checked after every session
    orders = one.record.table("orders")
    assert set(orders[orders[:, 2] % 2 == 0][:, 4]) == {-1, 1}
    assert not [name for name in one.counts if name.startswith("refused/funds")]
    assert len(one.record.trades) > 50
    ledger = one.exchange.ledger
    assert ((ledger.shares + ledger.shares_aside).sum(0) == one.population.shares.sum(0)).all()


def test_they_take_no_loans_and_post_and_forecast_nothing(network: TraderNetwork) -> None:
    one = played(market(network, days=40))
    assert {loan[1] % 2 for loan in one.record.loans} == {1}, "scripted ones borrow"
    posts = one.forum.state_dict()["posts"]
    assert {post[0] % 2 for post in posts} == {1}


def test_prices_in_other_units_change_no_order(network: TraderNetwork) -> None:
    """At 100 and 730 times the scenario's money whole cents do not matter; traders' odds are equal up to rounding."""
    small, large = ([], [])
    for scale, turns in ((100.0, small), (730.0, large)):
        played(market(network, days=3, scale=scale, turns=turns))
    assert len(small) == len(large) == 3 * 3 * 4
    for one, other in zip(small, large, strict=True):
        assert np.allclose(one.observed, other.observed, atol=2e-3)
        assert (one.trader, one.choice) == (other.trader, other.choice)
        assert one.wealth == pytest.approx(other.wealth, abs=1e-4)
    assert len({turn.choice for turn in small}) > 3
    before = np.stack([turn.observed for turn in small])
    assert before.std((0, 1)).max() > 0.1, "what is seen differs between turns"


def test_stocks_that_change_places_change_the_places_of_their_odds(network: TraderNetwork) -> None:
    turns: list[Turn] = []
    played(market(network, days=2, turns=turns))
    policy = network.to_numpy()
    for turn in turns:
        odds = policy.probabilities(turn.observed, turn.allowed)
        swapped = policy.probabilities(turn.observed[::-1], turn.allowed.reshape(2, -1)[::-1].ravel())
        assert swapped[0] == pytest.approx(odds[0])
        assert swapped[1:].reshape(2, -1)[::-1].ravel() == pytest.approx(odds[1:])


def test_arrays_and_torch_give_the_same_odds_and_never_what_is_not_allowed(network: TraderNetwork) -> None:
    turns: list[Turn] = []
    played(market(network, days=5, turns=turns))
    policy = network.to_numpy()
    for turn in turns:
        odds = policy.probabilities(turn.observed, turn.allowed)
        exact = network.logits(torch.from_numpy(turn.observed), torch.from_numpy(turn.allowed)).softmax(-1)
        assert odds == pytest.approx(exact.detach().numpy(), abs=1e-5)
        assert (odds[1:][~turn.allowed] == 0).all()
    assert any(not turn.allowed.all() for turn in turns)


def test_a_market_that_is_put_away_goes_on_as_if_it_had_not_been(network: TraderNetwork) -> None:
    whole, begun, resumed = (market(network) for _ in range(3))
    played(whole)
    played(begun, days=11)
    resumed.load_state_dict(begun.state_dict())
    played(resumed)
    assert resumed.record.orders == whole.record.orders
    assert resumed.record.wealth == whole.record.wealth


def test_log_wealth_has_a_floor_and_changes_are_measured_by_kind(network: TraderNetwork) -> None:
    assert log_wealth(200, 100) == pytest.approx(np.log(2))
    assert log_wealth(-50, 100) == log_wealth(10, 100) == pytest.approx(np.log(0.1))
    one = played(market(network))
    before = (one.population.wealth - one.population.debt)[1::4]
    expected = np.log(np.maximum(np.array(one.record.wealth[-1])[1::4] / one.population.wealth[1::4], 0.1))
    expected -= np.log(np.maximum(before / one.population.wealth[1::4], 0.1))
    assert wealth_changes(one, "value") == pytest.approx(expected)


def test_a_network_made_for_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="train it anew"):
        LearnedTraders(TraderNetwork(FEATURES + 1, len(ORDERS)), KINDS)
