"""What else can be done with a calibrated epidemic: other methods, weeks to come, weeks that were not so."""

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
from pilotage.systems.societies.agent_torch.calibration import mean_squared, searched
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.counterfactuals import effect_row
from pilotage.systems.societies.agent_torch.env import Disease
from pilotage.systems.societies.agent_torch.forecast import simulations
from pilotage.systems.societies.agent_torch.model import LARGEST_R, Epidemic
from pilotage.systems.societies.agent_torch.train import calibrated, make_calibrator, opened


def cost(config: EpidemicConfig) -> Mapping[str, Any]:
    """Steps, most calls of the model, and seconds from one timed step (in which nobody is asked)."""
    found: dict[str, Any] = {"steps": config.steps}
    with opened(config, None, 0) as (epidemic, service):
        found |= {"agents": len(epidemic.world.population), "weeks": len(epidemic.world)}
        if service is not None:
            weeks = epidemic.known + config.horizon * config.forecast_seeds
            asked = len(torch.unique(epidemic.asked.groups)) * weeks
            found[config.calls_counted] = asked * (1 if config.first_token else config.draws)
        groups = int(epidemic.asked.groups.max()) + 1
        some = {"said": torch.full((epidemic.known, groups), 0.1)}
        calibrator = make_calibrator(config, epidemic, 0, some)
        calibrator.step()  # the first is slower
        begun = time.perf_counter()
        calibrator.step()
        seconds = time.perf_counter() - begun
    return found | {"seconds": seconds * (config.steps + config.forecast_seeds)}


def forecast(config: EpidemicConfig, directory: Path, weeks: int, seeds: int) -> dict[str, Any]:
    """Rows by week and borough."""
    if weeks < 1 or seeds < 1:
        raise UsageError(f"expected a week and a seed or more, got {weeks} and {seeds}")
    with _again(config, directory) as (epidemic, values, said):
        known = epidemic.known
        draws = simulations(epidemic, values, said, weeks=known + weeks, seeds=range(seeds), base=0)[:, known:]
        places = (*epidemic.world.population.boroughs, "all")
    draws = np.concatenate([draws, draws.sum(2, keepdims=True)], axis=2)
    ends = np.quantile(draws, [0.025, 0.25, 0.5, 0.75, 0.975], axis=0)
    names = ("low 95", "low 50", "median", "high 50", "high 95")
    rows = [
        {"weeks ahead": week + 1, "place": place, **dict(zip(names, ends[:, week, index].tolist(), strict=True))}
        for week in range(weeks)
        for index, place in enumerate(places)
    ]
    return {"simulations": seeds, "weekly reported cases after the last known week": rows}


def calibrate(
    config: EpidemicConfig, directory: Path, method: Literal["adam", "cma", "abc"], count: int
) -> dict[str, Any]:
    """Loss on the known weeks, under noise that no method saw, of the run's values and of another method's."""
    if count < 20:
        raise UsageError(f"{count} simulations are too few; give 20 or more")
    with _again(config, directory) as (epidemic, values, said):
        if method == "adam":
            calibrator = make_calibrator(config, epidemic, 0, {"said": said}, steps=count)
            epidemic.begin(said, calibrator.seed)
            for _ in range(count):
                calibrator.step()
            found = epidemic.model().detach()
        else:
            low, high = epidemic.model.bounds()
            found, _ = searched(
                lambda point, seed: epidemic.weekly_cases(point, seed, said).detach(),
                epidemic.reported,
                low,
                high,
                torch.Generator().manual_seed(0),
                method=method,
                evaluations=count,
                start=epidemic.model().detach() if method == "cma" else None,
            )
        rows = []
        for name, point, used in (("the run", values, config.steps), (method, found, count)):
            loss = [_loss(epidemic, point, said, 10_000 + seed) for seed in range(5)]
            rates = epidemic.model.named(point)["transmission"]
            rows.append(
                {"values of": name, "simulations": used, "loss": float(np.mean(loss)), "R": float(rates.mean())}
            )
    return {"loss on the known weeks, mean of five simulations under fresh noise": rows}


def counterfactual(config: EpidemicConfig, directory: Path, change: str, by: float, seeds: int) -> dict[str, Any]:
    """Paired effects on cases and deaths over the known weeks."""
    if seeds < 2:
        raise UsageError(f"{seeds} pairs give no interval; give 2 or more, and 5 or more for a verdict")
    with _again(config, directory) as (epidemic, values, said):
        parts = {name: part.detach() for name, part in epidemic.model.named(values).items()}
        done = epidemic.model.isolation(parts, said).clamp(0, 1)
        other_parts, other_done, fatality, words = _changed(parts, done, change, by)
        sides: dict[str, list[list[float]]] = {"cases": [[], []], "deaths": [[], []]}
        for seed in range(seeds):
            base = epidemic.changed(parts, done, seed)
            other = epidemic.changed(other_parts, other_done, seed, fatality)
            for name, (after, before) in sides.items():
                after.append(float(getattr(other, name).sum()))
                before.append(float(getattr(base, name).sum()))
    rows = [effect_row(name, after, before) for name, (after, before) in sides.items()]
    return {"change": words, "pairs under one seed": seeds, "reported cases and deaths in the known weeks": rows}


def _changed(
    parts: Mapping[str, Tensor], done: Tensor, change: str, by: float
) -> tuple[Mapping[str, Tensor], Tensor, Tensor | None, str]:
    """Values, behaviour and fatality of the other side, and what was changed in words."""
    if change == "frozen":
        return parts, done.mean(0, keepdim=True).expand_as(done), None, "behaviour at its mean over the weeks"
    if change == "nobody":
        return parts, torch.zeros_like(done), None, "nobody isolates"
    if change == "earlier":
        weeks = round(by)
        if not 0 < weeks < len(done):
            raise UsageError(f"behaviour cannot come {by} weeks earlier: give 1 to {len(done) - 1} with --by")
        moved = torch.cat([done[weeks:], done[-1:].expand(weeks, -1)])
        return parts, moved, None, f"everybody isolates as they did {weeks} weeks later"
    if by <= 0:
        raise UsageError(f"--by is a factor above 0, got {by}")
    rates = parts["transmission"]
    if change == "transmission":
        words = f"R_w times {by:g}"
        return {**parts, "transmission": (by * rates).clamp(max=LARGEST_R)}, done, None, words
    if change == "pathogen":
        fatality = (by * torch.tensor(Disease().fatality)).clamp(max=1.0)
        flat = rates.mean().expand_as(rates)
        return {**parts, "transmission": flat}, done, fatality, f"a flat R_w and fatality times {by:g}"
    raise UsageError(f"no change {change!r}; choose frozen, nobody, earlier, transmission or pathogen")


def _loss(epidemic: Epidemic, values: Tensor, said: Tensor, seed: int) -> float:
    with torch.no_grad():
        return float(mean_squared(epidemic.weekly_cases(values, seed, said), epidemic.reported))


@contextmanager
def _again(config: EpidemicConfig, directory: Path) -> Iterator[tuple[Epidemic, Tensor, Tensor]]:
    """The epidemic of a finished run, its values, and what was said."""
    values, said = calibrated(directory)
    with opened(config, directory, Run.read_recipe(directory).seed) as (epidemic, _):
        yield epidemic, values, said
