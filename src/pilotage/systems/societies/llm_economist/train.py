"""The run of a tax game: year by year, noted, kept, and measured against the best schedule."""

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
from pilotage.runs import Progress, Run
from pilotage.systems.societies.llm_economist.builders import (
    Asked,
    NotedPlanner,
    archetypes_of,
    make_planner,
    make_service,
    make_workers,
    stand_ins,
)
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.planner_state import ReplayMemory
from pilotage.systems.societies.llm_economist.env.tax_years import TaxYears
from pilotage.systems.societies.llm_economist.evaluation import lived
from pilotage.systems.societies.llm_economist.learned_planner import RateNetwork
from pilotage.systems.societies.llm_economist.llm_workers import ServiceWorkers
from pilotage.systems.societies.llm_economist.planner_training import train_planner, training_config
from pilotage.systems.societies.llm_economist.scenario import Landmark, Source, World, landmarks, make_world

SCHEDULES = "schedules.json"
"""The file of a run that holds the schedules it is measured against, and where it ended."""
EXPLAINED = {
    "welfare": "social welfare per head in the settled part of the tax year, as --swf says, satisfaction counted",
    "welfare/share_of_optimum": "the same divided by that of the best schedule found by search, under which everybody "
    "responds as well as it can, which leaves habits and exploration out. The result's is the mean of the last years",
    "regret": "1 − welfare/share_of_optimum: what the year lost",
    "hours": "weekly hours, mean over workers, in the settled part of the tax year",
    "output": "income before tax, mean over workers, dollars a year, in the settled part of the tax year",
    "gini": "Gini coefficient of income after tax and rebate in the settled part of the tax year, 0 (equal) to 1",
    "content": "share of workers who are content with the policy; 1 where nobody asks",
    "lived/NAME, over/NAME": "of the result: welfare of the same workers when the schedule NAME is in force all the "
    "time, and by what share the planner's last years are above it",
    "welfare/NAME": "of the result: welfare under the schedule NAME when everybody responds as well as it can",
    "replies/kept": "tax years so far in which no answer of the planner could be used, so that rates stayed",
    "replies/refused": "answers of the planner so far that could not be read",
    "replies/truncated": "answers so far whose rates would have left 0 to 100 % and were cut",
}


def play(config: TaxDesignConfig, run: Run) -> Result:
    """All tax years, from the last checkpoint where there is one; schedules.json, and a result whose numbers are means
    over the last `judged_years`. A budget that is used up ends it with what there is, `complete` 0."""
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore" if config.swf == "paper" else "default")  # said below, once, as an event
        service = stack.enter_context(make_service(config, run.directory, run.seed)) if config.asks_a_model else None
        game = _Played(config, run, service)
        finished = game.go()
    return Result(str(run.directory), finished)


class _Played:
    """What a run of the game is made of."""

    def __init__(self, config: TaxDesignConfig, run: Run, service: Service | None) -> None:
        self.config, self.run, self.service = config, run, service
        source: Source = run.generator
        self.world = make_world(config, source)
        self.marks = landmarks(config, self.world, source("optimum"))
        self.lived = self._lived_under_landmarks()
        asked = None
        if service is not None:
            asked = Asked(service, archetypes_of(config, self.world, source), run.seed, self._note_seldom)
        self.year = 0
        self.workers = make_workers(config, self.world, source, asked)
        planner = make_planner(config, self.world, source, self._network, asked)
        self.planner = NotedPlanner(planner, getattr(planner, "name", config.planner), self._note)
        content = self.workers if isinstance(self.workers, ServiceWorkers) else self.world.satisfaction
        self.simulation = TaxYears(
            self.world.game,
            self.workers,
            self.planner,
            source("loop"),
            years=config.years,
            tax_year=config.tax_year,
            start=first_rates(config, self.marks),
            settled=config.settled,
            final=config.final,
            attempts=config.attempts,
            memory=ReplayMemory(history=config.history, best=config.best, advice=config.advice),
            satisfaction=content if config.satisfaction else None,
        )

    def go(self) -> dict[str, float]:
        """Plays and returns the result's numbers."""
        run, simulation = self.run, self.simulation
        run.manifest.name_stand_ins(run.directory, stand_ins(self.config, self.service))
        state: dict[str, Any] = {"simulation": simulation, "planner": self.planner}
        done = run.restore(state)
        for name, text in {**EXPLAINED, **_explained_rates(self.world)}.items():
            run.describe_metric(name, text)
        self._write_schedules()
        if not done and self.config.swf == "paper":
            run.log_event(
                0,
                "paper welfare",
                "--swf paper divides utilities by what people earn now: whoever stops working counts thousands of "
                "times more, and taxes near 100 % win. Use --swf fixed unless this defect is what you study",
            )
        complete = True
        with Progress(self.config.years, f"{run.system} {self.config.planner}", start=done, unit="year") as progress:
            while len(simulation.yearly) < self.config.years:
                self.year, began = len(simulation.yearly) + 1, time.perf_counter()
                try:
                    simulation.advance()
                except BudgetReached as stop:
                    complete = False
                    if len(simulation.yearly) == self.year:  # lived through, but for the planner's answer to it
                        self._log(time.perf_counter() - began)
                    over = f"{len(simulation.yearly)} of {self.config.years} tax years are over"
                    run.log_event(self.year, "budget", f"{stop}; {over}")
                    break
                self._log(time.perf_counter() - began)
                progress.advance(self.year, share=self._share(simulation.yearly[-1][1]))
                if self.year % self.config.checkpoint_every == 0 or self.year == self.config.years:
                    run.save(self.year, state)
        if self.service is not None:
            counters = ", ".join(
                f"{name} {value:g}" for name, value in self.service.counters().metrics("").items() if value
            )
            run.log_event(None, "language model", f"{self.service.provider.name}: {counters or 'not asked'}")
        self._write_schedules()
        return self._result(complete)

    def _lived_under_landmarks(self) -> dict[str, dict[str, float]]:
        """What the same workers make of each landmark, with draws of their own; nothing where a model plays them."""
        if self.config.workers == "llm":
            return {}
        seed, found = self.run.seed_for("landmarks"), {}
        for name, mark in self.marks.items():
            same = mark.edges.equal(self.world.game.edges)
            there = self.world if same else self.world.with_edges(mark.edges, self.config)
            found[name] = lived(self.config, there, mark.rates, seed)
        return found

    # ---- what is written ---------------------------------------------------------------------------------------------

    def _log(self, seconds: float) -> None:
        simulation = self.simulation
        settled = {name: _mean(values[-simulation.settled :]) for name, values in simulation.steps.items()}
        rates, welfare = simulation.yearly[-1]
        counts = simulation.counts
        self.run.check_finite(self.year, "welfare", welfare)
        self.run.log_timing(self.year, {"seconds": seconds})
        self.run.log(
            self.year,
            {
                **settled,
                "welfare": welfare,
                "welfare/share_of_optimum": self._share(welfare),
                "regret": 1 - self._share(welfare),
                **{f"rate/{place + 1}": float(rate) for place, rate in enumerate(rates)},
                "replies/kept": counts["kept"],
                "replies/refused": sum(n for name, n in counts.items() if name.startswith("refused/")),
                "replies/truncated": counts["truncated"],
            },
        )

    def _share(self, welfare: float) -> float:
        return welfare / self.marks["optimum"].welfare

    def _note(self, record: Mapping[str, Any]) -> None:
        self.run.log_rollout(self.year, record)

    def _note_seldom(self, record: Mapping[str, Any]) -> None:
        every = self.config.transcripts
        if every and (self.year - 1) % every == 0:
            self._note(record)

    def _network(self) -> RateNetwork:
        path = self.run.artifact(train_planner, training_config(self.config), name="rate-planner")
        return RateNetwork.load(path)

    def _write_schedules(self) -> None:
        """The landmarks; once years are over, where the planner ended and what was paid and earned there."""
        found: dict[str, Any] = {
            "schedules": [{**mark.record(), "lived": self.lived.get(name)} for name, mark in self.marks.items()]
        }
        simulation = self.simulation
        if simulation.yearly:
            last = simulation.yearly[-min(self.config.judged_years, len(simulation.yearly)) :]
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
        """Means over the settled steps of the last judged years."""
        simulation, size = self.simulation, self.config.tax_year
        years = range(max(0, len(simulation.yearly) - self.config.judged_years), len(simulation.yearly))
        steps = [s for y in years for s in range((y + 1) * size - simulation.settled, (y + 1) * size)]
        return {name: _mean([values[s] for s in steps]) for name, values in simulation.steps.items()}

    def _result(self, complete: bool) -> dict[str, float]:
        """Numbers by name. Of the last years, never of the best."""
        yearly, marks = self.simulation.yearly, self.marks
        about = {"complete": float(complete), "years": float(len(yearly))}
        if not yearly:
            return {**about, **{f"welfare/{name}": mark.welfare for name, mark in marks.items()}}
        last = yearly[-min(self.config.judged_years, len(yearly)) :]
        final = _mean([welfare for _, welfare in last])
        rates = torch.stack([rates for rates, _ in last]).mean(0)
        return {
            "welfare/share_of_optimum": self._share(final),
            **about,
            "welfare/final": final,
            **{f"welfare/{name}": mark.welfare for name, mark in marks.items()},
            **{f"lived/{name}": numbers["welfare"] for name, numbers in self.lived.items()},
            **{f"over/{name}": final / numbers["welfare"] - 1 for name, numbers in self.lived.items()},
            "regret/mean": _mean([1 - self._share(welfare) for _, welfare in yearly]),
            **{f"{name}/final": v for name, v in self._settled_numbers().items() if name != "welfare"},
            **{f"rate/{place + 1}": float(rate) for place, rate in enumerate(rates)},
        }


def first_rates(config: TaxDesignConfig, marks: Mapping[str, Landmark]) -> Tensor:
    """[B] in percent. Raises UsageError for another number of rates than brackets."""
    brackets = len(marks["optimum"].rates)
    if config.planner in ("saez", "optimum"):
        return marks[config.planner].rates
    if config.federal_start:
        return federal_schedule(config.year, config.status).rates
    if len(config.start) not in (1, brackets):
        raise UsageError(f"--start has {len(config.start)} rates; give one, or one for each of {brackets} brackets")
    return torch.tensor(config.start, dtype=torch.float64).expand(brackets)


def read_schedules(run: Path) -> dict[str, Any]:
    """What schedules.json of a run holds. Raises UsageError where there is none."""
    path = run / SCHEDULES
    if not path.is_file():
        raise UsageError(f"{run} holds no tax game (there is no {SCHEDULES})")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _explained_rates(world: World) -> dict[str, str]:
    edges = world.game.edges.tolist()
    return {
        f"rate/{place + 1}": f"marginal rate in percent on income from ${edge:,.0f}" for place, edge in enumerate(edges)
    }


def _mean(values: Any) -> float:
    return math.fsum(values) / len(values)
