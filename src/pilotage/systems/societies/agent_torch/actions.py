"""Commands for a calibrated epidemic: its cost, other methods of calibration, forecasts, counterfactuals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.runs import Run
from pilotage.systems.societies.agent_torch.calibration import mean_squared, search
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.counterfactuals import effect_row
from pilotage.systems.societies.agent_torch.env import Disease
from pilotage.systems.societies.agent_torch.forecast import simulations
from pilotage.systems.societies.agent_torch.model import LARGEST_R, Epidemic
from pilotage.systems.societies.agent_torch.train import make_calibrator, open_epidemic, read_calibration

Change = Literal["frozen", "no_isolation", "earlier", "transmission", "pathogen"]


def estimate_cost(config: EpidemicConfig) -> Mapping[str, Any]:
    """Return what a run will take: steps, the most calls of the model, and seconds from one timed step."""
    found: dict[str, Any] = {"steps": config.steps}
    with open_epidemic(config, None, 0) as (epidemic, service):
        found |= {"agents": len(epidemic.scenario.population), "weeks": len(epidemic.scenario)}
        if service is not None:
            weeks = epidemic.observed_weeks + config.horizon * config.forecast_seeds
            questions = len(torch.unique(epidemic.behaviour.groups)) * weeks
            found[config.calls_counted] = questions * (1 if config.first_token else config.draws)
        groups = int(epidemic.behaviour.groups.max()) + 1
        stated = {"stated_probability": torch.full((epidemic.observed_weeks, groups), 0.1)}
        calibrator = make_calibrator(config, epidemic, 0, stated)
        calibrator.step()  # the first is slower
        began = time.perf_counter()
        calibrator.step()
        seconds = time.perf_counter() - began
    return found | {"seconds": seconds * (config.steps + config.forecast_seeds)}


def forecast(config: EpidemicConfig, run: Path, weeks: int = 4, seeds: int = 10) -> dict[str, Any]:
    """Forecast the weeks after the last observed one from the calibrated values: median, 50 % and 95 % intervals.

    Args:
        config: configuration of the run.
        run: directory of the run.
        weeks: number of weeks.
        seeds: number of simulations.
    """
    if weeks < 1 or seeds < 1:
        raise UsageError(f"expected a week and a seed or more, got {weeks} and {seeds}")
    with _reopen(config, run) as (epidemic, values, stated):
        observed = epidemic.observed_weeks
        draws = simulations(epidemic, values, stated, weeks=observed + weeks, seeds=range(seeds), base=0)[:, observed:]
        places = (*epidemic.scenario.population.boroughs, "all")
    draws = np.concatenate([draws, draws.sum(2, keepdims=True)], axis=2)
    ends = np.quantile(draws, [0.025, 0.25, 0.5, 0.75, 0.975], axis=0)
    names = ("low_95", "low_50", "median", "high_50", "high_95")
    rows = [
        {"weeks_ahead": week + 1, "place": place, **dict(zip(names, ends[:, week, index].tolist(), strict=True))}
        for week in range(weeks)
        for index, place in enumerate(places)
    ]
    return {"simulations": seeds, "weekly reported cases after the last observed week": rows}


def calibrate(
    config: EpidemicConfig, run: Path, method: Literal["adam", "cma", "abc"] = "cma", simulations: int = 60
) -> dict[str, Any]:
    """Calibrate the observed weeks again by another method and compare its loss with that of the run.

    Args:
        config: configuration of the run.
        run: directory of the run.
        method: adam, cma (CMA-ES) or abc (rejection).
        simulations: number of simulations of the method, 20 or more.
    """
    if simulations < 20:
        raise UsageError(f"{simulations} simulations are too few; give 20 or more")
    with _reopen(config, run) as (epidemic, values, stated):
        if method == "adam":
            calibrator = make_calibrator(config, epidemic, 0, {"stated_probability": stated}, steps=simulations)
            epidemic.initialise_alignment(stated, calibrator.seed)
            for _ in range(simulations):
                calibrator.step()
            found = epidemic.model().detach()
        else:
            low, high = epidemic.model.bounds()
            found, _ = search(
                lambda point, seed: epidemic.weekly_cases(point, seed, stated).detach(),
                epidemic.reported,
                low,
                high,
                torch.Generator().manual_seed(0),
                method=method,
                evaluations=simulations,
                start=epidemic.model().detach() if method == "cma" else None,
            )
        rows = []
        for name, point, used in (("the run", values, config.steps), (method, found, simulations)):
            loss = [_loss(epidemic, point, stated, 10_000 + seed) for seed in range(5)]
            rates = epidemic.model.split(point)["transmission"]
            rows.append(
                {"values_of": name, "simulations": used, "loss": float(np.mean(loss)), "R": float(rates.mean())}
            )
    return {"loss on the observed weeks, mean of five simulations under fresh noise": rows}


def counterfactual(
    config: EpidemicConfig, run: Path, change: Change = "earlier", by: float = 2.0, seeds: int = 10
) -> dict[str, Any]:
    """Simulate the calibrated weeks with one thing changed: effects paired by seed, with 95 % intervals.

    Args:
        config: configuration of the run.
        run: directory of the run.
        change: frozen: behaviour at its mean over the weeks; no_isolation: no agent isolates; earlier: isolation
            starts `by` weeks earlier; transmission: R times `by`; pathogen: fatality times `by` and a constant R at its
            mean, behaviour unchanged.
        by: size of the change.
        seeds: number of pairs; five or more for a verdict.
    """
    if seeds < 2:
        raise UsageError(f"{seeds} pairs give no interval; give 2 or more, and 5 or more for a verdict")
    with _reopen(config, run) as (epidemic, values, stated):
        parts = {name: part.detach() for name, part in epidemic.model.split(values).items()}
        done = epidemic.model.isolation(parts, stated).clamp(0, 1)
        other_parts, other_done, fatality, words = _changed(parts, done, change, by)
        sides: dict[str, list[list[float]]] = {"cases": [[], []], "deaths": [[], []]}
        for seed in range(seeds):
            base = epidemic.simulate_observed(parts, done, seed)
            other = epidemic.simulate_observed(other_parts, other_done, seed, fatality)
            for name, (after, before) in sides.items():
                after.append(float(getattr(other, name).sum()))
                before.append(float(getattr(base, name).sum()))
    rows = [effect_row(name, after, before) for name, (after, before) in sides.items()]
    return {"change": words, "pairs under one seed": seeds, "reported cases and deaths in the observed weeks": rows}


def _changed(
    parts: Mapping[str, Tensor], done: Tensor, change: str, by: float
) -> tuple[Mapping[str, Tensor], Tensor, Tensor | None, str]:
    """Return values, behaviour and fatality of the changed side, and the change in words."""
    if change == "frozen":
        return parts, done.mean(0, keepdim=True).expand_as(done), None, "behaviour at its mean over the weeks"
    if change == "no_isolation":
        return parts, torch.zeros_like(done), None, "no agent isolates"
    if change == "earlier":
        weeks = round(by)
        if not 0 < weeks < len(done):
            raise UsageError(f"behaviour cannot come {by} weeks earlier: give 1 to {len(done) - 1} with --by")
        moved = torch.cat([done[weeks:], done[-1:].expand(weeks, -1)])
        return parts, moved, None, f"isolation starts {weeks} weeks earlier"
    if by <= 0:
        raise UsageError(f"--by is a factor above 0, got {by}")
    rates = parts["transmission"]
    if change == "transmission":
        words = f"R_w times {by:g}"
        return {**parts, "transmission": (by * rates).clamp(max=LARGEST_R)}, done, None, words
    if change == "pathogen":
        fatality = (by * torch.tensor(Disease().fatality)).clamp(max=1.0)
        flat = rates.mean().expand_as(rates)
        return {**parts, "transmission": flat}, done, fatality, f"a constant R_w and fatality times {by:g}"
    raise UsageError(f"no change {change!r}; choose frozen, no_isolation, earlier, transmission or pathogen")


def _loss(epidemic: Epidemic, values: Tensor, stated: Tensor, seed: int) -> float:
    with torch.no_grad():
        return float(mean_squared(epidemic.weekly_cases(values, seed, stated), epidemic.reported))


@contextmanager
def _reopen(config: EpidemicConfig, directory: Path) -> Iterator[tuple[Epidemic, Tensor, Tensor]]:
    """Open the epidemic of a finished run, with its calibrated values and stated probabilities."""
    values, stated = read_calibration(directory)
    with open_epidemic(config, directory, Run.read_recipe(directory).seed) as (epidemic, _):
        yield epidemic, values, stated
