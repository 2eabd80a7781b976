"""What can be asked of a finished tax game: its optimum, what another schedule would have done, what one will cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pilotage.core.errors import UsageError
from pilotage.evaluation.verdicts import t_interval
from pilotage.random.streams import Streams, derive_seed
from pilotage.runs.manifest import Manifest
from pilotage.systems.societies.llm_economist.builders import make_workers
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.tax_years import simulate
from pilotage.systems.societies.llm_economist.evaluation import lived
from pilotage.systems.societies.llm_economist.scenario import (
    Landmark,
    World,
    landmark,
    landmarks,
    make_world,
    named_schedule,
)
from pilotage.systems.societies.llm_economist.scripted_planners import ConstantPlanner
from pilotage.systems.societies.llm_economist.train import read_schedules

MEASURED = {
    "welfare": "social welfare per head",
    "hours": "weekly hours",
    "output": "income before tax, $",
    "gini": "Gini after tax and rebate",
    "content": "share of people who are content",
}


def optimum(config: TaxDesignConfig, run: Path) -> dict[str, Any]:
    """The schedules that the run is measured against and where its planner ended, as a table."""
    seed = Manifest.read(run).seed
    world = make_world(config, Streams(seed).torch)
    marks = landmarks(config, world, Streams(seed).torch("optimum"))
    final = torch.tensor(read_schedules(run)["final"]["rates"], dtype=torch.float64)
    rows = [*marks.values(), landmark("planner's last", world, final)]
    return {
        "workers": f"{len(world.game)}, who respond as well as they can",
        "schedules": [_row(mark, marks["optimum"].welfare) for mark in rows],
    }


def _row(mark: Landmark, best: float) -> dict[str, Any]:
    return {
        "schedule": mark.name,
        "rates, %": ", ".join(f"{rate:.0f}" for rate in mark.rates.tolist()),
        "share of optimum": round(mark.welfare / best, 4),
        "hours": round(mark.hours, 1),
        "output, $": round(mark.output),
        "Gini": round(mark.gini, 3),
        "rebate, $": round(mark.rebate),
    }


def counterfactual(
    config: TaxDesignConfig, run: Path, schedule: str, against: str, seeds: int, tax_years: int
) -> dict[str, Any]:
    """Differences of two schedules, each in force from the first step; see `tax_design_config.counterfactual`.

    Raises UsageError for a run whose workers a language model plays: a rerun would ask it again."""
    if config.workers == "llm":
        raise UsageError(
            "the workers of this run were played by a language model, which would be asked anew; start runs with "
            "--planner constant and --start instead, with --answers of this one"
        )
    if seeds < 2 or tax_years < 1:
        raise UsageError(f"an interval needs 2 seeds or more and 1 tax year or more, got {seeds} and {tax_years}")
    final = torch.tensor(read_schedules(run)["final"]["rates"], dtype=torch.float64)
    first, own = Manifest.read(run).seed, replace(config, years=tax_years)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in MEASURED}
    for number in range(seeds):
        # The first pair is the run's own people.
        seed = first if number == 0 else derive_seed(first, "counterfactual", number)
        world = make_world(config, Streams(seed).torch)
        marks = landmarks(config, world, Streams(seed).torch("optimum"))
        marks["final"] = landmark("final", world, final)
        sides = [_lived(own, world, chosen, marks, seed) for chosen in (schedule, against)]
        for name in MEASURED:
            pairs[name].append((sides[0][name], sides[1][name]))
    rows = []
    for name, words in MEASURED.items():
        difference = t_interval([a - b for a, b in pairs[name]])
        of, other = (sum(side) / seeds for side in zip(*pairs[name], strict=True))
        rows.append(
            {
                "measure": words,
                schedule: round(of, 3),
                against if against != schedule else f"{against} again": round(other, 3),
                "difference": round(difference.mean, 3),
                "95 % from": round(difference.low, 3),
                "to": round(difference.high, 3),
            }
        )
    return {
        "compared": f"{schedule} against {against}, {seeds} populations, each under both, {tax_years} tax years",
        "differences": rows,
    }


def _lived(
    config: TaxDesignConfig, world: World, text: str, marks: Mapping[str, Landmark], seed: int
) -> dict[str, float]:
    """What one schedule brings these people."""
    chosen = named_schedule(text, marks, len(world.game.edges))
    edges, rates = (marks[chosen].edges, marks[chosen].rates) if isinstance(chosen, str) else (world.game.edges, chosen)
    there = world if edges.equal(world.game.edges) else world.with_edges(edges, config)
    return lived(config, there, rates, seed, config.years)


def forecast(config: TaxDesignConfig) -> dict[str, Any]:
    """Tax years, the most calls of a language model, and seconds: of the landmarks and a few timed steps."""
    steps = config.years * config.tax_year
    found: dict[str, Any] = {"tax years": config.years, "steps": steps}
    if config.asks_a_model:
        groups = min(config.agents, config.skill_bins * config.personas)
        votes = groups * config.draws + config.candidates
        workers = steps * groups * config.draws if config.workers == "llm" else 0
        planner = config.years * {"llm": 1, "elected-llm": votes}.get(config.planner, 0)
        found[config.calls_counted] = workers + planner
        if config.provider != "scripted":
            return found
    began = time.perf_counter()
    world = make_world(config, Streams(0).torch)
    landmarks(config, world, Streams(0).torch("optimum"))
    fixed = time.perf_counter() - began
    timed = replace(config, workers="adaptive" if config.workers == "llm" else config.workers)
    began = time.perf_counter()
    simulate(
        world.game,
        make_workers(timed, world, Streams(0).torch),
        ConstantPlanner(),
        Streams(0).torch("loop"),
        years=1,
        tax_year=min(config.tax_year, 5),
    )
    found["seconds"] = fixed + (time.perf_counter() - began) / min(config.tax_year, 5) * steps
    return found
