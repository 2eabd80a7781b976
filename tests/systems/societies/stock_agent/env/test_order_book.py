"""The book: who trades with whom at which price, whatever comes in whatever order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.order_book import RULES, OrderBook

ORDERS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["buy", "sell"]), st.integers(1, 9), st.integers(8, 12)), max_size=40
)


def prices_and_amounts(outcome):
    return [(trade.price, trade.amount) for trade in outcome.trades]


def test_the_best_price_trades_first_and_the_oldest_among_equals_at_the_resting_price():
    book = OrderBook()
    dear, first, second = (book.submit(0, "sell", 5, price).number for price in (12, 10, 10))
    outcome = book.submit(1, "buy", 12, 13)
    assert prices_and_amounts(outcome) == [(10, 5), (10, 5), (12, 2)]
    assert [trade.maker for trade in outcome.trades] == [first, second, dear]
    assert {(trade.buyer, trade.seller, trade.bought_at) for trade in outcome.trades} == {(1, 0, 13)}
    assert book.depth("sell") == [(12, 3)]


def test_a_partly_filled_order_keeps_its_place_in_the_queue():
    book = OrderBook()
    first = book.submit(0, "buy", 5, 10).number
    book.submit(1, "buy", 5, 10)
    book.submit(2, "sell", 2, 10)
    assert [trade.maker for trade in book.submit(2, "sell", 3, 10).trades] == [first]


def test_an_ask_below_every_bid_trades_at_the_bid():
    """Defect (f): a price that only one side quotes must trade all the same."""
    book = OrderBook()
    book.submit(0, "buy", 4, 11)
    assert prices_and_amounts(book.submit(1, "sell", 4, 9)) == [(11, 4)]
    assert len(book) == 0


def test_exact_matching_trades_equal_prices_only():
    book = OrderBook("exact")
    book.submit(0, "buy", 4, 11)
    book.submit(2, "buy", 4, 10)
    assert prices_and_amounts(book.submit(1, "sell", 3, 9)) == []
    assert prices_and_amounts(book.submit(1, "sell", 3, 10)) == [(10, 3)]
    assert (book.best("buy"), book.best("sell")) == (11, 9)  # crossed, as this rule leaves it


def test_an_exactly_filled_order_leaves_the_book():
    """Defect (e): an order of 0 shares must neither rest nor trade."""
    for rule in RULES:
        book = OrderBook(rule)
        number = book.submit(0, "sell", 4, 10).number
        book.submit(1, "buy", 4, 10)
        assert len(book) == 0
        assert book.best("sell") is None
        assert book.submit(1, "buy", 1, 10).trades == ()
        with pytest.raises(UsageError, match="no order"):
            book.cancel(number)


def test_nobody_trades_with_itself():
    book = OrderBook()
    own = book.submit(0, "sell", 4, 9).number
    book.submit(1, "sell", 4, 10)
    outcome = book.submit(0, "buy", 3, 10)
    assert [order.number for order in outcome.withdrawn] == [own]
    assert prices_and_amounts(outcome) == [(10, 3)]


def test_a_cancelled_order_trades_no_more_and_the_others_keep_their_order():
    book = OrderBook()
    first, second, third = (book.submit(0, "buy", 1, 10).number for _ in range(3))
    assert book.cancel(second).amount == 1
    outcome = book.submit(1, "sell", 3, 10)
    assert [trade.maker for trade in outcome.trades] == [first, third]
    assert outcome.resting == 1


def test_trades_stay_what_they_were_after_the_book_is_cleared():
    """Defect (c): the history must not be emptied with the book."""
    book = OrderBook()
    book.submit(0, "sell", 2, 10)
    outcome = book.submit(1, "buy", 5, 10)
    kept = list(outcome.trades)
    assert [order.amount for order in book.clear()] == [3]
    assert list(outcome.trades) == kept != []
    assert len(book) == 0


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=80, deadline=None)
@given(ORDERS)
def test_shares_asked_for_are_traded_resting_or_withdrawn(rule, orders):
    book, sent, traded, out = OrderBook(rule), {"buy": 0, "sell": 0}, 0, {"buy": 0, "sell": 0}
    for trader, side, amount, price in orders:
        outcome = book.submit(trader, side, amount, price)
        sent[side] += amount
        for trade in outcome.trades:
            assert trade.amount > 0
            assert trade.buyer != trade.seller
            assert trade.bought_at >= trade.price
            assert price >= trade.price if side == "buy" else price <= trade.price
            assert rule != "exact" or trade.price == trade.bought_at == price
            traded += trade.amount
        for order in outcome.withdrawn:
            out[order.side] += order.amount
        bid, ask = book.best("buy"), book.best("sell")
        assert rule == "exact" or bid is None or ask is None or bid < ask
        assert all(order.amount > 0 for order in book)
    for side in ("buy", "sell"):
        resting = sum(order.amount for order in book if order.side == side)
        assert sent[side] == traded + resting + out[side]
        assert sum(amount for _, amount in book.depth(side)) == resting
        assert len(book.depth(side, 1)) <= 1


@settings(max_examples=30, deadline=None)
@given(ORDERS, ORDERS)
def test_a_restored_book_goes_on_like_the_first(before, after):
    book = OrderBook()
    for order in before:
        book.submit(*order)
    restored = OrderBook()
    restored.load_state_dict(book.state_dict())
    for order in after:
        assert restored.submit(*order) == book.submit(*order)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((0, "hold", 1, 10), "buy or sell"),
        ((0, "buy", 0, 10), "amount"),
        ((0, "buy", 1.5, 10), "amount"),
        ((0, "buy", True, 10), "amount"),
        ((0, "sell", 1, 0), "price"),
        ((0, "sell", 1, "10"), "price"),
    ],
)
def test_orders_that_cannot_be_are_refused(order, words):
    book = OrderBook()
    with pytest.raises(UsageError, match=words):
        book.submit(*order)
    assert len(book) == 0


def test_an_unknown_rule_is_refused():
    with pytest.raises(UsageError, match="continuous or exact"):
        OrderBook("auction")
