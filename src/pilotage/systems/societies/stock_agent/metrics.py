"""Metrics of a market: movements of prices, trading, borrowing and the traders' behaviour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pilotage.systems.societies.stock_agent.env.ledger import MONTH
from pilotage.systems.societies.stock_agent.env.market import Market
from pilotage.systems.societies.stock_agent.env.population import CHARACTERS

EXPLAINED = {
    "distance": "mean over days and stocks of |log(closing price / valuation)|, the valuation knowing all reports out",
    "volatility": "standard deviation of daily log-returns, mean over stocks",
    "autocorrelation": "of daily log-returns, lag 1, mean over stocks",
    "autocorrelation/absolute": "of absolute daily log-returns, lag 1, mean over stocks",
    "kurtosis": "excess kurtosis of daily log-returns, mean over stocks",
    "volume": "shares traded a day, all stocks",
    "fill_rate": "shares that changed hands, for both sides, over shares that were ordered (the estate's left out)",
    "hold_rate": "turns in which no order was placed",
    "order_size": "median order by value over its trader's opening wealth",
    "order_size/low": "the quarter of orders with the least such share is below this",
    "order_size/high": "the quarter with the largest is above this",
    "loans": "dollars borrowed a day",
    "loans/after_78": "dollars borrowed a day in the 22 days from day 78 on; one for each decision on rates",
    "herding": "mean correlation of two traders' net orders (cents by day), mean over stocks",
    "concentration": "Herfindahl index of a trader's holdings over stocks by value, mean over days and traders",
    "bankrupt": "traders who had to leave",
    **{
        f"wealth/{name}": f"net wealth of {name} traders over that at the beginning, at the closing prices of the day"
        for name in CHARACTERS
    },
    "wealth/spread": "largest less smallest of these, at the end",
    "forecasts": "share of forecast purchases and sales that were ordered the next day",
}


def market_metrics(market: Market) -> dict[str, float]:
    """Return the metrics of `EXPLAINED`; one that is not defined, such as a correlation of a constant, is left out."""
    record, counts = market.record, market.counts
    returns = log_returns(market)
    turns = sum(number for name, number in counts.items() if name in ("placed", "held") or name.startswith("refused/"))
    ordered = record.column("orders", "amount").sum()
    traded = sum(
        (record.column("trades", side) < len(market.population.cash)) @ record.column("trades", "amount")
        for side in ("buyer", "seller")
    )
    made, all_forecasts = record.forecasts
    found = {
        "distance": float(distances(market).mean()),
        "volatility": float(returns.std(0).mean()),
        "autocorrelation": _mean_over_stocks(returns, autocorrelation),
        "autocorrelation/absolute": _mean_over_stocks(np.abs(returns), autocorrelation),
        "kurtosis": _mean_over_stocks(returns, _kurtosis),
        "volume": float(record.table("volume").sum() / market.day),
        "fill_rate": float(traded / ordered) if ordered else 0.0,
        "hold_rate": 1 - counts["placed"] / turns if turns else 1.0,
        **_order_sizes(market),
        "loans": float(record.column("loans", "principal").sum() / 100 / market.day),
        **{f"loans/after_{event.day}": borrowed(market, event.day) for event in market.scenario.rate_events},
        "herding": herding(market),
        "concentration": _known_mean(concentration(market)),
        "bankrupt": float(counts["bankrupt"]),
        **_wealth(market),
        "forecasts": made / all_forecasts if all_forecasts else float("nan"),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def log_returns(market: Market) -> np.ndarray:
    """Return the daily log-returns of closing prices, [day, stock]."""
    return np.diff(np.log(market.record.closes(market.scenario.prices)), axis=0)


def distances(market: Market) -> np.ndarray:
    """Return |log(closing price / valuation)|, [day, stock]."""
    closes = market.record.closes(market.scenario.prices)[1:]
    return np.abs(np.log(closes / market.record.table("ideal")))


def borrowed(market: Market, day: int, days: int = MONTH) -> float:
    """Return the dollars borrowed a day in `days` days from `day` on; NaN where the market ended before."""
    last = min(day + days, market.day + 1)
    if last <= day:
        return float("nan")
    when, principal = market.record.column("loans", "day"), market.record.column("loans", "principal")
    return float(principal[(when >= day) & (when < last)].sum() / 100 / (last - day))


def net_orders(market: Market) -> np.ndarray:
    """Return the cents bid for shares less the cents asked for them, [day, trader, stock]."""
    net = np.zeros((market.day, len(market.population.cash), len(market.scenario.companies)))
    day, _, trader, stock, side, amount, price, _ = market.record.table("orders").T
    np.add.at(net, (day - 1, trader, stock), side * amount * price)
    return net


def herding(market: Market) -> float:
    """Return the mean correlation over days of two traders' net orders, for pairs whose orders vary."""
    found = []
    for flow in np.moveaxis(net_orders(market), 2, 0):
        centred = flow - flow.mean(0)
        size = np.sqrt((centred**2).sum(0))
        scaled = (centred / np.where(size > 0, size, 1))[:, size > 0]
        many = scaled.shape[1]
        if many > 1:
            # The square of the sum of unit vectors is their number and twice the sum of correlations of pairs.
            found.append(((scaled.sum(1) ** 2).sum() - many) / (many * (many - 1)))
    return float(np.mean(found)) if found else float("nan")


def concentration(market: Market) -> np.ndarray:
    """Return the Herfindahl index of holdings by value, [day, trader]; NaN for a trader without shares."""
    closes = market.record.closes(market.scenario.prices)[1:]
    value = market.record.table("shares") * closes[:, None]
    total = value.sum(-1)
    with np.errstate(invalid="ignore"):
        return ((value / total[..., None]) ** 2).sum(-1)


def autocorrelation(series: np.ndarray) -> float:
    """Return the correlation of a series with itself a day later; NaN for a constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(series[1:], series[:-1])[0, 1]) if len(series) > 2 else float("nan")


def _order_sizes(market: Market) -> dict[str, float]:
    orders = market.record.table("orders")
    sizes = orders[:, 5] * orders[:, 6] / market.population.wealth[orders[:, 2]]
    low, middle, high = np.quantile(sizes, (0.25, 0.5, 0.75)) if len(sizes) else (float("nan"),) * 3
    return {"order_size": float(middle), "order_size/low": float(low), "order_size/high": float(high)}


def _known_mean(table: np.ndarray) -> float:
    known = table[np.isfinite(table)]
    return float(known.mean()) if known.size else float("nan")


def _kurtosis(series: np.ndarray) -> float:
    centred = series - series.mean()
    variance = float((centred**2).mean())
    return float((centred**4).mean() / variance**2 - 3) if variance > 0 else float("nan")


def _mean_over_stocks(table: np.ndarray, measure: Callable[[np.ndarray], float]) -> float:
    return float(np.mean([measure(column) for column in table.T]))


def _wealth(market: Market) -> dict[str, float]:
    population = market.population
    before = population.wealth - population.debt
    after = market.record.table("wealth")[-1]
    found = {}
    for place, name in enumerate(CHARACTERS):
        own = population.character == place
        if before[own].sum() > 0:
            found[f"wealth/{name}"] = float(after[own].sum() / before[own].sum())
    return {**found, "wealth/spread": max(found.values()) - min(found.values()) if found else float("nan")}
