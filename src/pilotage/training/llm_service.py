"""The language model of a run, opened as a configuration says: who answers, what is kept, what it may cost.

Needs the extra `llm` for endpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pilotage.engines import build_engine
from pilotage.llm import Budget, LocalModel, OpenAICompatible, Prices, Provider, Service, Store
from pilotage.llm.options import ServiceOptions
from pilotage.policies.language.policy import load_policy


def open_provider(options: ServiceOptions, stand_in: Callable[[], Provider]) -> Provider:
    """Who answers; `stand_in` makes the scripted one. Raises UsageError for a model that cannot be opened."""
    if options.provider == "endpoint":
        return OpenAICompatible(options.model, base_url=options.base_url)
    if options.provider == "local":
        policy = load_policy(options.model)
        return LocalModel(policy, build_engine("auto", policy.model, policy.tokenizer))
    return stand_in()


def open_service(options: ServiceOptions, stand_in: Callable[[], Provider], directory: Path | None) -> Service:
    """The service of a run in `directory`: answers lie in the run, or where the options say; without either nowhere."""
    kept = options.answers or (None if directory is None else directory / "answers.sqlite")
    return Service(
        open_provider(options, stand_in),
        store=Store(kept),
        account="nobody's run" if directory is None else directory.resolve().as_posix(),
        budget=Budget(options.budget_calls, options.budget_tokens, options.budget_money),
        prices=Prices(options.price_prompt, options.price_completion),
        concurrency=options.concurrency,
    )
