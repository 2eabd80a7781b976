"""The run of an epidemic: ask, calibrate step by step, simulate on, score the weeks that were held back."""

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
from pilotage.runs import Run
from pilotage.systems.societies.agent_torch.calibration import CalibrationStep, Calibrator, mean_squared
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.forecast import simulations
from pilotage.systems.societies.agent_torch.forecast_scores import Forecast, Window
from pilotage.systems.societies.agent_torch.model import Epidemic
from pilotage.systems.societies.agent_torch.reference_forecasts import persistence, seir
from pilotage.systems.societies.agent_torch.scenario import (
    LLMBehaviour,
    build_scenario,
    num_observed_weeks,
    open_behaviour_service,
)
from pilotage.systems.societies.agent_torch.yes_no import Poll
from pilotage.training.llm_service import log_service, name_scripted_components
from pilotage.training.loop import Hooks, train_loop

VALUES, CURVES = "calibrated.safetensors", "curves.json"
"""Files of a run: the calibrated values, and the curves of the report."""
NETWORK_LR = 0.05
"""Learning rate of the network over that of direct parameters."""
ENDS = (0.025, 0.5, 0.975)
"""Quantiles of simulations that curves.json holds."""
EXPLAINED = {
    "calibration/loss": "mean squared difference between simulated and reported weekly cases by borough over that of "
    "the reported ones, on the fitted weeks; in the result of the median of all simulations (with the particle filter "
    "no test of the calibration), on the observed weeks",
    "calibration/validation_loss": "the same on the validation weeks, which choose the best step",
    "calibration/R": "R_w, mean over the observed weeks; infections of one person are about half of it",
    "isolation": "mean over observed weeks and agents of the probability to isolate that was calibrated with",
    "forecast/wis": "weighted interval score of weekly cases by borough over the horizon, in cases; lower is better",
    "forecast/mae": "mean absolute error of the median over the horizon, in weekly cases of a borough",
    "forecast/rmse": "root mean squared error of the median, likewise",
    "forecast/coverage_50": "share of weeks and boroughs inside the central half of the simulations",
    "forecast/coverage_95": "the same of their central 95 %",
    "persistence/…, seir/…": "the same scores of the last observed week repeated, and of a four-parameter compartment "
    "model fitted to each borough",
    "recovered/R": "mean relative error of R_w against the planted one",
    "llm/asked": "answers of the language model, or of the scripted stand-in, for the observed weeks",
    "llm/repaired": "answers that were yes or no only when asked again",
    "llm/fallen_back": "answers that were neither, also when asked again",
}


class _Calibration(Hooks):
    """Calibration as a trainee of `train_loop`: the questions are asked once, then each step is one update."""

    def __init__(self, config: EpidemicConfig, run: Run, epidemic: Epidemic, service: Service | None) -> None:
        self.config, self.run, self.epidemic, self.service = config, run, epidemic, service
        self.behaviour: dict[str, Any] = {}
        self.calibrator = make_calibrator(config, epidemic, run.seed_for("calibration"), self.behaviour)
        self.last: CalibrationStep | None = None

    def state(self) -> Mapping[str, Any]:
        """Return the calibrator and the answers, so that a resumed run asks nothing again."""
        return {"calibrator": self.calibrator, "behaviour": self.behaviour}

    def resume(self, done: int) -> None:  # noqa: ARG002
        """Ask the questions of the observed weeks unless the checkpoint held the answers."""
        for name, text in EXPLAINED.items():
            self.run.describe_metric(name, text)
        if self.behaviour:
            return
        stated = self.epidemic.ask(self._log_poll)
        self.epidemic.initialise_alignment(stated, self.calibrator.seed)
        counts: dict[str, int] = {}
        if self.service is not None:
            log_service(self.run, self.service)
            counters = self.service.counters()
            counts = {f"llm/{name}": getattr(counters, name) for name in ("asked", "repaired", "fallen_back")}
        self.behaviour.update(stated_probability=stated, counts=counts)

    def begin(self) -> Mapping[str, float]:
        """Return how many answers were asked for."""
        return self.behaviour["counts"]

    def step(self, step: int) -> None:
        """Do one update of the calibration."""
        began = time.perf_counter()
        self.last = self.calibrator.step()
        self.run.log_timing(step + 1, {"seconds": time.perf_counter() - began})

    def metrics(self, done: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the losses, R and isolation of the last update."""
        assert self.last is not None
        parts = self.epidemic.model.split(self.last.values)
        metrics = {"calibration/loss": self.last.loss, "calibration/R": float(parts["transmission"].mean())}
        if self.config.num_validation_weeks:
            metrics["calibration/validation_loss"] = self.last.validation_loss
        if self.config.behaviour != "none":
            stated = self.behaviour["stated_probability"]
            metrics["isolation"] = mean_isolation(self.epidemic, self.last.values, stated)
        return metrics

    def shown(self, metrics: Mapping[str, float]) -> Mapping[str, float | str]:
        """Return the loss."""
        return {"loss": metrics["calibration/loss"]}

    def _log_poll(self, who: str, prompt: str, poll: Poll) -> None:
        """Write a question and its answer to rollouts.jsonl; a scripted answer is marked as scripted."""
        text = f"[scripted stand-in] {poll.text}" if poll.scripted else poll.text
        record = {"who": who, "prompt": prompt, "completion": text, "yes": poll.yes, "no": poll.no, "share": poll.share}
        self.run.log_rollout(0, record)


def train(config: EpidemicConfig, run: Run) -> Result:
    """Calibrate the observed weeks, forecast the weeks after them, and score the forecast.

    Writes calibrated.safetensors and curves.json. A run that was killed goes on from its last checkpoint.
    """
    with open_epidemic(config, run.directory, run.seed) as (epidemic, service):
        if service is not None:
            name_scripted_components(run, service.scripted_components())
        trainee = _Calibration(config, run, epidemic, service)
        train_loop(run, trainee, config.steps, checkpoint_every=config.checkpoint_every, label="calibrating")
        # Noise is fresh at every step, so that the least loss is a lucky one. Only validation weeks choose a step.
        best = trainee.calibrator.best if config.num_validation_weeks else None
        values = epidemic.model().detach() if best is None else best
        stated = trainee.behaviour["stated_probability"]
        kept = {"values": values.contiguous(), "stated_probability": stated}
        write_atomically(run.directory / VALUES, save(kept))
        asked = 0 if service is None else service.counters().asked
        result = evaluate_forecast(config, epidemic, values, stated, run)
        if service is not None and service.counters().asked > asked:
            log_service(run, service)
    return Result(str(run.directory), result)


@contextmanager
def open_epidemic(
    config: EpidemicConfig, directory: Path | None, seed: int
) -> Iterator[tuple[Epidemic, Service | None]]:
    """Open the epidemic of a configuration and the service that answers its questions; close the service at the end.

    Args:
        config: the configuration.
        directory: directory of the run, which keeps the answers; None: answers are not kept.
        seed: seed of the scripted answers and of a network's first weights.

    Yields:
        The epidemic, and the service (None where no question is asked).
    """
    with ExitStack() as stack:
        service = open_behaviour_service(config, directory, seed, stack)
        scenario = build_scenario(config)
        observed = num_observed_weeks(config, scenario)
        yield Epidemic(config, scenario, LLMBehaviour(config, scenario, observed, service), observed, seed), service


def make_calibrator(
    config: EpidemicConfig, epidemic: Epidemic, seed: int, behaviour: Mapping[str, Any], *, steps: int | None = None
) -> Calibrator:
    """Build the calibrator that fits the observed weeks.

    Args:
        config: learning rate, validation weeks and steps.
        epidemic: the simulator and the reported cases.
        seed: seed of the noise.
        behaviour: "stated_probability" [weeks, groups] is read at every step, so that the caller may replace it.
        steps: updates over which the learning rate falls to 0; None: those of the configuration.
    """
    return Calibrator(
        epidemic.model,
        lambda values, noise: epidemic.weekly_cases(values, noise, behaviour["stated_probability"]),
        epidemic.reported,
        num_validation_weeks=config.num_validation_weeks,
        lr=config.lr * (NETWORK_LR if config.parameters == "calibnn" else 1.0),
        decay_over=max(1, config.steps if steps is None else steps),
        # The run's seeds have 63 bits; the simulator's noise takes 31.
        seed=seed % 2**31,
        fresh_noise=True,
    )


def read_calibration(directory: Path) -> tuple[Tensor, Tensor]:
    """Return the calibrated values and the stated probabilities of a finished run.

    Raises:
        UsageError: the run is not finished.
    """
    path = directory / VALUES
    if not path.is_file():
        raise UsageError(f"{directory} holds no {VALUES}; let the run finish first (pilotage run {directory})")
    kept = load(path.read_bytes())
    return kept["values"], kept["stated_probability"]


def mean_isolation(epidemic: Epidemic, values: Tensor, stated: Tensor) -> float:
    """Return the mean probability of isolation, averaged over observed weeks and agents."""
    with torch.no_grad():
        done = epidemic.model.isolation(epidemic.model.split(values), stated)
        share = torch.bincount(epidemic.behaviour.groups, minlength=done.shape[1]) / len(epidemic.scenario.population)
        return float((done.clamp(0, 1) @ share.float()).mean())


def evaluate_forecast(
    config: EpidemicConfig, epidemic: Epidemic, values: Tensor, stated: Tensor, run: Run
) -> dict[str, float]:
    """Simulate into the horizon, score it against the weeks that were held back, and write curves.json.

    Args:
        config: the configuration.
        epidemic: the simulator.
        values: calibrated values.
        stated: stated probabilities [observed weeks, groups].
        run: the run whose directory gets curves.json.

    Returns:
        Scores of the forecast and of the reference forecasts, the loss, and the error of a planted R.
    """
    scenario, observed = epidemic.scenario, epidemic.observed_weeks
    weeks, base = observed + config.horizon, run.seed_for("forecast") % 2**31
    draws = simulations(epidemic, values, stated, weeks=weeks, seeds=range(config.forecast_seeds), base=base)
    window = Window(scenario.reported.double().numpy(), observed, config.horizon)
    scored = {
        "forecast": window.score(Forecast(draws[:, observed:], observed)),
        "persistence": window.score(persistence(window)),
    }
    if observed >= 4:
        people = scenario.people.double().numpy()
        scored["seir"] = window.score(seir(window, people, generator=run.numpy_generator("seir")))
    result = {f"{who}/{name}": value for who, row in scored.items() for name, value in row.items()}
    low, median, high = np.quantile(draws, ENDS, axis=0)
    result["calibration/loss"] = float(mean_squared(torch.from_numpy(median[:observed]), scenario.reported[:observed]))
    if scenario.planted is not None:
        planted = scenario.planted["transmission"][:observed]
        found = epidemic.model.split(values)["transmission"]
        result["recovered/R"] = float(((found - planted).abs() / planted).mean())
    curves = {
        "format": 1,
        "what": "weekly reported cases",
        "weeks": list(scenario.labels[:weeks]),
        "places": list(scenario.population.boroughs),
        "observed_weeks": observed,
        "level_correction": config.level_correction,
        "particle_filter": config.particle_filter,
        "reported": scenario.reported[:weeks].tolist(),
        "source": "planted" if scenario.planted is not None else str(config.series),
        "simulated": {"low": low.tolist(), "median": median.tolist(), "high": high.tolist()},
        "city": dict(zip(("low", "median", "high"), np.quantile(draws.sum(2), ENDS, axis=0).tolist(), strict=True)),
        "seeds": config.forecast_seeds,
    }
    write_atomically(run.directory / CURVES, json.dumps(curves).encode() + b"\n")
    return result
