"""The language model of a run, opened from the options of its configuration. Endpoints need the extra `llm`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pilotage.engines import build_engine
from pilotage.llm import Budget, LocalModel, OpenAICompatible, Prices, Provider, Service, Store
from pilotage.llm.options import ServiceOptions
from pilotage.policies.language.policy import LanguagePolicy


def open_provider(options: ServiceOptions, stand_in: Callable[[], Provider]) -> Provider:
    """Open the provider of the options; `stand_in` makes the scripted one.

    Raises UsageError for a model that cannot be opened.
    """
    if options.provider == "endpoint":
        return OpenAICompatible(options.model, base_url=options.base_url)
    if options.provider == "local":
        policy = LanguagePolicy.from_pretrained(options.model)
        return LocalModel(policy, build_engine("auto", policy.model, policy.tokenizer))
    return stand_in()


def open_service(options: ServiceOptions, stand_in: Callable[[], Provider], directory: Path | None) -> Service:
    """Open the service of a run.

    Args:
        options: provider, model, cache, budget and prices.
        stand_in: makes the scripted provider.
        directory: directory of the run, which keeps the answers unless the options name another file; None: answers
            are not kept.
    """
    kept = options.reply_cache or (None if directory is None else directory / "answers.sqlite")
    return Service(
        open_provider(options, stand_in),
        store=Store(kept),
        account="no run" if directory is None else directory.resolve().as_posix(),
        budget=Budget(options.budget_calls, options.budget_tokens, options.budget_money),
        prices=Prices(options.price_prompt, options.price_completion),
        concurrency=options.concurrency,
    )
