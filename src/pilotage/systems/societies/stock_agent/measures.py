"""Measures of StockAgent's claims: surprises, styles told apart by orders, names of firms, daily returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

RISE = 144
"""Day on which rates are raised."""
SURPRISE, DAY, AFTER = 0.2, 78, 5
"""Relative surprise in the profit of the first stock, its day, and the number of days of the response."""

REAL = {
    "kurtosis": (0.44, 12.27),
    "autocorrelation/absolute": (-0.03, 0.24),
    "autocorrelation": (-0.13, 0.12),
    "volatility": (0.008, 0.022),
}
"""Range of 90 % of 345 years of 263 daily log-returns, of 88 American stocks from September 2012 to September 2017
(adjusted closing prices of the StockNet data set, Xu & Cohen 2018, MIT licence); medians 1.93, .09, −.01 and .012."""


def stylised(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return four metrics of daily returns, mean over the stocks, and whether each lies outside `REAL`."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import simulate_market
    from pilotage.systems.societies.stock_agent.metrics import market_metrics

    found = market_metrics(simulate_market(context.configuration(), unit))
    own = {name: found[name] for name in REAL}
    return {**own, **{f"{name}_outside": float(not REAL[name][0] <= own[name] <= REAL[name][1]) for name in REAL}}


def without_rise(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the dollars borrowed a day in the 22 days from day 144 on; the arm `no rise` leaves that decision out."""
    from pilotage.systems.societies.stock_agent.actions import simulate_market
    from pilotage.systems.societies.stock_agent.metrics import borrowed
    from pilotage.systems.societies.stock_agent.simulate import scenario_of

    config = context.configuration()
    scenario = scenario_of(config)
    if arm == "no rise":
        events = tuple(event for event in scenario.rate_events if event.day != RISE)
        scenario = replace(scenario, rate_events=events)
    return {"borrowed": borrowed(simulate_market(config, unit, scenario), RISE)}


def surprise(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the response to a surprise, and whether its sign is wrong.

    The response is the log-return of the first stock over the five days that begin with the report, less that of the
    same market without a surprise.
    """
    from pilotage.systems.societies.stock_agent.actions import simulate_market

    config = replace(context.configuration(), days=20 if context.quick else DAY + AFTER - 1)
    day = 12 if context.quick else DAY
    sign = 1 if arm == "good" else -1
    returns = []
    for size in (sign * SURPRISE, 0.0):
        market = simulate_market(replace(config, surprise=size, surprise_day=day), unit)
        closes = market.record.closes(market.scenario.prices)[:, 0]
        returns.append(float(np.log(closes[day - 1 + AFTER] / closes[day - 1])))
    response = returns[0] - returns[1]
    return {"response": response, "raw": returns[0], "wrong": float(sign * response <= 0)}


def told_apart(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the accuracy with which a linear classifier, fitted to another market, tells the traders' styles."""
    del arm
    from pilotage.systems.societies.stock_agent.actions import simulate_market

    config = context.configuration()
    known, new = simulate_market(config, 10_000 + unit), simulate_market(config, unit)
    weights = fit_linear(features(known), styles(known))
    right = (predict_linear(features(new), weights) == styles(new)).mean()
    return {"accuracy": float(right), "at_least_90_percent": float(right >= 0.9)}


def features(market: Any) -> np.ndarray:
    """Return five features of each trader, [trader, feature]; NaN counts as 0.

    They are the number of orders a turn, the mean order over opening wealth, the mean Herfindahl index of holdings, and
    the correlation of net orders with the return of the five days before and with the log-ratio of valuation and price.
    """
    from pilotage.systems.societies.stock_agent.metrics import concentration, net_orders

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
    """Return 1 for trend followers and −1 for the others, [trader]."""
    return np.where([style == "trend" for style in market.traders.styles], 1, -1)


def fit_linear(table: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit labels ±1 by least squares on standardised features.

    Returns the mean and scale of the features, and the weights with the constant last.
    """
    mean, scale = table.mean(0), table.std(0) + 1e-12
    design = np.column_stack([(table - mean) / scale, np.ones(len(table))])
    return mean, scale, np.linalg.lstsq(design, labels.astype(float), rcond=None)[0]


def predict_linear(table: np.ndarray, fitted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the predicted label ±1 of each row of `table`."""
    mean, scale, weights = fitted
    score = (table - mean) / scale @ weights[:-1] + weights[-1]
    return np.where(score >= 0, 1, -1)


def _correlations(flow: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the correlation over days and stocks of each trader's flow [day, trader, stock] with a signal."""
    rows = np.moveaxis(flow, 1, 0).reshape(flow.shape[1], -1)
    rows = rows - rows.mean(1, keepdims=True)
    series = signal.ravel() - signal.mean()
    size = np.sqrt((rows**2).sum(1) * (series**2).sum())
    return np.divide(rows @ series, size, out=np.zeros(len(rows)), where=size > 0)


def named(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the share of orders in the chemical firm, and the share of purchases among them, over the first 22 days.

    In the arm `swapped` the firms have changed names and places, and the traders' shares with them.
    """
    from pilotage.random.streams import derive_seed
    from pilotage.systems.societies.stock_agent.env.market import Market
    from pilotage.systems.societies.stock_agent.env.population import draw_population
    from pilotage.systems.societies.stock_agent.simulate import scenario_of, scripted_traders

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
