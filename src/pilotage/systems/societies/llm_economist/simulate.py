"""The run of a tax game: tax years one after the other, their metrics, and a comparison with reference schedules."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.environments.economy.tax_schedule import federal_schedule
from pilotage.llm import BudgetReached, Service
from pilotage.runs import Run
from pilotage.systems.societies.llm_economist.builders import (
    LLMAgents,
    LoggingPlanner,
    archetypes_of,
    evaluate_schedule,
    make_planner,
    make_service,
    make_workers,
    scripted_components,
)
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.planner_state import ReplayMemory
from pilotage.systems.societies.llm_economist.env.tax_years import TaxYears
from pilotage.systems.societies.llm_economist.env.workers import SatisfactionModel
from pilotage.systems.societies.llm_economist.model import RateNetwork
from pilotage.systems.societies.llm_economist.scenario import (
    GeneratorSource,
    ReferenceSchedule,
    TaxWorld,
    make_world,
    reference_schedules,
)
from pilotage.systems.societies.llm_economist.train import train_planner, training_config
from pilotage.training.llm_service import log_service, name_scripted_components
from pilotage.training.loop import Hooks, train_loop

SCHEDULES = "schedules.json"
"""File of a run that holds the reference schedules and the planner's last one."""
EXPLAINED = {
    "welfare": "social welfare per head in the settled part of the tax year, as --swf says, satisfaction counted",
    "welfare/share_of_optimum": "welfare divided by that of the best schedule found by search, under which all workers "
    "play their best response, without habits and exploration. The result's is the mean of the last years",
    "regret": "1 − welfare/share_of_optimum: what the year lost",
    "hours": "weekly hours, mean over workers, in the settled part of the tax year",
    "output": "income before tax, mean over workers, dollars a year, in the settled part of the tax year",
    "gini": "Gini coefficient of income after tax and rebate in the settled part of the tax year, 0 (equal) to 1",
    "content": "share of workers who are content with the policy; 1 without --satisfaction",
    "same_workers/NAME, gain_over/NAME": "of the result: welfare of the same workers when the schedule NAME is in "
    "force all the time, and the share by which the planner's last years are above it",
    "welfare/NAME": "of the result: welfare under the schedule NAME when all workers play their best response",
    "replies/kept": "tax years so far in which no answer of the planner could be used, so that rates stayed",
    "replies/refused": "answers of the planner so far that could not be read",
    "replies/truncated": "answers so far whose rates would have left 0 to 100 % and were cut",
}


def simulate(config: TaxDesignConfig, run: Run) -> Result:
    """Simulate all tax years, going on from the last checkpoint.

    The result's numbers are means over the last `result_years`. A budget that is used up ends the run with the years
    that are over and `complete` 0.
    """
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore" if config.swf == "paper" else "default")  # logged once, as an event
        service = stack.enter_context(make_service(config, run.directory, run.seed)) if config.asks_a_model else None
        game = TaxRun(config, run, service)
        return Result(str(run.directory), game.go())


class TaxRun(Hooks):
    """The state of a run of the tax game: simulation, planner, workers and reference schedules."""

    def __init__(self, config: TaxDesignConfig, run: Run, service: Service | None) -> None:
        self.config, self.run, self.service = config, run, service
        source: GeneratorSource = run.generator
        self.world = make_world(config, source)
        self.references = reference_schedules(config, self.world, source("optimum"))
        self.same_workers = self._evaluate_references()
        llm = None
        if service is not None:
            llm = LLMAgents(service, archetypes_of(config, self.world, source), run.seed, self._log_sampled_exchange)
        self.year = 0
        self.workers = make_workers(config, self.world, source, llm)
        planner = make_planner(config, self.world, source, self._network, llm)
        self.planner = LoggingPlanner(planner, getattr(planner, "name", config.planner), self._log_exchange)
        content = self.workers if isinstance(self.workers, SatisfactionModel) else self.world.satisfaction
        self.simulation = TaxYears(
            self.world.game,
            self.workers,
            self.planner,
            source("loop"),
            years=config.years,
            tax_year=config.tax_year,
            start=first_rates(config, self.references),
            settled=config.settled,
            final=config.final,
            attempts=config.attempts,
            memory=ReplayMemory(history=config.history, best=config.best, advice=config.advice),
            satisfaction=content if config.satisfaction else None,
        )

    def go(self) -> dict[str, float]:
        """Simulate all years and return the result's numbers."""
        run, yearly, complete = self.run, self.simulation.yearly, True
        name_scripted_components(run, scripted_components(self.config, self.service))
        self._write_schedules()
        try:
            every = self.config.checkpoint_every
            train_loop(
                run, self, self.config.years, checkpoint_every=every, label=f"{run.system} {self.config.planner}"
            )
        except BudgetReached as stop:
            complete, yearly = False, self.simulation.yearly
            if len(yearly) == self.year:  # the year is over, but for the planner's answer to it
                run.log(self.year, self.metrics(self.year))
            run.log_event(self.year, "budget", f"{stop}; {len(yearly)} of {self.config.years} tax years are over")
        if self.service is not None:
            log_service(run, self.service)
        self._write_schedules()
        return self._result(complete)

    # ---- hooks of the loop -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"simulation": self.simulation, "planner": self.planner}

    def resume(self, done: int) -> None:
        """Explain the metrics, and at the beginning warn about the paper's welfare."""
        for name, text in {**EXPLAINED, **_explained_rates(self.world)}.items():
            self.run.describe_metric(name, text)
        if not done and self.config.swf == "paper":
            self.run.log_event(
                0,
                "paper welfare",
                "--swf paper divides utilities by what people earn now: a worker who stops working counts thousands of "
                "times more, and taxes near 100 % win. Use --swf fixed unless this defect is what you study",
            )

    def step(self, step: int) -> None:
        """Simulate one tax year and time it."""
        self.year, began = step + 1, time.perf_counter()
        try:
            self.simulation.advance()
        finally:
            if len(self.simulation.yearly) == self.year:
                self.run.log_timing(self.year, {"seconds": time.perf_counter() - began})

    def metrics(self, done: int) -> dict[str, float]:
        """Return the metrics of the last tax year; a welfare that is not finite stops the run."""
        simulation, counts = self.simulation, self.simulation.counts
        settled = {name: _mean(values[-simulation.settled :]) for name, values in simulation.steps.items()}
        rates, welfare = simulation.yearly[-1]
        self.run.check_finite(done, "welfare", welfare)
        return {
            **settled,
            "welfare": welfare,
            "welfare/share_of_optimum": self._share(welfare),
            "regret": 1 - self._share(welfare),
            **{f"rate/{place + 1}": float(rate) for place, rate in enumerate(rates)},
            "replies/kept": counts["kept"],
            "replies/refused": sum(n for name, n in counts.items() if name.startswith("refused/")),
            "replies/truncated": counts["truncated"],
        }

    def shown(self, metrics: Mapping[str, float]) -> Mapping[str, float | str]:
        """Return the share of the optimum."""
        return {"share": metrics["welfare/share_of_optimum"]}

    # ---- what is written ---------------------------------------------------------------------------------------------

    def _evaluate_references(self) -> dict[str, dict[str, float]]:
        """Return the same workers' metrics under each reference schedule; empty where a model plays them."""
        if self.config.workers == "llm":
            return {}
        seed, found = self.run.seed_for("landmarks"), {}
        for name, reference in self.references.items():
            same = reference.edges.equal(self.world.game.edges)
            there = self.world if same else self.world.with_edges(reference.edges, self.config)
            found[name] = evaluate_schedule(self.config, there, reference.rates, seed)
        return found

    def _share(self, welfare: float) -> float:
        return welfare / self.references["optimum"].welfare

    def _log_exchange(self, record: Mapping[str, Any]) -> None:
        self.run.log_rollout(self.year, record)

    def _log_sampled_exchange(self, record: Mapping[str, Any]) -> None:
        every = self.config.transcripts
        if every and (self.year - 1) % every == 0:
            self._log_exchange(record)

    def _network(self) -> RateNetwork:
        path = self.run.artifact(train_planner, training_config(self.config), name="rate-planner")
        return RateNetwork.load(path)

    def _write_schedules(self) -> None:
        """Write the reference schedules and, once years are over, the planner's last schedule with its metrics."""
        found: dict[str, Any] = {
            "schedules": [
                {**reference.record(), "same_workers": self.same_workers.get(name)}
                for name, reference in self.references.items()
            ]
        }
        simulation = self.simulation
        if simulation.yearly:
            last = simulation.yearly[-min(self.config.result_years, len(simulation.yearly)) :]
            numbers = self._settled_numbers()
            found["final"] = {
                "name": "planner",
                "edges": self.world.game.edges.tolist(),
                "rates": last[-1][0].tolist(),
                "welfare": _mean([welfare for _, welfare in last]),
                **{name: numbers[name] for name in ("hours", "output", "gini")},
                "rebate": float(simulation.last.rebate) if simulation.last is not None else math.nan,
            }
        skill = self.world.game.population.skill
        found["incomes"] = (40 * skill).quantile(torch.linspace(0.005, 0.995, 199, dtype=skill.dtype)).tolist()
        write_atomically(self.run.directory / SCHEDULES, json.dumps(found, indent=1).encode() + b"\n")

    def _settled_numbers(self) -> dict[str, float]:
        """Return means over the settled steps of the last `result_years`."""
        simulation, size = self.simulation, self.config.tax_year
        years = range(max(0, len(simulation.yearly) - self.config.result_years), len(simulation.yearly))
        steps = [s for y in years for s in range((y + 1) * size - simulation.settled, (y + 1) * size)]
        return {name: _mean([values[s] for s in steps]) for name, values in simulation.steps.items()}

    def _result(self, complete: bool) -> dict[str, float]:
        """Return the result's numbers, means over the last years."""
        yearly, references = self.simulation.yearly, self.references
        about = {"complete": float(complete), "years": float(len(yearly))}
        if not yearly:
            return {**about, **{f"welfare/{name}": reference.welfare for name, reference in references.items()}}
        last = yearly[-min(self.config.result_years, len(yearly)) :]
        final = _mean([welfare for _, welfare in last])
        rates = torch.stack([rates for rates, _ in last]).mean(0)
        return {
            "welfare/share_of_optimum": self._share(final),
            **about,
            "welfare/final": final,
            **{f"welfare/{name}": reference.welfare for name, reference in references.items()},
            **{f"same_workers/{name}": numbers["welfare"] for name, numbers in self.same_workers.items()},
            **{f"gain_over/{name}": final / numbers["welfare"] - 1 for name, numbers in self.same_workers.items()},
            "regret/mean": _mean([1 - self._share(welfare) for _, welfare in yearly]),
            **{f"{name}/final": v for name, v in self._settled_numbers().items() if name != "welfare"},
            **{f"rate/{place + 1}": float(rate) for place, rate in enumerate(rates)},
        }


def first_rates(config: TaxDesignConfig, references: Mapping[str, ReferenceSchedule]) -> Tensor:
    """Return the rates of the first year in percent, [bracket].

    Raises UsageError for a number of configured rates that does not fit the brackets.
    """
    brackets = len(references["optimum"].rates)
    if config.planner in ("saez", "optimum"):
        return references[config.planner].rates
    if config.federal_start:
        return federal_schedule(config.year, config.status).rates
    if len(config.start) not in (1, brackets):
        raise UsageError(f"--start has {len(config.start)} rates; give one, or one for each of {brackets} brackets")
    return torch.tensor(config.start, dtype=torch.float64).expand(brackets)


def read_schedules(run: Path) -> dict[str, Any]:
    """Return the content of schedules.json of a run. Raises UsageError where there is none."""
    path = run / SCHEDULES
    if not path.is_file():
        raise UsageError(f"{run} holds no tax game (there is no {SCHEDULES})")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _explained_rates(world: TaxWorld) -> dict[str, str]:
    edges = world.game.edges.tolist()
    return {
        f"rate/{place + 1}": f"marginal rate in percent on income from ${edge:,.0f}" for place, edge in enumerate(edges)
    }


def _mean(values: Any) -> float:
    return math.fsum(values) / len(values)
