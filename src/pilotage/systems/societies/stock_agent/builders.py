"""Opens the language model that plays traders, as a configuration says. Needs the extra `llm`."""

from __future__ import annotations

from pathlib import Path

from pilotage.llm import Scripted, Service
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.llm_traders import Note, ServiceTraders, play_trader
from pilotage.training.llm_service import open_service


def make_service(config: StockMarketConfig, directory: Path, seed: int) -> Service:
    """Who plays traders: its answers lie in the run, or where the configuration says."""
    return open_service(config, lambda: Scripted(play_trader, "trader", seed), directory)


def make_traders(config: StockMarketConfig, service: Service, seed: int, note: Note | None = None) -> ServiceTraders:
    """All of them, asked through one service."""
    return ServiceTraders(
        service,
        seed=seed,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        repairs=config.repairs,
        note=note,
    )
