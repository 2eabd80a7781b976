"""The run of a stock market: days one after the other, their metrics, and tables of all that happened."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.atomic_io import write_atomically
from pilotage.core.system import Result
from pilotage.llm import Service
from pilotage.runs import Run
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env.ledger import MONTH
from pilotage.systems.societies.stock_agent.env.market import InformationChannels, Market, Promoter, make_market
from pilotage.systems.societies.stock_agent.env.population import CHARACTERS
from pilotage.systems.societies.stock_agent.env.record import LOANS, ORDERS, TRADES
from pilotage.systems.societies.stock_agent.env.scenario import Scenario, load_scenario
from pilotage.systems.societies.stock_agent.env.traders import STYLES, ScriptedTraders, Style
from pilotage.systems.societies.stock_agent.env.views import Traders
from pilotage.systems.societies.stock_agent.metrics import EXPLAINED, market_metrics
from pilotage.training.llm_service import log_service, name_scripted_components
from pilotage.training.loop import Hooks, train_loop

DAILY = {
    "price/{}": "closing price of {} in dollars",
    "valuation/{}": "dollars a share of {} by discounted cash flow, from all reports out and the rates in force",
    "volume/{}": "shares of {} traded that day",
    "depth/bids/{}": "shares of {} that buyers bid for at the end of the day",
    "depth/asks/{}": "shares of {} that sellers ask for at the end of the day",
}
ABOUT = {
    "loans/day": "dollars borrowed that day",
    "traders": "number of traders who have not left the market",
    "days": "of the result: number of days that were simulated",
    "complete": "of the result: 1 if all days were simulated as planned, 0 if a budget was used up",
    "replies/no_action": "answers of a language model so far that could not be used in all tries",
}


def scenario_of(config: StockMarketConfig) -> Scenario:
    """Return the scenario of a configuration, its surprise included."""
    scenario = load_scenario(config.scenario)
    if config.surprise:
        scenario = scenario.surprised(config.surprise_stock, config.surprise_day, config.surprise)
    return scenario


def market_of(config: StockMarketConfig, traders: Traders, seed: int, scenario: Scenario | None = None) -> Market:
    """Build a market before its first day; a seed gives the same people and random numbers in all channels."""
    return make_market(
        scenario_of(config) if scenario is None else scenario,
        traders,
        agents=config.agents,
        seed=seed,
        days=config.days,
        sessions=config.sessions,
        rule=config.rule,
        channels=InformationChannels(config.rate_events, config.reports, config.forum, config.news),
        promoter=Promoter(config.spam_share) if config.spam_share else None,
        max_posts=config.max_posts,
    )


def scripted_traders(config: StockMarketConfig) -> ScriptedTraders:
    """Build the scripted traders that `config.traders` names; both styles alternate for a name that is no style."""
    styles: tuple[Style, ...] = STYLES if config.traders not in STYLES else (config.traders,)
    return ScriptedTraders((list(styles) * config.agents)[: config.agents])


def simulate(config: StockMarketConfig, run: Run) -> Result:
    """Simulate all days, going on from the last checkpoint, and write the tables of the market.

    A budget that is used up ends the run with what there is, `complete` 0.
    """
    with ExitStack() as stack:
        service: Service | None = None
        traders: Traders = scripted_traders(config)
        if config.asks_a_model:
            from pilotage.systems.societies.stock_agent.llm_traders import make_service, make_traders

            service = stack.enter_context(make_service(config, run.directory, run.seed))
            traders = make_traders(config, service, run.seed, _monthly_transcripts(run))
        elif config.traders == "learned":
            from pilotage.systems.societies.stock_agent.train import make_learned

            traders = make_learned(config, run.artifact, run.directory)
        return MarketRun(config, run, traders, service).go()


def _no_model(config: StockMarketConfig) -> str:
    """Return in words who trades in place of a language model."""
    if config.traders != "learned":
        return "all traders are scripted rules: no language model is asked"
    others = "" if config.learned_share == 1 else ", the others by scripted rules"
    return (
        f"{config.learned_share:.0%} of the traders are played by a small trained network{others}: no language model "
        "is asked"
    )


def _monthly_transcripts(run: Run) -> Callable[[Mapping[str, Any]], None]:
    """Return a logger that keeps the exchanges of the first day of every month."""

    def log(record: Mapping[str, Any]) -> None:
        if record["day"] % MONTH == 1:
            run.log_rollout(record["day"], record)

    return log


class _EndedEarly(Exception):  # noqa: N818
    """All traders are bankrupt, or the budget is used up."""


class MarketRun(Hooks):
    """The state of a run of the market."""

    def __init__(self, config: StockMarketConfig, run: Run, traders: Traders, service: Service | None) -> None:
        self.config, self.run, self.service = config, run, service
        self.market = market_of(config, traders, run.seed_for("market") % 2**32)
        self.names = [company.name for company in self.market.scenario.companies]

    def go(self) -> Result:
        """Simulate all days and return the result."""
        run, market = self.run, self.market
        scripted_components = [_no_model(self.config)] if self.service is None else self.service.scripted_components()
        name_scripted_components(run, scripted_components)
        every, label = self.config.checkpoint_every, f"{run.system} {self.config.traders}"
        with suppress(_EndedEarly):
            train_loop(run, self, self.config.days, checkpoint_every=every, label=label)
        exhausted = market.traders.exhausted
        if exhausted:
            run.log_event(market.day, "budget", f"{exhausted}; no trader acted for the rest of day {market.day}")
        if market.stopped:
            run.log_event(market.day, "stopped", market.stopped)
        if self.service is not None:
            log_service(run, self.service)
        write_tables(market, run.directory)
        about = {"days": float(market.day), "complete": float(not exhausted)}
        return Result(str(run.directory), {**market_metrics(market), **about, **self._gains()})

    # ---- hooks of the loop -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"market": self.market}

    def resume(self, done: int) -> None:  # noqa: ARG002
        """Explain the metrics."""
        for name, text in {**EXPLAINED, **ABOUT}.items():
            self.run.describe_metric(name, text)
        for pattern, text in DAILY.items():
            for name in self.names:
                self.run.describe_metric(pattern.format(name), text.format(f"stock {name}"))

    def step(self, step: int) -> None:  # noqa: ARG002
        """Simulate one day and time it; a market that ends early is logged and saved at once."""
        market = self.market
        if not (market.over or market.traders.exhausted):
            began = time.perf_counter()
            market.advance()
            self.run.log_timing(market.day, {"seconds": time.perf_counter() - began})
            if market.day == self.config.days or not (market.over or market.traders.exhausted):
                return
            self.run.log(market.day, self.metrics(market.day))
            self.run.save(market.day, self.state())
        raise _EndedEarly

    def metrics(self, done: int) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics of the last day."""
        market, record = self.market, self.market.record
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
        return {**numbers, **self._counts()}

    def shown(self, metrics: Mapping[str, float]) -> Mapping[str, float | str]:
        """Return the closing prices."""
        return {name: metrics[f"price/{name}"] for name in self.names}

    # ---- what is written ---------------------------------------------------------------------------------------------

    def _gains(self) -> dict[str, float]:
        """Return the change of log wealth by kind of trader, where a network plays some."""
        if self.config.traders != "learned":
            return {}
        from pilotage.systems.societies.stock_agent.learned_traders import LearnedTraders, wealth_changes

        traders, found = self.market.traders, {}
        assert isinstance(traders, LearnedTraders)
        for kind in sorted(set(traders.styles)):
            self.run.describe_metric(f"gain/{kind}", f"of the result: mean change of log net wealth of {kind} traders")
            found[f"gain/{kind}"] = float(wealth_changes(self.market, kind).mean())
        return found

    def _counts(self) -> dict[str, float]:
        """Return the number of refused actions and replies so far, by kind; new kinds are explained."""
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
    """Write trades.csv, orders.csv, loans.csv, prices.csv and ledger.csv.

    prices.csv has a row per day and stock, ledger.csv one per day and trader. Money is in cents; traders count from 0,
    and the estate has the number after the last.
    """
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
