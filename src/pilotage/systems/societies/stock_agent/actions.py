"""Actions of StockAgent: the effect of a source of information on a finished market, and the cost of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.intervals import t_interval
from pilotage.random.streams import derive_seed
from pilotage.runs import Progress
from pilotage.runs.manifest import Manifest
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env.market import CHANNELS, Market
from pilotage.systems.societies.stock_agent.env.scenario import Scenario
from pilotage.systems.societies.stock_agent.env.views import Traders
from pilotage.systems.societies.stock_agent.learned_traders import LearnedTraders
from pilotage.systems.societies.stock_agent.metrics import EXPLAINED, market_metrics
from pilotage.systems.societies.stock_agent.simulate import market_of, scripted_traders
from pilotage.systems.societies.stock_agent.train import kinds_of, make_learned, new_network, time_training


def simulate_market(config: StockMarketConfig, seed: int, scenario: Scenario | None = None) -> Market:
    """Simulate a whole market of scripted or learned traders, the same as in a run of this seed."""
    market = market_of(config, traders_of(config), derive_seed(seed, "market") % 2**32, scenario)
    while not market.over:
        market.advance()
    return market


def traders_of(config: StockMarketConfig) -> Traders:
    """Build the scripted or learned traders of a configuration; the network is trained where it was not yet."""
    if config.traders == "learned":
        return make_learned(config)
    return scripted_traders(config)


def counterfactual(config: StockMarketConfig, run: Path, off: str = "rate_events", seeds: int = 10) -> dict[str, Any]:
    """Compare markets with and without one source of information, paired by seed, with 95 % intervals.

    Args:
        config: configuration of the run.
        run: directory of the finished run.
        off: the source that is switched off: rate_events, reports, forum or news.
        seeds: number of populations, each with and without the source; the first is the run's own.

    Returns:
        A table of means and paired differences of all metrics.

    Raises:
        UsageError: for an unknown source, one that was off already, and for traders played by a language model, since
            it would be asked again.
    """
    if off not in CHANNELS:
        raise UsageError(f"--off is one of {', '.join(CHANNELS)}, got {off!r}")
    if not getattr(config, off):
        raise UsageError(f"{off} was off in this run; choose another, or begin a run with it")
    if config.asks_a_model:
        raise UsageError(
            "the traders of this run were played by a language model, which would be asked anew; start runs with "
            f"--no-{off.replace('_', '-')} and the same seeds instead, with --reply-cache of this one"
        )
    if seeds < 2:
        raise UsageError(f"an interval needs 2 seeds or more, got {seeds}")
    first = Manifest.read(run).seed
    changed: dict[str, Any] = {off: False}
    without = replace(config, **changed)
    pairs: list[tuple[Mapping[str, float], Mapping[str, float]]] = []
    with Progress(2 * seeds, f"counterfactual {off}", unit="market") as progress:
        for number in range(seeds):
            seed = first if number == 0 else derive_seed(first, "counterfactual", number)
            sides = []
            for side in (config, without):
                sides.append(market_metrics(simulate_market(side, seed)))
                progress.advance(2 * number + len(sides))
            pairs.append((sides[0], sides[1]))
    rows = [_row(name, pairs) for name in pairs[0][0]]
    return {
        "compared": f"with {off} against without, {seeds} populations, each under both, {config.days} days; "
        f"{'learned and scripted' if config.traders == 'learned' else 'scripted'} traders, no language model",
        "differences": [row for row in rows if row is not None],
        "measures": EXPLAINED,
    }


def _row(name: str, pairs: list[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Any] | None:
    """Return a metric with and without, and the paired difference; None where it is not always defined."""
    sides = np.array([[one.get(name, np.nan), other.get(name, np.nan)] for one, other in pairs])
    if not np.isfinite(sides).all():
        return None
    difference = t_interval(sides[:, 0] - sides[:, 1])
    numbers = (*sides.mean(0), difference.mean, difference.low, difference.high)
    words = ("with", "without", "difference", "95 % from", "to")
    return {"measure": name, **{word: float(f"{number:.4g}") for word, number in zip(words, numbers, strict=True)}}


def estimate_cost(config: StockMarketConfig) -> dict[str, Any]:
    """Estimate days, turns, the largest number of model calls, and seconds from five timed days.

    The seconds of a training are estimated from one of its markets.
    """
    found: dict[str, Any] = {"days": config.days, "turns": config.days * config.sessions * config.agents}
    if config.asks_a_model:
        found[config.calls_counted] = config.days * config.agents * (config.sessions + 3)
        if config.provider != "scripted":
            return found
    days = min(config.days, 5)
    traders: Traders = scripted_traders(config)
    if config.traders == "learned":
        traders = LearnedTraders(new_network(), kinds_of(config))
        found["seconds of the training, once"] = time_training(config)
    market = market_of(replace(config, days=days), traders, derive_seed(0, "market") % 2**32)
    began = time.perf_counter()
    while not market.over:
        market.advance()
    found["seconds"] = (time.perf_counter() - began) / days * config.days
    return found
