"""The run of a stock market: day by day, noted, kept, and written down as tables that any program reads."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.atomic_io import write_atomically
from pilotage.core.system import Result
from pilotage.llm import Service
from pilotage.runs import Progress, Run
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env.ledger import MONTH
from pilotage.systems.societies.stock_agent.env.market import Loud, Market, Switches, make_market
from pilotage.systems.societies.stock_agent.env.measures import EXPLAINED, measures
from pilotage.systems.societies.stock_agent.env.population import CHARACTERS
from pilotage.systems.societies.stock_agent.env.record import LOANS, ORDERS, TRADES
from pilotage.systems.societies.stock_agent.env.scenario import Scenario, load_scenario
from pilotage.systems.societies.stock_agent.env.traders import STYLES, ScriptedTraders, Style
from pilotage.systems.societies.stock_agent.env.views import Traders

DAILY = {
    "price/{}": "closing price of {} in dollars",
    "valuation/{}": "dollars a share of {} by discounted cash flow, from all reports out and the rates in force",
    "volume/{}": "shares of {} traded that day",
    "depth/bids/{}": "shares of {} that buyers bid for at the end of the day",
    "depth/asks/{}": "shares of {} that sellers ask for at the end of the day",
}
ABOUT = {
    "loans/day": "dollars borrowed that day",
    "traders": "who are still there",
    "days": "of the result: how many were played",
    "complete": "of the result: 1 if all days were played as planned, 0 if a budget was used up",
    "replies/no action": "answers of a language model so far that could not be used in all tries",
}


def scenario_of(config: StockMarketConfig) -> Scenario:
    """As the configuration says, surprise included."""
    scenario = load_scenario(config.scenario)
    if config.surprise:
        scenario = scenario.surprised(config.surprise_stock, config.surprise_day, config.surprise)
    return scenario


def market_of(config: StockMarketConfig, traders: Traders, seed: int, scenario: Scenario | None = None) -> Market:
    """A market before its first day; a seed gives the same people and luck whatever the switches."""
    return make_market(
        scenario_of(config) if scenario is None else scenario,
        traders,
        agents=config.agents,
        seed=seed,
        days=config.days,
        sessions=config.sessions,
        rule=config.rule,
        switches=Switches(config.rate_events, config.reports, config.forum, config.news),
        loud=Loud(config.loud) if config.loud else None,
        shown=config.shown,
    )


def scripted_traders(config: StockMarketConfig) -> ScriptedTraders:
    """Those that `--traders` names; for llm, those whom the stand-in follows."""
    styles: tuple[Style, ...] = STYLES if config.traders not in STYLES else (config.traders,)
    return ScriptedTraders((list(styles) * config.agents)[: config.agents])


def play(config: StockMarketConfig, run: Run) -> Result:
    """All days, from the last checkpoint where there is one; trades.csv, orders.csv, loans.csv, prices.csv, ledger.csv
    and a result. A budget that is used up ends it with what there is, `complete` 0."""
    with ExitStack() as stack:
        service: Service | None = None
        traders: Traders = scripted_traders(config)
        if config.asks_a_model:
            from pilotage.systems.societies.stock_agent.builders import make_service, make_traders

            service = stack.enter_context(make_service(config, run.directory, run.seed))
            traders = make_traders(config, service, run.seed, _transcripts(run))
        elif config.traders == "learned":
            from pilotage.systems.societies.stock_agent.trader_artifact import make_learned

            traders = make_learned(config, run.artifact, run.directory)
        return _Played(config, run, traders, service).go()


def _no_model(config: StockMarketConfig) -> str:
    """Who trades instead of a language model, in words."""
    if config.traders != "learned":
        return "all traders are scripted rules: no language model is asked"
    others = "" if config.learned_share == 1 else ", the others by scripted rules"
    return (
        f"{config.learned_share:.0%} of the traders are played by a small trained network{others}: no language model "
        "is asked"
    )


def _transcripts(run: Run) -> Callable[[Mapping[str, Any]], None]:
    """Keeps the first day of every month."""

    def note(record: Mapping[str, Any]) -> None:
        if record["day"] % MONTH == 1:
            run.log_rollout(record["day"], record)

    return note


class _Played:
    """What a run of the market is made of."""

    def __init__(self, config: StockMarketConfig, run: Run, traders: Traders, service: Service | None) -> None:
        self.config, self.run, self.service = config, run, service
        self.market = market_of(config, traders, run.seed_for("market") % 2**32)
        self.names = [company.name for company in self.market.scenario.companies]

    def go(self) -> Result:
        run, market = self.run, self.market
        stand_ins = [_no_model(self.config)] if self.service is None else self.service.stand_ins()
        run.manifest.name_stand_ins(run.directory, stand_ins)
        state: dict[str, Any] = {"market": market}
        done = run.restore(state)
        self._explain()
        complete = True
        with Progress(self.config.days, f"{run.system} {self.config.traders}", start=done, unit="day") as progress:
            while not market.over:
                began = time.perf_counter()
                market.advance()
                self._log(time.perf_counter() - began)
                prices = [price / 100 for price in market.exchange.prices]
                progress.advance(market.day, **dict(zip(self.names, prices, strict=True)))
                exhausted = market.traders.exhausted
                if market.day % self.config.checkpoint_every == 0 or market.over or exhausted:
                    run.save(market.day, state)
                    write_tables(market, run.directory)
                if exhausted:
                    run.log_event(market.day, "budget", f"{exhausted}; nobody acted for the rest of day {market.day}")
                    complete = False
                    break
        if market.stopped:
            run.log_event(market.day, "stopped", market.stopped)
        if self.service is not None:
            counters = self.service.counters().metrics("").items()
            said = ", ".join(f"{name} {value:g}" for name, value in counters if value)
            run.log_event(None, "language model", f"{self.service.provider.name}: {said or 'not asked'}")
        write_tables(market, run.directory)
        about = {"days": float(market.day), "complete": float(complete)}
        return Result(str(run.directory), {**measures(market), **about, **self._gains()})

    def _gains(self) -> dict[str, float]:
        """By kind of trader, where a network plays some."""
        if self.config.traders != "learned":
            return {}
        from pilotage.systems.societies.stock_agent.learned_traders import LearnedTraders, wealth_changes

        traders, found = self.market.traders, {}
        assert isinstance(traders, LearnedTraders)
        for kind in sorted(set(traders.styles)):
            self.run.describe_metric(f"gain/{kind}", f"of the result: mean change of log net wealth of {kind} traders")
            found[f"gain/{kind}"] = float(wealth_changes(self.market, kind).mean())
        return found

    def _explain(self) -> None:
        for name, text in {**EXPLAINED, **ABOUT}.items():
            self.run.describe_metric(name, text)
        for pattern, text in DAILY.items():
            for name in self.names:
                self.run.describe_metric(pattern.format(name), text.format(f"stock {name}"))

    def _log(self, seconds: float) -> None:
        market, record = self.market, self.market.record
        self.run.log_timing(market.day, {"seconds": seconds})
        numbers: dict[str, float] = {}
        volume = np.sum(record.volume[-1], axis=0)
        for stock, name in enumerate(self.names):
            bids, asks = record.depth[-1][stock]
            numbers |= {
                f"price/{name}": record.prices[-1][-1][stock] / 100,
                f"valuation/{name}": record.ideal[-1][stock] / 100,
                f"volume/{name}": float(volume[stock]),
                f"depth/bids/{name}": float(bids),
                f"depth/asks/{name}": float(asks),
            }
        population, wealth = market.population, np.array(record.wealth[-1])
        for place, name in enumerate(CHARACTERS):
            own = population.character == place
            before = (population.wealth - population.debt)[own].sum()
            if before > 0:
                numbers[f"wealth/{name}"] = float(wealth[own].sum() / before)
        numbers["loans/day"] = sum(loan[3] for loan in record.loans if loan[0] == market.day) / 100
        numbers["traders"] = float(market.exchange.ledger.active.sum())
        self.run.log(market.day, {**numbers, **self._counts()})

    def _counts(self) -> dict[str, float]:
        """What could not be done so far, by kind; each kind is explained when it first comes up."""
        found = {}
        for name, count in self.market.counts.items():
            if name.startswith("refused/"):
                found[name] = float(count)
                kind = name.removeprefix("refused/")
                self.run.describe_metric(name, f"orders and loans so far that were refused for their {kind}: no action")
        for kind, count in self.market.traders.counts.items():
            found[f"replies/{kind}"] = float(count)
            if f"replies/{kind}" not in ABOUT:
                self.run.describe_metric(
                    f"replies/{kind}", f"answers so far that could not be used at first, for: {kind}"
                )
        return found


def write_tables(market: Market, directory: Path) -> None:
    """trades.csv, orders.csv, loans.csv, prices.csv (a row per day and stock) and ledger.csv (a row per day and
    trader), anew. Money in cents; traders from 0, the estate has their number."""
    record = market.record
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {
        "trades": (list(TRADES), [list(row) for row in record.trades]),
        "orders": (list(ORDERS), [list(row) for row in record.orders]),
        "loans": (list(LOANS), [list(row) for row in record.loans]),
    }
    names = [company.name for company in market.scenario.companies]
    prices = [
        [
            *(day + 1, name, *(session[stock] for session in record.prices[day]), record.ideal[day][stock]),
            *(sum(session[stock] for session in record.volume[day]), *record.depth[day][stock]),
        ]
        for day in range(len(record.prices))
        for stock, name in enumerate(names)
    ]
    sessions = [f"session_{number + 1}" for number in range(market.sessions)]
    tables["prices"] = (["day", "stock", *sessions, "valuation", "volume", "bids", "asks"], prices)
    characters = [CHARACTERS[place] for place in market.population.character]
    accounts = [
        [
            *(day + 1, trader, characters[trader], record.cash[day][trader], *record.shares[day][trader]),
            *(record.owed[day][trader], record.wealth[day][trader]),
        ]
        for day in range(len(record.cash))
        for trader in range(len(characters))
    ]
    columns = ["day", "trader", "character", "cash", *(f"shares_{name}" for name in names), "owed", "wealth"]
    tables["ledger"] = (columns, accounts)
    for name, (columns, rows) in tables.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        write_atomically(directory / f"{name}.csv", text.getvalue().encode())
