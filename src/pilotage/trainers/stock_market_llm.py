"""Opens the language model that plays traders, as a configuration says. Needs the extra `llm`."""

from __future__ import annotations

from pathlib import Path

from pilotage.engines import build_engine
from pilotage.llm import Budget, LocalModel, OpenAICompatible, Prices, Provider, Scripted, Service, Store
from pilotage.policies.language import load_policy
from pilotage.rollouts.market_agents import Note, ServiceTraders, play_trader
from pilotage.trainers.stock_market_config import StockMarketConfig


def make_provider(config: StockMarketConfig, seed: int) -> Provider:
    """Who answers. Raises UsageError for a model that cannot be opened."""
    if config.provider == "endpoint":
        return OpenAICompatible(config.model, base_url=config.base_url)
    if config.provider == "local":
        policy = load_policy(config.model)
        return LocalModel(policy, build_engine("auto", policy.model, policy.tokenizer))
    return Scripted(play_trader, "trader", seed)


def make_service(config: StockMarketConfig, directory: Path, seed: int) -> Service:
    """The service of a run: its answers lie in the run, or where the configuration says."""
    return Service(
        make_provider(config, seed),
        store=Store(config.answers or directory / "answers.sqlite"),
        account=directory.resolve().as_posix(),
        budget=Budget(config.budget_calls, config.budget_tokens, config.budget_money),
        prices=Prices(config.price_prompt, config.price_completion),
        concurrency=config.concurrency,
    )


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
