"""What is measured for StockAgent's claims: surprises, who is who by its orders, conservation, names, scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

KINDS = ("value", "trend", "learned")
RISE = 144
"""Day on which rates are raised."""
SURPRISE, DAY, AFTER = 0.2, 78, 5
"""Profit of the first stock on day 78 is 20 % higher or lower; the response is that of the five days after."""

REAL = {
    "kurtosis": (0.44, 12.27),
    "autocorrelation/absolute": (-0.03, 0.24),
    "autocorrelation": (-0.13, 0.12),
    "volatility": (0.008, 0.022),
}
"""Where 90 % of 345 years of 263 daily log-returns lie, of 88 American stocks from September 2012 to September 2017
(adjusted closing prices of the StockNet data set, Xu & Cohen 2018, MIT licence); medians 1.93, .09, −.01 and .012."""


def stylised(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Four numbers of daily returns, mean over the stocks, and whether each lies outside `REAL`."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import whole_market
    from pilotage.systems.societies.stock_agent.env.measures import measures

    found = measures(whole_market(context.configuration(), unit))
    own = {name: found[name] for name in REAL}
    return {**own, **{f"{name} outside": float(not REAL[name][0] <= own[name] <= REAL[name][1]) for name in REAL}}


def without_rise(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Dollars borrowed a day in the 22 days from day 144 on; in the arm `no rise` nothing is decided that day."""
    from pilotage.systems.societies.stock_agent.actions import whole_market
    from pilotage.systems.societies.stock_agent.env.measures import borrowed
    from pilotage.systems.societies.stock_agent.train import scenario_of

    config = context.configuration()
    scenario = scenario_of(config)
    if arm == "no rise":
        events = tuple(event for event in scenario.rate_events if event.day != RISE)
        scenario = replace(scenario, rate_events=events)
    return {"borrowed": borrowed(whole_market(config, unit, scenario), RISE)}


def surprise(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Log-return of the first stock over the five days that begin with the report, less that of the same market without
    a surprise; `wrong`: whether its sign is not that of the surprise."""
    from pilotage.systems.societies.stock_agent.actions import whole_market

    config = replace(context.configuration(), days=20 if context.quick else DAY + AFTER - 1)
    day = 12 if context.quick else DAY
    sign = 1 if arm == "good" else -1
    returns = []
    for size in (sign * SURPRISE, 0.0):
        market = whole_market(replace(config, surprise=size, surprise_day=day), unit)
        closes = market.record.closes(market.scenario.prices)[:, 0]
        returns.append(float(np.log(closes[day - 1 + AFTER] / closes[day - 1])))
    response = returns[0] - returns[1]
    return {"response": response, "raw": returns[0], "wrong": float(sign * response <= 0)}


def told_apart(arm: str, unit: int, context: Any) -> dict[str, float]:
    """How many traders of a mixed market a linear classifier, fitted to another market, gives their right style."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import whole_market

    config = context.configuration()
    known, new = whole_market(config, 10_000 + unit), whole_market(config, unit)
    weights = fit_linear(features(known), styles(known))
    right = (predict_linear(features(new), weights) == styles(new)).mean()
    return {"accuracy": float(right), "at least 90 %": float(right >= 0.9)}


def kinds_told_apart(arm: str, unit: int, context: Any) -> dict[str, float]:
    """How many traders of a market in which three kinds are mixed a linear classifier, fitted to another such market,
    gives their right kind (`accuracy`), and whether they are learned (`learned accuracy`); and what the kinds did."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import whole_market

    config = _noting_the_training(context)
    known, new = whole_market(config, 10_000 + unit), whole_market(config, unit)
    table, labels = features(new), kinds(new)
    told = tell_apart(features(known), kinds(known), table)
    two = fit_linear(features(known), np.where(kinds(known) == KINDS.index("learned"), 1, -1))
    learned = (predict_linear(table, two) == 1) == (labels == KINDS.index("learned"))
    found = {"accuracy": float((told == labels).mean()), "learned accuracy": float(learned.mean())}
    found |= {"at least 90 %": float(found["accuracy"] >= 0.9)}
    found |= {"learned at least 90 %": float(found["learned accuracy"] >= 0.9)}
    names = ("orders a turn", "order size", "concentration", "follows returns", "follows valuation")
    for place, kind in enumerate(KINDS):
        means = table[labels == place].mean(0)
        found |= {f"{name}/{kind}": float(mean) for name, mean in zip(names, means, strict=True)}
    return found


def pure_told_apart(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The same for three markets of one seed, each with traders of one kind only; the classifier knows three others."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import whole_market

    config = _noting_the_training(context)
    markets = {
        seed: [whole_market(replace(config, traders=kind), seed) for kind in KINDS] for seed in (10_000 + unit, unit)
    }
    tables = {seed: np.concatenate([features(market) for market in three]) for seed, three in markets.items()}
    labels = np.repeat(np.arange(len(KINDS)), config.agents)
    accuracy = float((tell_apart(tables[10_000 + unit], labels, tables[unit]) == labels).mean())
    return {"accuracy": accuracy, "at least 90 %": float(accuracy >= 0.9)}


def _noting_the_training(context: Any) -> Any:
    """The cell's configuration; that its traders' training was used stands in the cell."""
    from pilotage.runs import read_artifact
    from pilotage.systems.societies.stock_agent.trader_artifact import NAME, trained

    config = context.configuration()
    about = read_artifact(trained(config))
    context.artifacts[NAME] = {field: about[field] for field in ("key", "contents", "seconds")}
    return config


def kinds(market: Any) -> np.ndarray:
    """[N] places in `KINDS`."""
    return np.array([KINDS.index(style) for style in market.traders.styles])


def tell_apart(known: np.ndarray, labels: np.ndarray, new: np.ndarray) -> np.ndarray:
    """[M] places in `KINDS` of the rows of `new`, by the largest of one linear score per kind, fitted to `known`."""
    scores = []
    for place in range(len(KINDS)):
        mean, scale, weights = fit_linear(known, np.where(labels == place, 1, -1))
        scores.append((new - mean) / scale @ weights[:-1] + weights[-1])
    return np.stack(scores).argmax(0)


def features(market: Any) -> np.ndarray:
    """[N, 5] of each trader: how often it orders; its mean order over its opening wealth; mean Herfindahl index of its
    holdings; correlation of its net orders with the return of the five days before, and with the log-ratio of
    valuation and price. NaN counts as 0."""
    from pilotage.systems.societies.stock_agent.env.measures import concentration, net_orders

    orders, population = market.record.table("orders"), market.population
    traders = len(population.cash)
    count = np.bincount(orders[:, 2], minlength=traders)
    value = np.bincount(orders[:, 2], orders[:, 5] * orders[:, 6], minlength=traders)
    logs = np.log(market.record.closes(market.scenario.prices))
    flow = net_orders(market)[6:]
    before = logs[6:-1] - logs[1:-6]
    gap = (np.log(market.record.table("ideal")) - logs[:-1])[6:]
    held = concentration(market)
    known = np.isfinite(held)
    columns = [
        count / (market.day * market.sessions),
        value / np.maximum(count, 1) / population.wealth,
        np.where(known, held, 0).sum(0) / np.maximum(known.sum(0), 1),
        _correlations(flow, before),
        _correlations(flow, gap),
    ]
    return np.nan_to_num(np.stack(columns, 1))


def styles(market: Any) -> np.ndarray:
    """[N] 1 for trend followers, −1 for the others."""
    return np.where([style == "trend" for style in market.traders.styles], 1, -1)


def fit_linear(table: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of labels ±1 on standardised features: (mean, scale, weights with the constant last)."""
    mean, scale = table.mean(0), table.std(0) + 1e-12
    design = np.column_stack([(table - mean) / scale, np.ones(len(table))])
    return mean, scale, np.linalg.lstsq(design, labels.astype(float), rcond=None)[0]


def predict_linear(table: np.ndarray, fitted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """[N] ±1."""
    mean, scale, weights = fitted
    score = (table - mean) / scale @ weights[:-1] + weights[-1]
    return np.where(score >= 0, 1, -1)


def _correlations(flow: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """[N] correlation over days and stocks of flow [D, N, S] with signal [D, S]."""
    rows = np.moveaxis(flow, 1, 0).reshape(flow.shape[1], -1)
    rows = rows - rows.mean(1, keepdims=True)
    series = signal.ravel() - signal.mean()
    size = np.sqrt((rows**2).sum(1) * (series**2).sum())
    return np.divide(rows @ series, size, out=np.zeros(len(rows)), where=size > 0)


def conserved(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Whether every account's shares follow from those at the beginning, the table of trades and forced sales, and all
    cash from loans, repayments, interest and exits. The ledger checks its sums after every session by itself."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import whole_market

    market = whole_market(context.configuration(), unit)
    ledger = market.exchange.ledger
    market.exchange.clear()
    held = np.concatenate([market.population.shares, np.zeros((1, len(market.exchange.prices)), np.int64)])
    _, _, stock, _, amount, buyer, seller = market.record.table("trades").T
    np.add.at(held, (buyer, stock), amount)
    np.subtract.at(held, (seller, stock), amount)
    shares = (held + ledger.forced == ledger.shares).all() and (ledger.forced.sum(0) == 0).all()
    cash = ledger.cash.sum() == market.population.cash.sum() + sum(ledger.flows.values())
    lent = ledger.flows["loans"] == market.record.column("loans", "principal").sum()
    return {"conserved": float(bool(shares and cash and lent))}


def named(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Which part of the orders concerns the chemical firm, and which part of its orders buys, over the first 22 days;
    in the arm `swapped` the firms have changed names and places, and the people's shares with them."""
    from pilotage.random.streams import derive_seed
    from pilotage.systems.societies.stock_agent.env.market import Market
    from pilotage.systems.societies.stock_agent.env.population import draw_population
    from pilotage.systems.societies.stock_agent.train import scenario_of, scripted_traders

    config = context.configuration()
    seed = derive_seed(unit, "market") % 2**32
    scenario = scenario_of(config)
    people = draw_population(config.agents, scenario.prices, config.days, seed)
    chemicals = 0
    if arm == "swapped":
        scenario, chemicals = scenario.swapped(), 1
        people = replace(people, shares=people.shares[:, ::-1].copy())
    market = Market(scenario, scripted_traders(config), people, seed=seed, days=min(22, config.days))
    while not market.over:
        market.advance()
    orders = market.record.table("orders")
    own = orders[orders[:, 3] == chemicals]
    return {"share": len(own) / max(len(orders), 1), "buys": float((own[:, 4] > 0).mean()) if len(own) else 0.0}


def scaled(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Whether in the first session all prices and money times 7.3 (730 against 100 times the scenario's, so that whole
    cents do not matter) leave stocks and sides of all orders, amounts within 1 % or one share, prices within 0.1 %."""
    del arm
    from pilotage.random.streams import derive_seed
    from pilotage.systems.societies.stock_agent.env.market import make_market
    from pilotage.systems.societies.stock_agent.train import scenario_of, scripted_traders

    config, tables = context.configuration(), []
    seed, scenario = derive_seed(unit, "market") % 2**32, scenario_of(config)
    for scale in (100.0, 730.0):  # at 30 dollars the rounding to whole cents alone moves orders
        market = make_market(
            scenario.scaled(scale),
            scripted_traders(config),
            agents=config.agents,
            seed=seed,
            days=1,
            sessions=1,
            scale=scale,
        )
        market.advance()
        tables.append(market.record.table("orders"))
    small, large = tables
    same = small.shape == large.shape and bool((small[:, :5] == large[:, :5]).all())
    close = same and bool(np.allclose(large[:, 5], small[:, 5], rtol=0.01, atol=1))
    return {"invariant": float(close and bool(np.allclose(large[:, 6] / 7.3, small[:, 6], rtol=1e-3)))}


def prompts_clean(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Whether the lint finds nothing in whatever a language model is told during a month of a small market."""
    del arm, context
    found, kinds = linted(unit)
    return {"clean": float(not found), "kinds of questions": float(len(kinds))}


def linted(seed: int, days: int = 22, script: Callable[..., Any] | None = None) -> tuple[list[str], set[str]]:
    """What the lint finds in all messages, and the kinds of questions that came up."""
    from pilotage.llm import Scripted, Service
    from pilotage.systems.societies.stock_agent.env.leakage import leaks
    from pilotage.systems.societies.stock_agent.env.market import make_market
    from pilotage.systems.societies.stock_agent.env.scenario import load_scenario
    from pilotage.systems.societies.stock_agent.llm_traders import ServiceTraders, play_trader
    from pilotage.systems.societies.stock_agent.prompts import prose, read_facts

    found: list[str] = []
    kinds: set[str] = set()

    def look(request: Any, chance: int) -> Any:
        found.extend(leak for message in request.messages for leak in leaks(prose(message.content)))
        kinds.add(str(read_facts(request.messages[-1].content)["ask"]))
        return (script or play_trader)(request, chance)

    with Service(Scripted(look, "trader", seed)) as service:
        market = make_market(load_scenario(), ServiceTraders(service, repairs=0), agents=4, seed=seed, days=days)
        while not market.over:
            market.advance()
    return found, kinds
