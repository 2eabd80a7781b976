"""The loop of days: books are cleared, debts served, loans taken, orders matched in sessions, posts written.

Prices come from trades alone. Random numbers depend on the seed and the day, not on what happened before, so that two
markets of one seed that differ in a channel draw the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.exchange import StockExchange
from pilotage.systems.societies.stock_agent.env.forum import Forum, ForumDigest, Post
from pilotage.systems.societies.stock_agent.env.order_book import Rule
from pilotage.systems.societies.stock_agent.env.population import TraderPopulation, draw_population
from pilotage.systems.societies.stock_agent.env.record import MarketRecord
from pilotage.systems.societies.stock_agent.env.scenario import Scenario, rates_on, sentiment_on
from pilotage.systems.societies.stock_agent.env.views import Firm, MarketView, OrderIntent, TraderForecast, Traders


@dataclass(frozen=True)
class InformationChannels:
    """Channels of information that reach the traders; what is off does not happen for them."""

    rate_events: bool = True
    reports: bool = True
    forum: bool = True
    news: bool = True


@dataclass(frozen=True)
class Promoter:
    """Author of posts who praises a stock without reason, in every other month."""

    share: float = 0.1
    """Share of all posts of such a day, in (0, 1)."""
    stock: int = 0
    days: int = 22
    """Number of days with posts, followed by as many without."""

    def posts(self, day: int, others: int, stocks: int) -> list[Post]:
        """Return the posts of a day, whose author has the number of traders as number."""
        if (day - 1) // self.days % 2:
            return []
        count = max(1, round(self.share / (1 - self.share) * others))
        tone = tuple(1.0 if stock == self.stock else 0.0 for stock in range(stocks))
        return [Post(others, tone, f"Stock {self.stock} is going to the sky, buy it while you can!")] * count


class Market:
    """Market that goes on by days and can be saved between two of them."""

    def __init__(
        self,
        scenario: Scenario,
        traders: Traders,
        population: TraderPopulation,
        *,
        seed: int,
        days: int = 264,
        sessions: int = 3,
        rule: Rule = "continuous",
        channels: InformationChannels | None = None,
        promoter: Promoter | None = None,
        max_posts: int = 60,
        estate_share: float = 1 / 22,
    ) -> None:
        """Create a market before its first day.

        Args:
            scenario: firms, rates and events.
            traders: decide for all accounts.
            population: characters and opening accounts.
            seed: seed of all random numbers.
            days: number of days.
            sessions: number of sessions a day.
            rule: matching of orders.
            channels: information that reaches the traders; None: all of it.
            promoter: author of unfounded posts; None: there is none.
            max_posts: largest number of yesterday's posts that are shown.
            estate_share: part of the estate's shares that is offered each day at the last price, 0 to 1.
        """
        if days < 1 or sessions < 1 or not 0 <= estate_share <= 1 or (promoter and not 0 < promoter.share < 1):
            raise UsageError(
                f"expected days and sessions of 1 or more and shares in [0, 1], got {days}, {sessions}, {estate_share}"
            )
        if population.shares.shape[1] != len(scenario.companies):
            raise UsageError(
                f"the population holds {population.shares.shape[1]} stocks, the scenario {len(scenario.companies)}"
            )
        self.scenario, self.traders, self.population, self.seed = scenario, traders, population, seed
        self.days, self.sessions, self.estate_share = days, sessions, estate_share
        self.channels, self.promoter = channels or InformationChannels(), promoter
        self.exchange = StockExchange(population.ledger(self._rates(0)), scenario.prices, rule)
        self.forum = Forum(max_posts)
        self.record = MarketRecord()
        self.counts = Counter[str]()
        """Number of turns by outcome: placed, filled at once, held; refused orders and loans by kind; bankrupt."""
        self.day = 0
        """Number of days that are over."""
        self.stopped = ""
        """Reason why the market ended early; empty otherwise."""
        self._forecasts: Sequence[TraderForecast | None] = ()
        self._histories = [company.history(scenario.valuation.tax) for company in scenario.companies]

    @property
    def over(self) -> bool:
        """Return whether all days are over or the market ended early."""
        return self.day >= self.days or bool(self.stopped)

    def advance(self) -> None:
        """Simulate one day. Raises UsageError when all are over."""
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
        digest = self.forum.read(generator) if self.channels.forum else ForumDigest((), 0)
        turns = [generator.permutation(len(ledger.active)) for _ in range(self.sessions)]
        if ledger.active.any():
            self._lend(self._view(digest, 0))
        else:
            self.stopped = f"all traders were bankrupt by day {day}"
        self._offer_estate()
        ordered: set[tuple[int, int, int]] = set()
        prices, volumes = [], []
        for session, turn in enumerate(turns, 1):
            volumes.append(self._trade(self._view(digest, session), turn.tolist(), ordered))
            prices.append(list(self.exchange.prices))
        self._check_forecasts(ordered)
        evening = self._view(digest, self.sessions + 1)
        self._keep(prices, volumes)
        self._forecasts = self.traders.forecast(evening)
        posts = [post for post in self.traders.post(evening) if ledger.active[post.trader]]
        if self.promoter is not None:
            posts += self.promoter.posts(day, len(ledger.active), len(prices[0]))
        self.forum.write(posts)

    def _rates(self, day: int) -> tuple[int, ...]:
        events = self.scenario.rate_events if self.channels.rate_events else ()
        return rates_on(day, self.scenario.rates, events)

    def _view(self, digest: ForumDigest, session: int) -> MarketView:
        day, scenario, on = self.day, self.scenario, self.channels
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
        return MarketView(
            day=day,
            session=session,
            seed=self.seed,
            firms=firms,
            rates=rates,
            announcement=" ".join(announced),
            news=" ".join(item.text for item in scenario.news if item.day == day and on.news),
            sentiment=sentiment_on(day, scenario.news) if on.news else 0.0,
            digest=digest,
            closes=[scenario.prices, *(prices[-1] for prices in self.record.prices)],
            exchange=self.exchange,
            population=self.population,
        )

    def _lend(self, view: MarketView) -> None:
        ledger = self.exchange.ledger
        for trader, intent in enumerate(self.traders.borrow(view)):
            if intent is None or not ledger.active[trader]:
                continue
            reason = view.refuses_loan(trader, intent)
            if reason:
                self.counts[f"refused/{reason.partition(':')[0]}"] += 1
                continue
            loan = ledger.borrow(trader, intent.kind, intent.principal, view.rates[intent.kind], self.day)
            self.record.loans.append((self.day, trader, loan.kind, loan.principal, loan.rate, loan.due))

    def _offer_estate(self) -> None:
        ledger = self.exchange.ledger
        for stock, price in enumerate(self.exchange.prices):
            amount = int(ledger.shares[ledger.estate, stock] * self.estate_share)
            if amount:
                self.exchange.place(ledger.estate, stock, "sell", amount, price)

    def _trade(self, view: MarketView, turn: Sequence[int], ordered: set[tuple[int, int, int]]) -> list[int]:
        """Simulate one session; return the shares traded, [stock]."""
        volume = [0] * len(view.firms)
        self.traders.open_session(view)
        for trader in turn:
            if not self.exchange.ledger.active[trader]:
                continue
            intent = self.traders.order(view, trader)
            reason = "held" if intent is None else view.refuses(trader, intent)
            if intent is None or reason:
                self.counts[reason if intent is None else f"refused/{reason.partition(':')[0]}"] += 1
                continue
            volume[intent.stock] += self._place(view, trader, intent)
            ordered.add((trader, intent.stock, 1 if intent.side == "buy" else -1))
        self.exchange.end_session()
        return volume

    def _place(self, view: MarketView, trader: int, intent: OrderIntent) -> int:
        outcome = self.exchange.place(trader, *intent)
        when = (self.day, view.session)
        filled = sum(trade.amount for trade in outcome.trades)
        side = 1 if intent.side == "buy" else -1
        self.record.orders.append((*when, trader, intent.stock, side, intent.amount, intent.price, filled))
        self.record.trades += [
            (*when, intent.stock, trade.price, trade.amount, trade.buyer, trade.seller) for trade in outcome.trades
        ]
        self.counts["placed"] += 1
        self.counts["filled at once"] += filled == intent.amount
        return filled

    def _check_forecasts(self, ordered: set[tuple[int, int, int]]) -> None:
        for trader, forecast in enumerate(self._forecasts):
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
        """Return the state between two days."""
        return {
            "day": self.day,
            "stopped": self.stopped,
            "counts": dict(self.counts),
            "exchange": self.exchange.state_dict(),
            "forum": self.forum.state_dict(),
            "record": self.record.state_dict(),
            "traders": self.traders.state_dict(),
            "forecasts": [
                None if one is None else [list(one.buy), list(one.sell), one.loan] for one in self._forecasts
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.day, self.stopped, self.counts = int(state["day"]), state["stopped"], Counter(state["counts"])
        for name in ("exchange", "forum", "record", "traders"):
            getattr(self, name).load_state_dict(state[name])
        self._forecasts = [
            None if one is None else TraderForecast(tuple(one[0]), tuple(one[1]), one[2]) for one in state["forecasts"]
        ]


def make_market(scenario: Scenario, traders: Traders, *, agents: int, seed: int, days: int, **options: Any) -> Market:
    """Create a market with a population drawn for it; options as in `Market`."""
    population = draw_population(agents, scenario.prices, days, seed)
    return Market(scenario, traders, population, seed=seed, days=days, **options)


CHANNELS = tuple(field.name for field in fields(InformationChannels))
