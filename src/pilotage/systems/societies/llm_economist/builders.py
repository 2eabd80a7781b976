"""From names in a configuration to workers, planners and the service that plays some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.llm import Scripted, Service
from pilotage.planning.box_search import ascend
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.election import ElectedPlanner
from pilotage.systems.societies.llm_economist.env.population import read_tax_units
from pilotage.systems.societies.llm_economist.env.tax_years import RatePlanner
from pilotage.systems.societies.llm_economist.env.workers import (
    AdaptiveWorkers,
    PersonaWorkers,
    RationalWorkers,
    Workers,
)
from pilotage.systems.societies.llm_economist.learned_planner import NetworkPlanner, RateNetwork
from pilotage.systems.societies.llm_economist.llm_planners import ElectedByService, ServicePlanner, play_anybody
from pilotage.systems.societies.llm_economist.llm_workers import Archetypes, Note, ServiceWorkers, make_archetypes
from pilotage.systems.societies.llm_economist.scenario import Source, World
from pilotage.systems.societies.llm_economist.scripted_planners import (
    ConstantPlanner,
    HillClimbPlanner,
    PatternPlanner,
    RandomPlanner,
    TargetPlanner,
)
from pilotage.training.llm_service import open_service

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
"""Temperatures of the relaxed hours, in weekly hours' worth of income, one after the other."""
SHARP = 0.02


# ---- the language model ----------------------------------------------------------------------------------------------


def make_service(config: TaxDesignConfig, directory: Path, seed: int) -> Service:
    """Who answers for what is `llm`: its answers lie in the run, or where the configuration says."""
    return open_service(config, lambda: Scripted(play_anybody, "economy", seed), directory)


def archetypes_of(config: TaxDesignConfig, world: World, source: Source) -> Archetypes:
    """Whom the model is asked to be."""
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
class Asked:
    """What it takes to have a language model play somebody."""

    service: Service
    archetypes: Archetypes
    seed: int
    """Goes into every request, so that runs of different seeds do not share answers."""
    note: Note | None = None
    """Is given exchanges."""


def make_workers(config: TaxDesignConfig, world: World, source: Source, asked: Asked | None = None) -> Workers:
    """As `--workers` says."""
    if config.workers == "rational":
        return RationalWorkers()
    if config.workers == "persona":
        return PersonaWorkers(inertia=config.inertia)
    if config.workers == "adaptive":
        return AdaptiveWorkers(world.game, source("workers"), epsilon=config.epsilon)
    if asked is None:
        raise UsageError("workers whom a model plays need a service and archetypes")
    return ServiceWorkers(
        world.game,
        asked.archetypes,
        asked.service,
        source("workers"),
        seed=asked.seed,
        draws=config.draws,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        note=asked.note,
    )


def make_planner(
    config: TaxDesignConfig,
    world: World,
    source: Source,
    network: Callable[[], RateNetwork],
    asked: Asked | None = None,
) -> RatePlanner:
    """As `--planner` says. network: makes or finds the trained one. Saez's and the best rates are the first rates of
    their runs, which then change nothing."""
    if config.planner in ("llm", "elected-llm"):
        if asked is None:
            raise UsageError("a planner whom a model plays needs a service and archetypes")
        return _asked_planner(config, source, asked)
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


def _asked_planner(config: TaxDesignConfig, source: Source, asked: Asked) -> RatePlanner:
    if config.planner == "llm":
        return ServicePlanner(
            asked.service, seed=asked.seed, temperature=config.temperature, max_tokens=config.max_tokens
        )
    return ElectedByService(
        asked.archetypes,
        asked.service,
        source("planner"),
        candidates=min(config.candidates, config.agents),
        seed=asked.seed,
        draws=config.draws,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        note=asked.note,
    )


def climb(world: World, rates: Tensor) -> Tensor:
    """[B]: where the gradient of welfare leads, hours relaxed to a softmax that sharpens, from `rates` and from five
    flat schedules side by side; then the best of the rates in tens around their ends, by a nearly sharp softmax."""
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


class NotedPlanner:
    """A planner whose exchanges are noted; a script's say that they are."""

    def __init__(self, planner: RatePlanner, name: str, note: Note) -> None:
        self.planner, self.name, self.note = planner, name, note
        self.scripted = planner.scripted

    def reply(self, state: str) -> str:
        text = self.planner.reply(state)
        said = f"[scripted stand-in {self.name}] {text}" if self.scripted else text
        source = "scripted" if self.scripted else "model"
        self.note({"agent": "planner", "prompt": state, "completion": said, "source": source, "model": self.name})
        return text

    def state_dict(self) -> dict[str, Any]:
        has = getattr(self.planner, "state_dict", None)
        return has() if has else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        loading = getattr(self.planner, "load_state_dict", None)
        if loading:
            loading(state)


def stand_ins(config: TaxDesignConfig, service: Service | None) -> list[str]:
    """What is scripted, in words, for run.json and the report."""
    said = [] if service is None else service.stand_ins()
    if config.workers in WORKERS_IN_WORDS:
        said.append(f"the workers are scripted ({WORKERS_IN_WORDS[config.workers]})")
    if config.planner in PLANNERS_IN_WORDS:
        said.append(f"the planner is scripted ({PLANNERS_IN_WORDS[config.planner]})")
    return said
