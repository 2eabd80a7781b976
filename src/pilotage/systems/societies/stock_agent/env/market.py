"""The loop of days: books are cleared, debts served, loans taken, orders matched in sessions, posts written.

Prices come from trades alone. Whatever is drawn here depends on the seed and the day, never on what happened before, so
that two markets of one seed that differ in a switch see the same luck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.events import rates_on, sentiment_on
from pilotage.systems.societies.stock_agent.env.exchange import Exchange
from pilotage.systems.societies.stock_agent.env.forum import Forum, Morning, Post
from pilotage.systems.societies.stock_agent.env.order_book import Rule
from pilotage.systems.societies.stock_agent.env.population import Population, draw_population
from pilotage.systems.societies.stock_agent.env.record import Record
from pilotage.systems.societies.stock_agent.env.scenario import Scenario
from pilotage.systems.societies.stock_agent.env.views import Firm, Forecast, Traders, View, Wish


@dataclass(frozen=True)
class Switches:
    """What traders learn from outside and from one another; what is off does not happen for them."""

    rate_events: bool = True
    reports: bool = True
    forum: bool = True
    news: bool = True


@dataclass(frozen=True)
class Loud:
    """A poster who praises a stock without reason, in months that alternate with silence."""

    share: float = 0.1
    """Of all posts of such a day, in (0, 1)."""
    stock: int = 0
    days: int = 22
    """Days on, then as many off."""

    def posts(self, day: int, others: int, stocks: int) -> list[Post]:
        """Those of a day, with the number N of traders as author's number."""
        if (day - 1) // self.days % 2:
            return []
        count = max(1, round(self.share / (1 - self.share) * others))
        tone = tuple(1.0 if stock == self.stock else 0.0 for stock in range(stocks))
        return [Post(others, tone, f"Stock {self.stock} is going to the sky, buy it while you can!")] * count


class Market:
    """A market that goes on day by day and can be put away between two of them."""

    def __init__(
        self,
        scenario: Scenario,
        traders: Traders,
        population: Population,
        *,
        seed: int,
        days: int = 264,
        sessions: int = 3,
        rule: Rule = "continuous",
        switches: Switches | None = None,
        loud: Loud | None = None,
        shown: int = 60,
        estate_share: float = 1 / 22,
    ) -> None:
        """sessions: a day; rule: how books match; shown: most posts that are shown on a morning; estate_share: part of
        the shares in the estate that is offered each day at the last price, 0 to 1."""
        if days < 1 or sessions < 1 or not 0 <= estate_share <= 1 or (loud and not 0 < loud.share < 1):
            raise UsageError(
                f"expected days and sessions of 1 or more and shares in [0, 1], got {days}, {sessions}, {estate_share}"
            )
        if population.shares.shape[1] != len(scenario.companies):
            raise UsageError(
                f"the population holds {population.shares.shape[1]} stocks, the scenario {len(scenario.companies)}"
            )
        self.scenario, self.traders, self.population, self.seed = scenario, traders, population, seed
        self.days, self.sessions, self.estate_share = days, sessions, estate_share
        self.switches, self.loud = switches or Switches(), loud
        self.exchange = Exchange(population.ledger(self._rates(0)), scenario.prices, rule)
        self.forum = Forum(most=shown)
        self.record = Record()
        self.counts = Counter[str]()
        """Turns by what came of them: placed, filled at once, held; refused orders and loans by kind; bankrupt."""
        self.day = 0
        """Days that are over."""
        self.stopped = ""
        """Why the market ended before its days; empty otherwise."""
        self._foreseen: Sequence[Forecast | None] = ()
        self._histories = [company.history(scenario.valuation.tax) for company in scenario.companies]

    @property
    def over(self) -> bool:
        return self.day >= self.days or bool(self.stopped)

    def advance(self) -> None:
        """One day. Raises UsageError when all are over."""
        if self.over:
            raise UsageError(self.stopped or f"all {self.days} days are over")
        self.day += 1
        day, ledger = self.day, self.exchange.ledger
        generator = np.random.default_rng((self.seed, 1, day))
        self.exchange.clear()
        ledger.repay(day)
        ledger.pay_interest(day)
        self.counts["bankrupt"] += len(ledger.settle_insolvent(self.exchange.prices))
        ledger.check()
        morning = self.forum.read(generator) if self.switches.forum else Morning((), 0)
        turns = [generator.permutation(len(ledger.active)) for _ in range(self.sessions)]
        if ledger.active.any():
            self._lend(self._view(morning, 0))
        else:
            self.stopped = f"all traders were bankrupt by day {day}"
        self._offer_estate()
        ordered: set[tuple[int, int, int]] = set()
        prices, volumes = [], []
        for session, turn in enumerate(turns, 1):
            volumes.append(self._trade(self._view(morning, session), turn.tolist(), ordered))
            prices.append(list(self.exchange.prices))
        self._judge_forecasts(ordered)
        evening = self._view(morning, self.sessions + 1)
        self._keep(prices, volumes)
        self._foreseen = self.traders.foresee(evening)
        posts = [post for post in self.traders.post(evening) if ledger.active[post.trader]]
        if self.loud is not None:
            posts += self.loud.posts(day, len(ledger.active), len(prices[0]))
        self.forum.write(posts)

    def _rates(self, day: int) -> tuple[int, ...]:
        events = self.scenario.rate_events if self.switches.rate_events else ()
        return rates_on(day, self.scenario.rates, events)

    def _view(self, morning: Morning, session: int) -> View:
        day, scenario, on = self.day, self.scenario, self.switches
        rates = self._rates(day)
        known = scenario.known(day) if on.reports else 0
        tax = scenario.valuation.tax
        firms = tuple(
            Firm(
                name=company.name,
                story=company.story,
                history=self._histories[stock],
                report=company.report(known - 1, tax) if on.reports and day in scenario.report_days else "",
                value=100 * scenario.value(stock, known, rates[0]),
            )
            for stock, company in enumerate(scenario.companies)
        )
        announced = [event.text for event in scenario.rate_events if event.day == day and on.rate_events]
        return View(
            day=day,
            session=session,
            seed=self.seed,
            firms=firms,
            rates=rates,
            announcement=" ".join(announced),
            news=" ".join(item.text for item in scenario.news if item.day == day and on.news),
            sentiment=sentiment_on(day, scenario.news) if on.news else 0.0,
            morning=morning,
            closes=[scenario.prices, *(prices[-1] for prices in self.record.prices)],
            exchange=self.exchange,
            population=self.population,
        )

    def _lend(self, view: View) -> None:
        ledger = self.exchange.ledger
        for trader, wish in enumerate(self.traders.borrow(view)):
            if wish is None or not ledger.active[trader]:
                continue
            reason = view.refuses_loan(trader, wish)
            if reason:
                self.counts[f"refused/{reason.partition(':')[0]}"] += 1
                continue
            loan = ledger.borrow(trader, wish.kind, wish.principal, view.rates[wish.kind], self.day)
            self.record.loans.append((self.day, trader, loan.kind, loan.principal, loan.rate, loan.due))

    def _offer_estate(self) -> None:
        ledger = self.exchange.ledger
        for stock, price in enumerate(self.exchange.prices):
            amount = int(ledger.shares[ledger.estate, stock] * self.estate_share)
            if amount:
                self.exchange.place(ledger.estate, stock, "sell", amount, price)

    def _trade(self, view: View, turn: Sequence[int], ordered: set[tuple[int, int, int]]) -> list[int]:
        """One session; gives the shares traded [S]."""
        volume = [0] * len(view.firms)
        self.traders.open_session(view)
        for trader in turn:
            if not self.exchange.ledger.active[trader]:
                continue
            wish = self.traders.order(view, trader)
            reason = "held" if wish is None else view.refuses(trader, wish)
            if wish is None or reason:
                self.counts[reason if wish is None else f"refused/{reason.partition(':')[0]}"] += 1
                continue
            volume[wish.stock] += self._place(view, trader, wish)
            ordered.add((trader, wish.stock, 1 if wish.side == "buy" else -1))
        self.exchange.end_session()
        return volume

    def _place(self, view: View, trader: int, wish: Wish) -> int:
        outcome = self.exchange.place(trader, *wish)
        when = (self.day, view.session)
        filled = sum(trade.amount for trade in outcome.trades)
        side = 1 if wish.side == "buy" else -1
        self.record.orders.append((*when, trader, wish.stock, side, wish.amount, wish.price, filled))
        self.record.trades += [
            (*when, wish.stock, trade.price, trade.amount, trade.buyer, trade.seller) for trade in outcome.trades
        ]
        self.counts["placed"] += 1
        self.counts["filled at once"] += filled == wish.amount
        return filled

    def _judge_forecasts(self, ordered: set[tuple[int, int, int]]) -> None:
        for trader, forecast in enumerate(self._foreseen):
            for side, expected in ((1, forecast.buy), (-1, forecast.sell)) if forecast else ():
                for stock in np.flatnonzero(expected):
                    self.record.forecasts[0] += (trader, int(stock), side) in ordered
                    self.record.forecasts[1] += 1

    def _keep(self, prices: list[list[int]], volumes: list[list[int]]) -> None:
        ledger, record = self.exchange.ledger, self.record
        record.prices.append(prices)
        record.volume.append(volumes)
        record.ideal.append([round(100 * value) for value in self.scenario.ideal(self.day)])
        record.depth.append([[book.open["buy"], book.open["sell"]] for book in self.exchange.books])
        record.cash.append((ledger.cash + ledger.cash_aside)[:-1].tolist())
        record.shares.append((ledger.shares + ledger.shares_aside)[:-1].tolist())
        record.owed.append(ledger.owed().tolist())
        record.wealth.append(ledger.wealth(self.exchange.prices).tolist())

    def state_dict(self) -> dict[str, Any]:
        """Where the market stands, between two days."""
        return {
            "day": self.day,
            "stopped": self.stopped,
            "counts": dict(self.counts),
            "exchange": self.exchange.state_dict(),
            "forum": self.forum.state_dict(),
            "record": self.record.state_dict(),
            "traders": self.traders.state_dict(),
            "foreseen": [None if one is None else [list(one.buy), list(one.sell), one.loan] for one in self._foreseen],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.day, self.stopped, self.counts = int(state["day"]), state["stopped"], Counter(state["counts"])
        for name in ("exchange", "forum", "record", "traders"):
            getattr(self, name).load_state_dict(state[name])
        self._foreseen = [
            None if one is None else Forecast(tuple(one[0]), tuple(one[1]), one[2]) for one in state["foreseen"]
        ]


def make_market(
    scenario: Scenario, traders: Traders, *, agents: int, seed: int, days: int, scale: float = 1.0, **options: Any
) -> Market:
    """A market with a population drawn for it; options as in `Market`."""
    population = draw_population(agents, scenario.prices, days, seed, scale)
    return Market(scenario, traders, population, seed=seed, days=days, **options)


SWITCHES = tuple(field.name for field in fields(Switches))
