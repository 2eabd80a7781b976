"""Cash and shares: nothing comes from nowhere, and nothing goes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.exchange import StockExchange
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, LOAN_RATES, Ledger, LedgerBroken
from pilotage.systems.societies.stock_agent.env.order_book import RULES


def exchange(rule="continuous", cash=(10_000, 10_000, 10_000), shares=((50, 0), (0, 50), (20, 20))):
    return StockExchange(Ledger(np.array(cash), np.array(shares)), [100, 200], rule)


def test_a_trade_moves_amount_shares_and_amount_times_price_cents():
    """Defect (a): shares by the amount, cash by the value, never the other way round."""
    market = exchange()
    market.place(0, 0, "sell", 7, 90)
    market.place(1, 0, "buy", 7, 95)
    ledger = market.ledger
    assert ledger.shares[:2, 0].tolist() == [43, 7]
    assert ledger.cash[:2].tolist() == [10_630, 9_370]
    assert not ledger.cash_aside.any()
    assert not ledger.shares_aside.any()
    market.end_session()
    assert market.prices == [90, 200]


def test_what_rests_cannot_be_sold_or_spent_again():
    """Defect (d): several resting orders must not oversell."""
    market = exchange()
    market.place(0, 0, "sell", 30, 110)
    with pytest.raises(UsageError, match="free shares are 20"):
        market.place(0, 0, "sell", 30, 110)
    market.place(1, 0, "buy", 60, 100)
    with pytest.raises(UsageError, match="free cash in cents are 4000"):
        market.place(1, 1, "buy", 30, 200)
    assert market.clear() == 2
    assert market.ledger.cash.tolist() == [10_000, 10_000, 10_000, 0]
    assert market.ledger.shares[0].tolist() == [50, 0]


def test_prices_change_at_the_end_of_a_session_to_the_last_trade():
    market = exchange()
    market.place(0, 0, "sell", 1, 90)
    market.place(0, 0, "sell", 1, 95)
    market.place(1, 0, "buy", 2, 95)
    assert market.prices == [100, 200]
    market.end_session()
    assert market.prices == [95, 200]
    market.end_session()
    assert market.prices == [95, 200]


@pytest.mark.parametrize("rule", RULES)
def test_a_hundred_thousand_orders_create_and_destroy_nothing(rule):
    generator = np.random.default_rng(0)
    traders = 20
    market = exchange(rule, generator.integers(0, 10**6, traders), generator.integers(0, 500, (traders, 2)))
    ledger, placed, traded = market.ledger, 0, 0
    draws = zip(
        generator.integers(0, traders, 100_000).tolist(),
        generator.integers(0, 2, 100_000).tolist(),
        generator.random(100_000).tolist(),
        generator.integers(1, 60, 100_000).tolist(),
        generator.integers(90, 111, 100_000).tolist(),
        strict=True,
    )
    for number, (trader, stock, toss, amount, price) in enumerate(draws):
        side = "buy" if toss < 0.5 else "sell"
        if not ledger.affords(trader, stock, side, amount, price):
            placed += 1
            traded += sum(trade.amount for trade in market.place(trader, stock, side, amount, price).trades)
        if number % 500 == 499:
            market.end_session()
        if number % 5_000 == 4_999:
            market.clear()
    assert placed > 20_000
    assert traded > 10_000
    market.clear()
    ledger.check()
    assert ledger.cash.sum() == ledger.opening_cash
    assert (ledger.shares.sum(0) == ledger.opening_shares).all()
    assert sum(ledger.flows.values()) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from(["buy", "sell"]), st.integers(1, 60)),
        max_size=25,
    ),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 20_000)), max_size=6),
    st.data(),
)
def test_orders_loans_interest_and_bankruptcy_keep_the_books_straight(orders, loans, data):
    market = exchange()
    ledger = market.ledger
    for day in range(1, 68):
        for trader, kind, principal in loans if day == 1 else []:
            ledger.borrow(trader, kind, principal, LOAN_RATES[kind], day)
        if day in (1, 23):
            for trader, stock, side, amount in orders:
                price = data.draw(st.integers(50, 250))
                if ledger.active[trader] and not ledger.affords(trader, stock, side, amount, price):
                    market.place(trader, stock, side, amount, price)
            market.end_session()
        market.clear()
        ledger.repay(day)
        ledger.pay_interest(day)
        left = ledger.settle_insolvent(market.prices)
        ledger.check()
        assert not ledger.active[left].any()
        assert all(loan.trader not in left for loan in ledger.loans)
    assert not ledger.loans


def test_a_loan_pays_interest_each_month_and_principal_with_rate_at_maturity():
    ledger = Ledger([1_000_000], [[0]])
    loan = ledger.borrow(0, 2, 120_000, LOAN_RATES[2], day=10)
    assert loan.due == 10 + LOAN_DAYS[2] == 76
    assert ledger.cash[0] == 1_120_000
    assert [ledger.pay_interest(day) for day in (21, 22, 44, 66)] == [0, 330, 330, 330]
    assert ledger.repay(75) == 0
    assert ledger.repay(76) == 123_960
    assert ledger.flows == {"loans": 120_000, "repayments": -123_960, "interest": -990, "exits": 0}
    assert ledger.cash[0] == 1_000_000 - 3_960 - 990
    ledger.check()


def test_interest_is_rounded_to_the_nearest_cent():
    ledger = Ledger([1_000], [[0]])
    ledger.borrow(0, 0, 200, 30_000, day=0)  # 200 · 0.03 / 12 = 0.5
    assert ledger.pay_interest(22) == 1
    ledger = Ledger([1_000], [[0]])
    ledger.borrow(0, 0, 199, 30_000, day=0)
    assert ledger.pay_interest(22) == 0


def test_who_runs_out_of_cash_sells_the_first_stock_first_and_no_more_than_needed():
    ledger = Ledger([100, 0], [[3, 5], [0, 0]])
    ledger.open_loan(0, 0, 700, 0, due=5)
    ledger.repay(5)
    assert ledger.settle_insolvent([100, 100]) == []
    assert ledger.shares.tolist() == [[0, 2], [0, 0], [3, 3]]
    assert ledger.cash[0] == 0
    assert ledger.active.all()
    ledger.check()


def test_who_cannot_pay_with_all_it_has_leaves_and_its_shares_stay():
    ledger = Ledger([100, 0], [[3, 5], [0, 0]])
    ledger.open_loan(0, 0, 1_000, 0, due=5)
    ledger.open_loan(0, 1, 50, 0, due=50)
    ledger.repay(5)
    assert ledger.settle_insolvent([100, 100]) == [0]
    assert ledger.active.tolist() == [False, True]
    assert ledger.loans == []
    assert ledger.flows["exits"] == 100
    ledger.check()
    market = StockExchange(ledger, [100, 100])
    with pytest.raises(UsageError, match="left the market"):
        market.place(0, 0, "buy", 1, 1)


def test_wealth_counts_what_is_set_aside_and_takes_debts_off():
    market = exchange()
    market.ledger.borrow(0, 0, 500, LOAN_RATES[0], day=1)
    before = market.ledger.wealth(market.prices)
    market.place(0, 0, "sell", 10, 150)
    market.place(1, 0, "buy", 10, 50)
    assert (market.ledger.wealth(market.prices) == before).all()
    assert before[0] == 10_000 + 50 * 100


@pytest.mark.parametrize("break_it", ["shares", "cash", "negative"])
def test_a_broken_ledger_is_noticed(break_it):
    ledger = Ledger([100, 100], [[1, 1], [1, 1]])
    if break_it == "shares":
        ledger.shares[0, 1] += 1
    elif break_it == "cash":
        ledger.cash[0] -= 1
    else:
        ledger.cash[:2] += [200, -200]
    with pytest.raises(LedgerBroken):
        ledger.check()


def test_a_restored_exchange_is_the_same():
    market = exchange()
    market.ledger.borrow(2, 1, 500, LOAN_RATES[1], day=1)
    market.place(0, 0, "sell", 10, 150)
    market.place(1, 0, "buy", 10, 50)
    market.end_session()
    other = exchange(cash=(1, 1, 1))
    other.load_state_dict(market.state_dict())
    assert other.state_dict() == market.state_dict()
    other.place(2, 0, "buy", 4, 150)
    other.end_session()
    assert other.prices == [150, 200]


@pytest.mark.parametrize(
    ("cash", "shares"), [([1.5], [[1]]), ([-1], [[1]]), ([1], [[-1]]), ([1, 2], [[1]]), ([1], [1])]
)
def test_openings_that_cannot_be_are_refused(cash, shares):
    with pytest.raises(UsageError):
        Ledger(cash, shares)


@pytest.mark.parametrize("loan", [(0, 3, 100, 0), (0, 0, 0, 0), (0, 0, 1.5, 0), (0, 0, True, 0), (0, 0, 10, -1)])
def test_loans_that_cannot_be_are_refused(loan):
    ledger = Ledger([100], [[1]])
    with pytest.raises(UsageError):
        ledger.borrow(*loan, 1)
    assert not ledger.loans
    assert ledger.cash[0] == 100
