"""The run of an epidemic: ask, calibrate step by step, simulate on, score what was not known."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.llm import Service
from pilotage.llm.yes_no import Poll
from pilotage.runs import Progress, Run
from pilotage.systems.societies.agent_torch.calibration import Calibrator, mean_squared
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.forecast import simulations
from pilotage.systems.societies.agent_torch.forecast_scores import Forecast, Window
from pilotage.systems.societies.agent_torch.model import Epidemic
from pilotage.systems.societies.agent_torch.reference_forecasts import persistence, seir
from pilotage.systems.societies.agent_torch.scenario import Asked, asked_service, known_weeks, make_world

VALUES, CURVES = "calibrated.safetensors", "curves.json"
"""Files of a run: what was calibrated, and the curves that its report shows."""
NETWORK_RATE = 0.05
"""Of the rate of direct parameters, for a network."""
ENDS = (0.025, 0.5, 0.975)
"""Quantiles of simulations that curves.json holds."""
EXPLAINED = {
    "calibration/loss": "mean squared difference between simulated and reported weekly cases by borough over that of "
    "the reported ones, on the fitted weeks; in the result of the median of all simulations (steered: no test of the "
    "calibration), on the known weeks",
    "calibration/held_out": "the same on the held-out weeks, which choose the best step",
    "calibration/R": "R_w, mean over the known weeks; infections of one person are about half of it",
    "isolation": "mean over known weeks and agents of the probability to isolate that was calibrated with",
    "forecast/wis": "weighted interval score of weekly cases by borough over the horizon, in cases; lower is better",
    "forecast/mae": "mean absolute error of the median over the horizon, in weekly cases of a borough",
    "forecast/rmse": "root mean squared error of the median, likewise",
    "forecast/coverage 50": "share of weeks and boroughs inside the central half of the simulations",
    "forecast/coverage 95": "the same of their central 95 %",
    "persistence/…, seir/…": "the same scores of the last known week again, and of a four-parameter compartment model "
    "fitted to each borough",
    "recovered/R": "mean relative error of R_w against the planted one",
    "llm/asked": "answers that the known weeks took, of the language model or its stand-in",
    "llm/repaired": "of these, those that were yes or no only when asked again",
    "llm/fallen_back": "of these, those that were neither, also when asked again",
}


def calibrate_and_forecast(config: EpidemicConfig, run: Run) -> Result:
    """All updates, from the last checkpoint where there is one; calibrated.safetensors, curves.json, and the scores."""
    with opened(config, run.directory, run.seed) as (epidemic, service):
        if service is not None:
            run.manifest.name_stand_ins(run.directory, service.stand_ins())
        behaviour: dict[str, Any] = {}
        calibrator = make_calibrator(config, epidemic, run.seed_for("calibration"), behaviour)
        done = run.restore({"calibrator": calibrator, "behaviour": behaviour})
        for name, text in EXPLAINED.items():
            run.describe_metric(name, text)
        if not behaviour:
            behaviour["said"] = epidemic.said(lambda who, prompt, poll: note(run, who, prompt, poll))
            epidemic.begin(behaviour["said"], calibrator.seed)
            if service is not None:
                counters = service.counters()
                counted = ("asked", "repaired", "fallen_back")
                run.log(0, {f"llm/{name}": getattr(counters, name) for name in counted})
            # What was answered is not asked for again.
            run.save(0, {"calibrator": calibrator, "behaviour": behaviour})
        with Progress(config.steps, "calibrating", start=done) as progress:
            for number in range(done + 1, config.steps + 1):
                begun = time.perf_counter()
                step = calibrator.step()
                parts = epidemic.model.named(step.values)
                metrics = {"calibration/loss": step.loss, "calibration/R": float(parts["transmission"].mean())}
                if config.held_out:
                    metrics["calibration/held_out"] = step.held_out
                if config.behaviour != "none":
                    metrics["isolation"] = mean_isolation(epidemic, step.values, behaviour["said"])
                run.log(number, metrics)
                run.log_timing(number, {"seconds": time.perf_counter() - begun})
                progress.advance(number, loss=step.loss)
                if number % config.checkpoint_every == 0 and number < config.steps:
                    run.save(number, {"calibrator": calibrator, "behaviour": behaviour})
        run.save(config.steps, {"calibrator": calibrator, "behaviour": behaviour})
        # Noise is fresh at every step, so that the least loss is a lucky one. Only held-out weeks choose a step.
        best = calibrator.best if config.held_out else None
        values = epidemic.model().detach() if best is None else best
        write_atomically(run.directory / VALUES, save({"values": values.contiguous(), "said": behaviour["said"]}))
        result = judge(config, epidemic, values, behaviour["said"], run)
    return Result(str(run.directory), result)


def note(run: Run, who: str, prompt: str, poll: Poll) -> None:
    """Keeps an exchange in rollouts.jsonl. What was scripted says so by itself."""
    text = f"[scripted stand-in] {poll.said}" if poll.scripted else poll.said
    record = {"who": who, "prompt": prompt, "completion": text, "yes": poll.yes, "no": poll.no, "share": poll.share}
    run.log_rollout(0, record)


@contextmanager
def opened(config: EpidemicConfig, directory: Path | None, seed: int) -> Iterator[tuple[Epidemic, Service | None]]:
    """The epidemic of a configuration, with whoever answers; closed at the end."""
    with ExitStack() as stack:
        service = asked_service(config, directory, seed, stack)
        world = make_world(config)
        known = known_weeks(config, world)
        yield Epidemic(config, world, Asked(config, world, known, service), known, seed), service


def make_calibrator(
    config: EpidemicConfig, epidemic: Epidemic, seed: int, behaviour: Mapping[str, Any], *, steps: int | None = None
) -> Calibrator:
    """Of the known weeks; `behaviour["said"]` is looked up at each step."""
    return Calibrator(
        epidemic.model,
        lambda values, noise: epidemic.weekly_cases(values, noise, behaviour["said"]),
        epidemic.reported,
        held_out=config.held_out,
        rate=config.rate * (NETWORK_RATE if config.parameters == "calibnn" else 1.0),
        decay_over=max(1, config.steps if steps is None else steps),
        # Draws of 63 bits; the simulator's noise takes any integer.
        seed=seed % 2**31,
        fresh_noise=True,
    )


def calibrated(directory: Path) -> tuple[Tensor, Tensor]:
    """Values and what was said in a finished run. Raises UsageError where there is none."""
    path = directory / VALUES
    if not path.is_file():
        raise UsageError(f"{directory} holds no {VALUES}; let the run finish first (pilotage run {directory})")
    kept = load(path.read_bytes())
    return kept["values"], kept["said"]


def mean_isolation(epidemic: Epidemic, values: Tensor, said: Tensor) -> float:
    """Over known weeks and agents."""
    with torch.no_grad():
        done = epidemic.model.isolation(epidemic.model.named(values), said)
        share = torch.bincount(epidemic.asked.groups, minlength=done.shape[1]) / len(epidemic.world.population)
        return float((done.clamp(0, 1) @ share.float()).mean())


def judge(config: EpidemicConfig, epidemic: Epidemic, values: Tensor, said: Tensor, run: Run) -> dict[str, float]:
    """Simulates on, scores the horizon against weeks that nothing has seen, and writes the curves."""
    world, known = epidemic.world, epidemic.known
    weeks, base = known + config.horizon, run.seed_for("forecast") % 2**31
    draws = simulations(epidemic, values, said, weeks=weeks, seeds=range(config.forecast_seeds), base=base)
    window = Window(world.reported.double().numpy(), known, config.horizon)
    scored = {
        "forecast": window.score(Forecast(draws[:, known:], seen=known)),
        "persistence": window.score(persistence(window)),
    }
    if known >= 4:
        people = world.people.double().numpy()
        scored["seir"] = window.score(seir(window, people, generator=run.numpy_generator("seir")))
    result = {f"{who}/{name}": value for who, row in scored.items() for name, value in row.items()}
    low, median, high = np.quantile(draws, ENDS, axis=0)
    result["calibration/loss"] = float(mean_squared(torch.from_numpy(median[:known]), world.reported[:known]))
    if world.planted is not None:
        planted = world.planted["transmission"][:known]
        found = epidemic.model.named(values)["transmission"]
        result["recovered/R"] = float(((found - planted).abs() / planted).mean())
    curves = {
        "format": 1,
        "what": "weekly reported cases",
        "weeks": list(world.labels[:weeks]),
        "places": list(world.population.boroughs),
        "known": known,
        "anchored": config.anchored,
        "steered": config.steered,
        "observed": world.reported[:weeks].tolist(),
        "source": "planted" if world.planted is not None else str(config.series),
        "simulated": {"low": low.tolist(), "median": median.tolist(), "high": high.tolist()},
        "city": dict(zip(("low", "median", "high"), np.quantile(draws.sum(2), ENDS, axis=0).tolist(), strict=True)),
        "seeds": config.forecast_seeds,
    }
    write_atomically(run.directory / CURVES, json.dumps(curves).encode() + b"\n")
    return result
