"""Simulations that forecast, with or without a particle filter over the observed weeks.

A city simulated for months ends the observed weeks at another level than the real city, and two simulations differ
widely, however well their values were calibrated: a few infected agents decide when a wave begins. The bootstrap
particle filter (Gordon, Salmond and Smith 1993) resamples the simulations after every observed week in favour of those
whose weekly cases are near to the reported ones; copies go on under other noise. R of each particle drifts around the
calibrated one, so that the remaining particles hold the uncertainty about R. No week after the observed ones is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.systems.societies.agent_torch.env import Outcome, weekly
from pilotage.systems.societies.agent_torch.model import LARGEST_R, Epidemic

CORRECTION_WEEKS, LARGEST_CORRECTION = 2, 4.0
REPORT_NOISE = 0.1
"""Standard deviation of the logarithm of a week's reported cases around the true ones, beside the agents' chance."""
INITIAL_NOISE = 0.3
"""Standard deviation of the logarithm of the share infected at first, around the calibrated one."""
LATER = 1_000_000
"""Distance between the seeds of observed weeks and of forecast weeks."""
GENERATION = 5.5
"""Days from one infection to the next (mean of the disease's G)."""
LAG, SMALLEST_DRIFT, LARGEST_DRIFT = 4, 0.03, 0.3


def drift_std(reported: Tensor) -> float:
    """Return the standard deviation of the weekly steps of log R that the reported cases imply.

    It is half the root mean square of changes of the city's weekly growth over four weeks (those of a random walk are
    twice those of one week, and noise of single weeks counts little), times the days of a generation over seven; 0.1
    with fewer than seven weeks. reported: [weeks, boroughs].
    """
    if len(reported) < LAG + 3:
        return 0.1
    growth = torch.log1p(reported.double().sum(1)).diff()
    change = (growth[LAG:] - growth[:-LAG]).square().mean().sqrt() / math.sqrt(LAG)
    return float((change * GENERATION / 7).clamp(SMALLEST_DRIFT, LARGEST_DRIFT))


def level_correction(simulated: Tensor, reported: Tensor) -> Tensor:
    """Return (reported + 1) / (simulated + 1) of the last CORRECTION_WEEKS weeks by borough, within a factor of 4.

    simulated, reported: [observed weeks, boroughs]. Returns [boroughs].
    """
    factor = (reported[-CORRECTION_WEEKS:].sum(0) + 1) / (simulated[-CORRECTION_WEEKS:].sum(0) + 1)
    return factor.clamp(1 / LARGEST_CORRECTION, LARGEST_CORRECTION)


@dataclass
class Particle:
    """A simulation inside the particle filter."""

    log_rate: float
    """Logarithm of its R over the calibrated R."""
    initial: float
    """Its share infected at first over the calibrated share."""
    outcome: Outcome | None = None


def particle_filter(
    epidemic: Epidemic, values: Tensor, stated: Tensor, *, count: int, base: int, drift: float | None = None
) -> list[Particle]:
    """Run the bootstrap particle filter over the observed weeks.

    Args:
        epidemic: the simulator and the reported cases.
        values: calibrated values.
        stated: stated probabilities [observed weeks, groups].
        count: number of particles.
        base: seed.
        drift: standard deviation of the weekly steps of log R; None: `drift_std` of the reported cases.

    Returns:
        `count` particles after the last observed week.
    """
    reported, config = epidemic.reported, epidemic.config
    parts = {name: part.detach() for name, part in epidemic.model.split(values.detach()).items()}
    done = epidemic.model.isolation(parts, stated).clamp(0, 1)
    size = drift_std(reported) if drift is None else drift
    draw = np.random.default_rng([base, 1])
    particles = [Particle(0.0, math.exp(INITIAL_NOISE * draw.standard_normal())) for _ in range(count)]
    one = epidemic.scenario.population.weight * config.reporting
    for week in range(epidemic.observed_weeks):
        for place, particle in enumerate(particles):
            if week:
                particle.log_rate += size * draw.standard_normal()
            rates = (parts["transmission"] * math.exp(particle.log_rate)).clamp(max=LARGEST_R)
            own = {**parts, "transmission": rates, "initial": (parts["initial"] * particle.initial).clamp(max=1.0)}
            particle.outcome = epidemic.simulate_week(own, done, base + place + count * week, particle.outcome)
        cases = np.array([float(weekly(p.outcome.cases)[-1].sum()) for p in particles if p.outcome is not None])
        truth = float(reported[week].sum())
        # An agent that falls ill is `one` reported cases: their chance comes to the noise of reports.
        spread = REPORT_NOISE**2 + one / (truth + one)
        off = np.log(cases + one) - math.log(truth + one)
        weight = np.exp(-0.5 * (off**2 - (off**2).min()) / spread)
        # Systematic resampling: as many copies as the weight says, rounded up or down.
        points = (np.arange(count) + draw.random()) / count
        chosen = np.minimum(np.searchsorted(np.cumsum(weight / weight.sum()), points), count - 1)
        particles = [Particle(particles[i].log_rate, particles[i].initial, particles[i].outcome) for i in chosen]
    return particles


def simulations(
    epidemic: Epidemic, values: Tensor, stated: Tensor, *, weeks: int, seeds: range, base: int
) -> np.ndarray:
    """Simulate weekly cases of the calibrated city, in the observed weeks and in those after them.

    With `level_correction` the forecast weeks are multiplied to the level of the last reports, and so are the cases
    that agents hear of in those weeks.

    Args:
        epidemic: the simulator.
        values: calibrated values.
        stated: stated probabilities [observed weeks, groups].
        weeks: number of weeks, observed ones included.
        seeds: one simulation each.
        base: number that is added to the seeds.

    Returns:
        Cases [seed, week, borough].
    """
    config, observed, reported, made = epidemic.config, epidemic.observed_weeks, epidemic.reported, []
    if config.particle_filter and seeds:
        particles = particle_filter(epidemic, values, stated, count=len(seeds), base=base)
        drift = drift_std(reported)
    for place, seed in enumerate(seeds):
        outcome: Outcome | None = None
        more: dict[str, Any] = {}
        if config.particle_filter:
            outcome = particles[place].outcome
            more = {"log_rate": particles[place].log_rate, "drift": drift}
        elif config.level_correction and weeks > observed:
            outcome = epidemic.simulate_ahead(values, base + seed, stated, observed)
        factor = torch.ones(reported.shape[1])
        if config.level_correction and outcome is not None:
            factor = level_correction(weekly(outcome.cases), reported)
        received = partial(torch.mul, factor)
        later = base + LATER + seed
        outcome = epidemic.simulate_ahead(values, later, stated, weeks, before=outcome, received=received, **more)
        cases = weekly(outcome.cases)
        made.append(torch.cat([cases[:observed], factor * cases[observed:]]))
    return torch.stack(made).double().numpy()
