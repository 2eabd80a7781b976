"""The language model of a run, opened from the options of its configuration. Endpoints need the extra `llm`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from pilotage.core.atomic_io import write_atomically
from pilotage.engines import build_engine
from pilotage.llm import Budget, LocalModel, OpenAICompatible, Prices, Provider, Service, Store
from pilotage.llm.options import ServiceOptions
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.runs import Run
from pilotage.runs.progress import Progress

ACCOUNT = "account.txt"
"""File of a run with the name of its budget in the store, so that the budget goes on where the folder is renamed."""


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
        account="no run" if directory is None else account_of(directory),
        budget=Budget(options.budget_calls, options.budget_tokens, options.budget_money),
        prices=Prices(options.price_prompt, options.price_completion),
        concurrency=options.concurrency,
    )


def account_of(directory: Path) -> str:
    """Return the name of a run's budget, which its folder keeps; it is made when there is none. Raises DiskFull."""
    path = directory / ACCOUNT
    try:
        name = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        name = ""
    if not name:
        name = uuid4().hex
        write_atomically(path, f"{name}\n".encode())
    return name


def name_scripted_components(run: Run, scripted_components: Sequence[str]) -> None:
    """Say on the terminal and in run.json, and thereby in the report, what is scripted in place of a model.

    Args:
        run: the run, which begins or goes on.
        scripted_components: what is scripted, in words (`Service.scripted_components`).

    Raises:
        DiskFull: run.json cannot be written.
    """
    run.manifest.name_scripted_components(run.directory, scripted_components)
    if scripted_components and Progress.shown:
        said = "; ".join(scripted_components)
        print(f"Scripted stand-in: {said}. The numbers say nothing about a real model.", file=sys.stderr, flush=True)


def log_service(run: Run, service: Service) -> None:
    """Write what a service did to the events of a run: its counters, and a sentence on each thing that went wrong."""
    counters = ", ".join(f"{name} {value:g}" for name, value in service.counters().metrics("").items() if value)
    run.log_event(None, "language model", f"{service.provider.name}: {counters or 'not asked'}")
    for note in service.notes():
        run.log_event(None, "language model", note)
