"""The loop of days and the scripted traders: what moves prices, what is seen, and what luck has in common."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.systems.societies.stock_agent.helpers import scaled_market

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.forum import ForumDigest, Post
from pilotage.systems.societies.stock_agent.env.ledger import MONTH
from pilotage.systems.societies.stock_agent.env.market import InformationChannels, Market, Promoter, make_market
from pilotage.systems.societies.stock_agent.env.population import CHARACTERS, draw_population
from pilotage.systems.societies.stock_agent.env.scenario import load_scenario
from pilotage.systems.societies.stock_agent.env.traders import Rules, ScriptedTraders
from pilotage.systems.societies.stock_agent.env.views import Borrowing, OrderIntent, TraderForecast

SCENARIO = load_scenario()
SMALL = {"agents": 8, "days": 22, "seed": 3}


class Puppets:
    """Traders who do what a function says, and keep the views that they were shown."""

    scripted = True
    exhausted = ""

    def __init__(self, order=lambda *_: None, borrow=lambda *_: None):
        self._order, self._borrow, self.views, self.counts = order, borrow, [], Counter()

    def borrow(self, view):
        self.views.append(view)
        return [self._borrow(view, trader) for trader in range(len(view.population.cash))]

    def open_session(self, view):
        pass

    def order(self, view, trader):
        return self._order(view, trader)

    def forecast(self, view):
        return [TraderForecast((True,), (False,), False) for _ in view.population.cash]

    def post(self, view):
        return [Post(trader, (0.5, -0.5), f"day {view.day}") for trader in range(len(view.population.cash))]

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def scripted(agents=8, styles=("value", "trend"), rules=None):
    return ScriptedTraders((list(styles) * agents)[:agents], rules)


def run(market, days=None):
    while not market.over and (days is None or market.day < days):
        market.advance()
    return market


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return one == other


def test_prices_move_by_trades_alone():
    market = run(make_market(SCENARIO, Puppets(), **SMALL))
    assert {tuple(price) for day in market.record.prices for price in day} == {(3000, 4000)}
    assert market.record.table("trades").shape == (0, 7)
    assert market.counts["held"] == 8 * 22 * 3 - 3 * market.counts["bankrupt"]  # these leave on day 22


def test_a_price_is_that_of_its_sessions_last_trade():
    market = run(make_market(SCENARIO, scripted(), **SMALL))
    trades, prices = market.record.trades, [3000, 4000]
    assert len(trades) > 30
    for day in range(22):
        for session in range(3):
            for stock in range(2):
                own = [trade[3] for trade in trades if trade[:3] == (day + 1, session + 1, stock)]
                prices[stock] = own[-1] if own else prices[stock]
            assert market.record.prices[day][session] == prices


def test_nothing_is_created_or_destroyed_in_half_a_year():
    market = run(make_market(SCENARIO, scripted(12), agents=12, days=132, seed=0), 132)
    ledger = market.exchange.ledger
    market.exchange.clear()
    assert (ledger.shares.sum(0) == ledger.opening_shares).all()
    assert ledger.cash.sum() == ledger.opening_cash + sum(ledger.flows.values())
    assert ledger.flows["loans"] == market.record.column("loans", "principal").sum()
    assert min(ledger.flows["repayments"], ledger.flows["interest"]) < 0 < ledger.flows["loans"]
    assert market.record.column("trades", "amount").min() > 0


def test_the_history_of_trades_survives_the_clearing_of_the_book():
    """Defect (c): trades are kept, not a list that the next day empties."""
    market = run(make_market(SCENARIO, scripted(), **SMALL), 5)
    kept = list(market.record.trades)
    run(market, 6)
    assert market.record.trades[: len(kept)] == kept
    assert {trade[0] for trade in kept} >= {1, 2}


def test_a_restored_market_goes_on_as_if_nothing_had_happened():
    straight = run(make_market(SCENARIO, scripted(), **SMALL))
    first = run(make_market(SCENARIO, scripted(), **SMALL), 9)
    second = make_market(SCENARIO, scripted(), **SMALL)
    second.load_state_dict(first.state_dict())
    assert same(run(second).state_dict(), straight.state_dict())


def test_luck_is_shared_until_the_first_difference():
    """Reports off: nothing differs before day 12, and something does afterwards."""
    one = run(make_market(SCENARIO, scripted(), **SMALL))
    other = run(make_market(SCENARIO, scripted(), **SMALL, channels=InformationChannels(reports=False)))
    assert one.record.prices[:11] == other.record.prices[:11]
    assert one.record.prices[11:] != other.record.prices[11:]


def test_nobody_knows_a_report_before_its_day():
    surprised = SCENARIO.surprised(0, 12, 0.5)
    one = run(make_market(SCENARIO, scripted(), **SMALL), 12)
    other = run(make_market(surprised, scripted(), **SMALL), 12)
    before = [order for order in one.record.orders if order[0] < 12]
    assert before == [order for order in other.record.orders if order[0] < 12]
    assert one.record.orders != other.record.orders


def test_a_switch_hides_what_it_names():
    full, off = Puppets(), Puppets()
    switches = InformationChannels(rate_events=False, reports=False, forum=False, news=False)
    run(make_market(SCENARIO, full, agents=2, days=80, seed=0))
    run(make_market(SCENARIO, off, agents=2, days=80, seed=0, channels=switches))
    day_12, day_30, day_78 = (full.views[day - 1] for day in (12, 30, 78))
    assert "quarter 13" in day_12.firms[0].report
    assert day_30.firms[0].report == ""
    assert "order books" in day_30.news
    assert day_30.sentiment == 0.5
    assert day_78.rates == (24_000, 27_000, 30_000)
    assert "smaller reserves" in day_78.announcement
    assert "2 of 2 posts" in day_12.digest.text()
    for view in off.views:
        assert not any(firm.report for firm in view.firms)
        assert (view.news, view.announcement, view.sentiment, view.digest.posts) == ("", "", 0.0, ())
        assert view.rates == (27_000, 30_000, 33_000)
        assert view.firms[0].value == off.views[0].firms[0].value


def test_debts_are_served_before_anybody_acts():
    seen = []
    puppets = Puppets(borrow=lambda view, _: seen.append(view.exchange.ledger.owed().copy()))
    market = make_market(SCENARIO, puppets, agents=6, days=MONTH, seed=1)
    first = [loan for loan in market.exchange.ledger.loans if loan.due == MONTH]
    assert first
    run(market)
    assert seen[-1].sum() < seen[0].sum()
    flows = market.exchange.ledger.flows
    owed = round(sum(loan.principal * (1 + loan.rate / 1e6) for loan in first))
    assert -flows["repayments"] == pytest.approx(owed, abs=len(first))


def test_what_the_market_refuses_counts_by_kind_and_changes_nothing():
    intents = [
        OrderIntent(5, "buy", 1, 1),
        OrderIntent(0, "hold", 1, 1),
        OrderIntent(0, "buy", 0, 1),
        OrderIntent(0, "buy", 1, 2.5),
        OrderIntent(0, "buy", 10**9, 10**6),
    ]
    loans = [Borrowing(3, 100), Borrowing(0, 0), Borrowing(0, 10**12), Borrowing(True, 100)]
    puppets = Puppets(lambda _, trader: intents[trader], lambda _, trader: dict(enumerate(loans)).get(trader))
    market = run(make_market(SCENARIO, puppets, agents=5, days=1, seed=0, sessions=1))
    refused = {name: count for name, count in market.counts.items() if name.startswith("refused/")}
    expected = {"stock": 1, "side": 1, "amount": 1, "price": 1, "funds": 1, "loan_type": 2, "loan_amount": 2}
    assert refused == {f"refused/{kind}": count for kind, count in expected.items()}
    assert not market.record.orders
    assert not market.record.loans


def test_loans_stop_at_the_opening_wealth():
    puppets = Puppets(borrow=lambda view, trader: Borrowing(2, int(view.limit()[trader])) if view.day == 1 else None)
    market = run(make_market(SCENARIO, puppets, agents=4, days=2, seed=0), 2)
    assert market.exchange.ledger.owed().tolist() == market.population.wealth.tolist()
    assert puppets.views[1].limit().tolist() == [0] * 4
    assert "up to 0" in puppets.views[1].refuses_loan(0, Borrowing(0, 1))


def test_a_market_of_bankrupts_stops_and_says_why():
    population = draw_population(3, SCENARIO.prices, 30, 0)
    poor = replace(
        population,
        cash=np.zeros(3, np.int64),
        shares=np.zeros((3, 2), np.int64),
        debt=np.full(3, 1000),
        due=np.full(3, 22),
        wealth=np.zeros(3, np.int64),  # nobody lends to them
    )
    market = run(Market(SCENARIO, scripted(3), poor, seed=0, days=30))
    assert market.day == 22
    assert "bankrupt" in market.stopped
    assert market.counts["bankrupt"] == 3
    with pytest.raises(UsageError, match="bankrupt"):
        market.advance()


def test_a_population_is_drawn_within_the_scenarios_bounds():
    population = draw_population(400, SCENARIO.prices, 264, 0)
    assert population.wealth.min() >= 100 * 1e5
    assert population.wealth.max() <= 100 * 5e6
    assert (population.debt <= population.wealth).all()
    assert set(population.due.tolist()) == set(range(22, 265, 22))
    counts = np.bincount(population.character, minlength=len(CHARACTERS))
    assert ((counts - 100) ** 2 / 100).sum() < 16.3  # χ², 3 degrees of freedom, p = .001
    wealth = population.cash + population.shares @ np.array(SCENARIO.prices)
    assert (wealth == population.wealth).all()


# ---- the scripted traders ------------------------------------------------------------------------------------------


def view_of(**changed):
    puppets = Puppets()
    run(make_market(SCENARIO, puppets, agents=30, days=7, seed=0))
    return replace(puppets.views[-1], **changed)


CHANGES = {
    "good news": lambda _: {"sentiment": 0.5},
    "praise": lambda _: {"digest": ForumDigest((Post(0, (0.8, 0.8), ""),), 1)},
    "a raised valuation": lambda view: {
        "firms": tuple(replace(firm, value=1.1 * firm.value) for firm in view.firms),
    },
}


@pytest.mark.parametrize("style", ["value", "trend"])
@pytest.mark.parametrize("change", CHANGES)
def test_every_input_raises_expectations_and_what_is_wanted(style, change):
    plain, traders = view_of(), scripted(30, [style])
    changed = replace(plain, **CHANGES[change](plain))
    before, after = traders.expected(plain), traders.expected(changed)
    assert (after > before).all()
    wanted = traders.wanted(changed, after).sum(1) - traders.wanted(plain, before).sum(1)
    assert (wanted > -1e-9).all()
    assert wanted.sum() > 0
    assert sum(sum(post.sentiment) for post in traders.post(changed)) > sum(
        sum(post.sentiment) for post in traders.post(plain)
    )


def test_a_rise_attracts_trend_followers_and_repels_the_value_anchored():
    plain = view_of()
    risen = replace(plain, closes=[[2700, 3600]] * 3 + [[2800, 3800]] * 3 + [[3000, 4000]])
    for style, sign in (("trend", 1), ("value", 0)):
        traders = scripted(30, [style])
        assert (np.sign((traders.expected(risen) - traders.expected(plain)).round(12)) == sign).all()


def test_cheaper_loans_are_taken_more():
    traders, plain = scripted(30, rules=Rules(bias=0.2)), view_of()
    cheap, dear = (replace(plain, rates=(rate,) * 3) for rate in (0, 200_000))
    sums = [sum(loan.principal for loan in traders.borrow(view) if loan) for view in (cheap, plain, dear)]
    assert sums[0] > sums[1] > sums[2]


def test_bids_in_the_book_attract_buyers():
    traders = scripted(30, rules=Rules(bias=0, noise=0, book=0.5))
    plain = view_of()
    traders.open_session(plain)

    def amounts():
        intents = [traders.order(plain, trader) for trader in range(30)]
        return sum(intent.amount * (1 if intent.side == "buy" else -1) for intent in intents if intent)

    before = amounts()
    richest = int(plain.exchange.ledger.cash[:-1].argmax())
    for stock in (0, 1):
        plain.exchange.place(richest, stock, "buy", 1, 100)
    assert amounts() > before


def test_scaled_money_leaves_relative_actions_as_they_are():
    orders = []
    for factor in (100.0, 730.0):  # at 30 dollars the rounding to whole cents alone moves orders
        market = scaled_market(scripted(30), factor, agents=30, days=1, seed=0, sessions=1)
        orders.append(run(market).record.table("orders"))
    small, large = orders
    assert len(small) > 10
    assert (small[:, :5] == large[:, :5]).all()
    np.testing.assert_allclose(large[:, 5], small[:, 5], rtol=0.01, atol=1)
    np.testing.assert_allclose(large[:, 6] / 7.3, small[:, 6], rtol=0.001)


def test_swapped_firms_swap_the_actions():
    rules, orders = Rules(bias=0, noise=0, forum=0), []
    population = draw_population(30, SCENARIO.prices, 1, 0)
    for swap in (False, True):
        scenario = SCENARIO.swapped() if swap else SCENARIO
        held = population.shares[:, ::-1] if swap else population.shares
        market = Market(
            scenario, scripted(30, rules=rules), replace(population, shares=held), seed=0, days=1, sessions=1
        )
        orders.append(run(market).record.table("orders"))
    plain, swapped = orders
    assert len(plain) > 10
    swapped[:, 3] = 1 - swapped[:, 3]
    assert (plain == swapped).all()


def test_a_promoter_writes_a_tenth_of_the_posts_every_other_month():
    puppets = Puppets()
    run(make_market(SCENARIO, puppets, agents=18, days=25, seed=0, promoter=Promoter(days=22)))
    assert puppets.views[1].digest.written == 20
    assert puppets.views[24].digest.written == 18


@pytest.mark.parametrize(
    "wrong", [{"days": 0}, {"sessions": 0}, {"estate_share": 2}, {"promoter": Promoter(share=1.0)}]
)
def test_markets_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        make_market(SCENARIO, Puppets(), **{**SMALL, **wrong})


def test_unknown_styles_are_refused():
    with pytest.raises(UsageError, match="value or trend"):
        ScriptedTraders(["momentum"])
