"""Actions of LLM Economist: the optimum of a finished run, the effect of another schedule, the cost of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pilotage.core.errors import UsageError
from pilotage.core.intervals import t_interval
from pilotage.random.streams import Streams, derive_seed
from pilotage.runs.manifest import Manifest
from pilotage.systems.societies.llm_economist.builders import evaluate_schedule, make_workers
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.tax_years import run_tax_years
from pilotage.systems.societies.llm_economist.scenario import (
    ReferenceSchedule,
    TaxWorld,
    make_world,
    named_schedule,
    reference_schedule,
    reference_schedules,
)
from pilotage.systems.societies.llm_economist.scripted_planners import ConstantPlanner
from pilotage.systems.societies.llm_economist.simulate import read_schedules

WORDS = {
    "welfare": "social welfare per head",
    "hours": "weekly hours",
    "output": "income before tax, $",
    "gini": "Gini after tax and rebate",
    "content": "share of people who are content",
}


def optimum(config: TaxDesignConfig, run: Path) -> dict[str, Any]:
    """Compare the best schedule of a run's population with Saez's, the federal, a flat 50 % and the planner's last.

    Args:
        config: configuration of the run.
        run: directory of the finished run.

    Returns:
        A table of schedules with their rates, share of the optimum, hours, output, Gini and rebate.
    """
    seed = Manifest.read(run).seed
    world = make_world(config, Streams(seed).torch)
    references = reference_schedules(config, world, Streams(seed).torch("optimum"))
    final = torch.tensor(read_schedules(run)["final"]["rates"], dtype=torch.float64)
    rows = [*references.values(), reference_schedule("planner's last", world, final)]
    return {
        "workers": f"{len(world.game)}, who respond as well as they can",
        "schedules": [_row(reference, references["optimum"].welfare) for reference in rows],
    }


def _row(reference: ReferenceSchedule, best: float) -> dict[str, Any]:
    return {
        "schedule": reference.name,
        "rates, %": ", ".join(f"{rate:.0f}" for rate in reference.rates.tolist()),
        "share of optimum": round(reference.welfare / best, 4),
        "hours": round(reference.hours, 1),
        "output, $": round(reference.output),
        "Gini": round(reference.gini, 3),
        "rebate, $": round(reference.rebate),
    }


def counterfactual(
    config: TaxDesignConfig,
    run: Path,
    schedule: str = "optimum",
    against: str = "federal",
    seeds: int = 10,
    tax_years: int = 5,
) -> dict[str, Any]:
    """Compare two schedules for the same people, paired by seed, with 95 % intervals.

    Args:
        config: configuration of the run.
        run: directory of the finished run.
        schedule: federal, saez, optimum, flat_50, final (where the planner ended), or rates in percent: 70,60,40.
        against: the schedule to compare with, written likewise.
        seeds: number of populations and draws, each met by both schedules; the first is the run's own.
        tax_years: number of years in which each schedule is in force; the first does not count.

    Returns:
        A table of means and paired differences.

    Raises:
        UsageError: for a run whose workers a language model plays, since it would be asked again.
    """
    if config.workers == "llm":
        raise UsageError(
            "the workers of this run were played by a language model, which would be asked anew; start runs with "
            "--planner constant and --start instead, with --reply-cache of this one"
        )
    if seeds < 2 or tax_years < 1:
        raise UsageError(f"an interval needs 2 seeds or more and 1 tax year or more, got {seeds} and {tax_years}")
    final = torch.tensor(read_schedules(run)["final"]["rates"], dtype=torch.float64)
    first, own = Manifest.read(run).seed, replace(config, years=tax_years)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in WORDS}
    for number in range(seeds):
        # The first pair is the run's own people.
        seed = first if number == 0 else derive_seed(first, "counterfactual", number)
        world = make_world(config, Streams(seed).torch)
        references = reference_schedules(config, world, Streams(seed).torch("optimum"))
        references["final"] = reference_schedule("final", world, final)
        sides = [_metrics_under(own, world, chosen, references, seed) for chosen in (schedule, against)]
        for name in WORDS:
            pairs[name].append((sides[0][name], sides[1][name]))
    rows = []
    for name, words in WORDS.items():
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


def _metrics_under(
    config: TaxDesignConfig, world: TaxWorld, text: str, references: Mapping[str, ReferenceSchedule], seed: int
) -> dict[str, float]:
    """Return the metrics of one schedule, named or given as rates, for these people."""
    chosen = named_schedule(text, references, len(world.game.edges))
    edges, rates = (
        (references[chosen].edges, references[chosen].rates) if isinstance(chosen, str) else (world.game.edges, chosen)
    )
    there = world if edges.equal(world.game.edges) else world.with_edges(edges, config)
    return evaluate_schedule(config, there, rates, seed, config.years)


def estimate_cost(config: TaxDesignConfig) -> dict[str, Any]:
    """Estimate tax years, steps, the largest number of model calls, and seconds from a few timed steps."""
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
    reference_schedules(config, world, Streams(0).torch("optimum"))
    fixed = time.perf_counter() - began
    timed = replace(config, workers="adaptive" if config.workers == "llm" else config.workers)
    began = time.perf_counter()
    run_tax_years(
        world.game,
        make_workers(timed, world, Streams(0).torch),
        ConstantPlanner(),
        Streams(0).torch("loop"),
        years=1,
        tax_year=min(config.tax_year, 5),
    )
    found["seconds"] = fixed + (time.perf_counter() - began) / min(config.tax_year, 5) * steps
    return found
