"""Orders per second of the order book, against two order books in pure Python from PyPI.

Neither is a dependency; one that is missing is not measured (pip install pyorderbook lightmatchingengine)."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Literal, NamedTuple

from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "order book"
TARGETS = {"pyorderbook": Target(1.0), "lightmatchingengine": Target(1.0)}
MIDDLE, SPREAD, LARGEST, CANCELLED = 3000, 100, 500, 0.2


class Event(NamedTuple):
    """An order that comes, or the cancellation of an earlier one."""

    side: Literal["buy", "sell"]
    amount: int
    price: int
    """Cents."""
    cancels: int | None
    """Place of the order that is taken out, if it still rests; None: this is an order."""


def stream(count: int) -> list[Event]:
    """The same random orders for all: limits around a middle price, a fifth of the events cancel an earlier order."""
    drawn, events = random.Random(0), list[Event]()
    for place in range(count):
        cancels = drawn.randrange(place) if place and drawn.random() < CANCELLED else None
        side: Literal["buy", "sell"] = "buy" if drawn.random() < 0.5 else "sell"
        price = MIDDLE + round(drawn.gauss(-SPREAD / 4 if side == "buy" else SPREAD / 4, SPREAD))
        events.append(Event(side, drawn.randint(1, LARGEST), price, cancels))
    return events


def ours(turn: Turn, *, orders: int) -> None:
    """Every order is of another trader, since ours lets nobody trade with itself and the others do."""
    from pilotage.systems.societies.stock_agent.env.order_book import OrderBook

    events = stream(orders)

    def repetition() -> dict[str, float]:
        book, trades, shares = OrderBook(), 0, 0
        numbers: dict[int, int] = {}
        for place, event in enumerate(events):
            if event.cancels is not None:
                if (number := numbers.get(event.cancels)) is not None and number in book:
                    book.cancel(number)
                continue
            outcome = book.submit(place, event.side, event.amount, event.price)
            numbers[place] = outcome.number
            trades += len(outcome.trades)
            shares += sum(trade.amount for trade in outcome.trades)
        return {"trades": trades, "shares": shares}

    turn.serve(repetition)


def with_pyorderbook(turn: Turn, *, orders: int) -> None:
    """pyorderbook: prices are Decimals, made before the clock starts."""
    from decimal import Decimal

    from pyorderbook import Book, ask, bid

    events = [(event, Decimal(event.price)) for event in stream(orders)]

    def repetition() -> dict[str, float]:
        book, trades, shares = Book(), 0, 0
        came = {}
        for place, (event, price) in enumerate(events):
            if event.cancels is not None:
                order = came.get(event.cancels)
                if order is not None and order.id in book.order_map:
                    book.cancel(order)
                continue
            came[place] = order = (bid if event.side == "buy" else ask)("A", price, event.amount)
            made = book.match(order).trades
            trades += len(made)
            shares += sum(trade.fill_quantity for trade in made)
        return {"trades": trades, "shares": shares}

    turn.serve(repetition)


def with_lightmatchingengine(turn: Turn, *, orders: int) -> None:
    """lightmatchingengine: it gives a trade for the taker and one for every maker."""
    from lightmatchingengine.lightmatchingengine import LightMatchingEngine
    from lightmatchingengine.lightmatchingengine import Side as Sides

    events = stream(orders)

    def repetition() -> dict[str, float]:
        engine, trades, shares = LightMatchingEngine(), 0, 0
        came = {}
        for place, event in enumerate(events):
            if event.cancels is not None:
                order = came.get(event.cancels)
                if order is not None and order.leaves_qty:
                    engine.cancel_order(order.order_id, "A")
                    del came[event.cancels]
                continue
            side = Sides.BUY if event.side == "buy" else Sides.SELL
            came[place], made = engine.add_order("A", event.price, event.amount, side)
            makers = [trade for trade in made if trade.trade_side != side]
            trades += len(makers)
            shares += sum(trade.trade_qty for trade in makers)
        return {"trades": trades, "shares": shares}

    turn.serve(repetition)


def measure(quick: bool) -> Iterator[Figure]:
    """Microseconds per event on one thread."""
    orders, rounds = (500, 2) if quick else (20_000, 7)
    for name, place in (("pyorderbook", with_pyorderbook), ("lightmatchingengine", with_lightmatchingengine)):
        if importlib.util.find_spec(name) is None:
            print(f"{NAME}: {name} is not installed, its line is not measured (pip install {name})", file=sys.stderr)
            continue
        settings = {"orders": orders}
        mine, other = alternate(
            [
                Side("benchmarks.order_book:ours", settings),
                Side(f"benchmarks.order_book:{place.__name__}", settings),
            ],
            threads=1,
            rounds=rounds,
        )
        same = all(mine[0][fact] == other[0][fact] for fact in ("trades", "shares"))
        yield figure(
            f"{NAME}/{name}",
            [1e6 * seconds / orders for seconds in column(mine, "seconds")],
            [1e6 * seconds / orders for seconds in column(other, "seconds")],
            peer_version=f"{name} {version(name)}",
            note=f"µs per order or cancellation, {orders:,} of them, {mine[0]['trades']:,.0f} trades; "
            + ("the same trades on both sides" if same else f"the other side made {other[0]['trades']:,.0f}"),
        )
