"""Finds or trains the network that plays learned traders: once per kind of market, shared by all seeds and arms."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pilotage.core.atomic_io import write_atomically
from pilotage.runs import artifact
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env import scenario
from pilotage.systems.societies.stock_agent.learned_traders import Kind, LearnedTraders
from pilotage.systems.societies.stock_agent.trader_network import TraderNetwork
from pilotage.systems.societies.stock_agent.trader_training import (
    HISTORY,
    MARKETS,
    new_network,
    play_market,
    train_trader,
    training_code,
    training_settings,
)

NAME = "stock-trader"


def make_learned(
    config: StockMarketConfig, find: Callable[..., Path] = artifact, directory: Path | None = None
) -> LearnedTraders:
    """Traders of a market in which `config.learned_share` are played by the trained network.

    find: `artifact`, or a run's, which notes it; directory: of a run, which gets a copy of the training's metrics."""
    path = trained(config, find)
    if directory is not None:
        write_atomically(directory / HISTORY, (path / HISTORY).read_bytes())
    return LearnedTraders(TraderNetwork.load(path), kinds_of(config))


def trained(config: StockMarketConfig, find: Callable[..., Path] = artifact) -> Path:
    """The artifact of the network for this kind of market."""
    inputs = [config.scenario or scenario.DEFAULT]  # the scenario that comes along may change from version to version
    return find(train_trader, training_settings(config), inputs, name=NAME, code=training_code())


def untrained(config: StockMarketConfig) -> LearnedTraders:
    """The same traders before any training."""
    return LearnedTraders(new_network(), kinds_of(config))


def time_training(config: StockMarketConfig) -> float:
    """Seconds of a training, from one market of it."""
    began = time.perf_counter()
    play_market(new_network(), scenario.load_scenario(config.scenario), 0, training_settings(config))
    return (time.perf_counter() - began) * MARKETS * config.trader_updates


def kinds_of(config: StockMarketConfig) -> list[Kind]:
    """[N] who is learned, spread evenly; the others are value-anchored and trend-following by turns. At least one is
    learned."""
    learned = max(1, round(config.learned_share * config.agents))
    others = 0
    kinds: list[Kind] = []
    for number in range(config.agents):
        if (number + 1) * learned // config.agents > number * learned // config.agents:
            kinds.append("learned")
        else:
            kinds.append("trend" if others % 2 else "value")
            others += 1
    return kinds
