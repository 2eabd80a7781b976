"""Builders of workers, planners and the language-model service that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.llm import Scripted, Service
from pilotage.planning.box_search import ascend
from pilotage.random.streams import Streams
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.archetypes import WorkerArchetypes, make_archetypes
from pilotage.systems.societies.llm_economist.env.election import ElectedPlanner
from pilotage.systems.societies.llm_economist.env.population import read_tax_units
from pilotage.systems.societies.llm_economist.env.tax_years import RatePlanner, run_tax_years
from pilotage.systems.societies.llm_economist.env.workers import (
    AdaptiveWorkers,
    PersonaWorkers,
    RationalWorkers,
    Workers,
)
from pilotage.systems.societies.llm_economist.model import NetworkPlanner, RateNetwork
from pilotage.systems.societies.llm_economist.scenario import GeneratorSource, TaxWorld
from pilotage.systems.societies.llm_economist.scripted_planners import (
    ConstantPlanner,
    HillClimbPlanner,
    PatternPlanner,
    RandomPlanner,
    TargetPlanner,
)
from pilotage.training.llm_service import open_service

if TYPE_CHECKING:
    from pilotage.systems.societies.llm_economist.llm_workers import ExchangeLogger

PLANNERS_IN_WORDS = {
    "pattern": "pattern search",
    "hill-climb": "hill-climbing",
    "reinforce": "a small network trained by REINFORCE",
    "gradient": "the gradient of a relaxed model",
    "elected": "computed platforms and votes",
    "random": "random changes",
    "constant": "no change",
    "saez": "the rates of Saez's formula",
    "optimum": "the best rates found by search",
}
WORKERS_IN_WORDS = {
    "rational": "computed best responses",
    "adaptive": "ε-greedy bandits over hours",
    "persona": "computed best responses with habits",
}
SOFTMAX = (6.0, 2.0)
"""Temperatures of the relaxed hours, in weekly hours' worth of income, used one after the other."""
SHARP = 0.02
"""Temperature of the last selection."""
METRICS = ("hours", "output", "gini", "content")


# ---- the language model ----------------------------------------------------------------------------------------------


def make_service(config: TaxDesignConfig, directory: Path, seed: int) -> Service:
    """Open the language-model service (extra `llm`); its replies are kept in the run, or in `config.reply_cache`."""
    from pilotage.systems.societies.llm_economist.llm_planners import scripted_reply

    return open_service(config, lambda: Scripted(scripted_reply, "economy", seed), directory)


def archetypes_of(config: TaxDesignConfig, world: TaxWorld, source: GeneratorSource) -> WorkerArchetypes:
    """Group the workers of `world` into archetypes (skill bin × persona); the model is asked once per archetype."""
    units = read_tax_units(config.tax_units).working()
    return make_archetypes(
        world.game.population.skill,
        units,
        source("personas"),
        growth=config.income_growth,
        bins=config.skill_bins,
        personas=config.personas,
    )


# ---- workers and planners --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LLMAgents:
    """A language-model service with the archetypes that it plays."""

    service: Service
    archetypes: WorkerArchetypes
    seed: int
    """Part of every request, so that runs of different seeds do not share answers."""
    log: ExchangeLogger | None = None
    """Receives exchanges."""


def make_workers(
    config: TaxDesignConfig, world: TaxWorld, source: GeneratorSource, llm: LLMAgents | None = None
) -> Workers:
    """Build the workers named by `config.workers`.

    Args:
        config: the configuration.
        world: the population that works.
        source: named random generators.
        llm: the language model, needed for "llm" only.

    Raises:
        UsageError: for "llm" without a language model.
    """
    if config.workers == "rational":
        return RationalWorkers()
    if config.workers == "persona":
        return PersonaWorkers(inertia=config.inertia)
    if config.workers == "adaptive":
        return AdaptiveWorkers(world.game, source("workers"), epsilon=config.epsilon)
    if llm is None:
        raise UsageError("workers played by a language model need a service and archetypes")
    from pilotage.systems.societies.llm_economist.llm_workers import ServiceWorkers

    return ServiceWorkers(
        world.game,
        llm.archetypes,
        llm.service,
        source("workers"),
        seed=llm.seed,
        draws=config.draws,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        log=llm.log,
    )


def make_planner(
    config: TaxDesignConfig,
    world: TaxWorld,
    source: GeneratorSource,
    network: Callable[[], RateNetwork],
    llm: LLMAgents | None = None,
) -> RatePlanner:
    """Build the planner named by `config.planner`.

    The rates of "saez" and "optimum" are the first rates of their runs, which are then kept.

    Args:
        config: the configuration.
        world: the population whose taxes are set.
        source: named random generators.
        network: makes or finds the trained network of "reinforce".
        llm: the language model, needed for "llm" and "elected-llm" only.

    Raises:
        UsageError: for a planner that needs a language model, without one.
    """
    if config.planner in ("llm", "elected-llm"):
        if llm is None:
            raise UsageError("a planner played by a language model needs a service and archetypes")
        return _llm_planner(config, source, llm)
    made: Mapping[str, Callable[[], RatePlanner]] = {
        "pattern": PatternPlanner,
        "hill-climb": lambda: HillClimbPlanner(source("planner")),
        "reinforce": lambda: NetworkPlanner(network()),
        "gradient": lambda: TargetPlanner(lambda rates: climb(world, rates)),
        "elected": lambda: ElectedPlanner(
            world.game, source("planner"), candidates=config.candidates, satisfaction=world.satisfaction
        ),
        "random": lambda: RandomPlanner(source("planner")),
        "constant": ConstantPlanner,
        "saez": ConstantPlanner,
        "optimum": ConstantPlanner,
    }
    return made[config.planner]()


def _llm_planner(config: TaxDesignConfig, source: GeneratorSource, llm: LLMAgents) -> RatePlanner:
    from pilotage.systems.societies.llm_economist.llm_planners import ElectedByService, ServicePlanner

    if config.planner == "llm":
        return ServicePlanner(llm.service, seed=llm.seed, temperature=config.temperature, max_tokens=config.max_tokens)
    return ElectedByService(
        llm.archetypes,
        llm.service,
        source("planner"),
        candidates=min(config.candidates, config.agents),
        seed=llm.seed,
        draws=config.draws,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        log=llm.log,
    )


def climb(world: TaxWorld, rates: Tensor) -> Tensor:
    """Return the rates [bracket] that gradient ascent of welfare reaches.

    Hours are relaxed to a softmax of falling temperature. Ascents start from `rates` and from five flat schedules side
    by side; the best of the rates in tens around their ends, by a nearly sharp softmax, is returned.
    """
    flat = (20.0, 40.0, 60.0, 80.0, 95.0)
    starts = torch.stack([rates, *(torch.full_like(rates, level) for level in flat)])
    for temperature in SOFTMAX:
        found = ascend(partial(world.game.relaxed_score, temperature=temperature), starts, steps=60)
        starts = found.points[-len(starts) :]
    ends = torch.cat([starts, found.point[None]])
    corners = torch.tensor(list(product((0.0, 10.0), repeat=len(rates))), dtype=rates.dtype)
    around = ((ends / 10).floor()[:, None] * 10 + corners).clamp(max=100).flatten(0, 1)
    with torch.no_grad():
        score = torch.cat([world.game.relaxed_score(part, SHARP) for part in around.split(64)])
    return around[int(score.argmax())]


def evaluate_schedule(
    config: TaxDesignConfig, world: TaxWorld, rates: Tensor, seed: int, years: int = 4
) -> dict[str, float]:
    """Return what a constant schedule brings when the configured scripted workers react, exploration included.

    Two schedules with one seed meet equal draws, since the workers get streams of their own.

    Args:
        config: the configuration, whose workers are scripted.
        world: the population.
        rates: constant rates in percent, [bracket].
        seed: seed of the workers' streams.
        years: number of tax years; the first, in which habits form, does not count.

    Returns:
        Welfare, hours, output, Gini and content, as means over the settled steps.
    """
    streams = Streams(seed)
    found = run_tax_years(
        world.game,
        make_workers(config, world, streams.torch),
        ConstantPlanner(),
        streams.torch("loop"),
        years=years,
        tax_year=config.tax_year,
        start=rates,
        settled=config.settled,
        satisfaction=world.satisfaction,
    )
    size = config.tax_year
    step = torch.arange(years * size)
    counts = (step % size >= size - max(1, round(config.settled * size))) & (step >= (size if years > 1 else 0))
    table = {"welfare": found.step_welfare, **{name: getattr(found, name) for name in METRICS}}
    return {name: float(values[counts].mean()) for name, values in table.items()}


class LoggingPlanner:
    """A planner whose exchanges are logged; those of a script are marked as scripted."""

    def __init__(self, planner: RatePlanner, name: str, log: ExchangeLogger) -> None:
        self.planner, self.name, self.log = planner, name, log
        self.scripted = planner.scripted

    def reply(self, state: str) -> str:
        """Return the planner's reply and log the exchange."""
        text = self.planner.reply(state)
        said = f"[scripted stand-in {self.name}] {text}" if self.scripted else text
        source = "scripted" if self.scripted else "model"
        self.log({"agent": "planner", "prompt": state, "completion": said, "source": source, "model": self.name})
        return text

    def state_dict(self) -> dict[str, Any]:
        """Return the planner's state, empty for one without."""
        has = getattr(self.planner, "state_dict", None)
        return has() if has else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the planner's state, where it has any."""
        loading = getattr(self.planner, "load_state_dict", None)
        if loading:
            loading(state)


def scripted_components(config: TaxDesignConfig, service: Service | None) -> list[str]:
    """Return what is scripted, in words, for run.json and the report."""
    said = [] if service is None else service.scripted_components()
    if config.workers in WORKERS_IN_WORDS:
        said.append(f"the workers are scripted ({WORKERS_IN_WORDS[config.workers]})")
    if config.planner in PLANNERS_IN_WORDS:
        said.append(f"the planner is scripted ({PLANNERS_IN_WORDS[config.planner]})")
    return said
