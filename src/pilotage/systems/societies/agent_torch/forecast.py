"""Simulations that forecast: steered along the known weeks or free from the first one, then on into weeks to come.

A city that runs free for months ends the known weeks somewhere else than the real one, and far from the next
simulation, however well its values were calibrated: a few infected decide when a wave begins. Steered simulations are a
bootstrap particle filter (Gordon, Salmond and Smith 1993): after every known week those whose weekly cases are near to
what was reported go on, in several copies under other noise. R of each wanders around the calibrated one, so that those
that are left hold what the known weeks leave open about R. Nothing here reads a week after the known ones."""

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

ANCHOR, LARGEST_ANCHOR = 2, 4.0
REPORT_NOISE = 0.1
"""Standard deviation of the logarithm of a week's reported cases around what happened, beside the chance of agents."""
INITIAL_NOISE = 0.3
"""The same of the share infected at first, around the calibrated one."""
LATER = 1_000_000
"""Between seeds of known weeks and of weeks to come."""
GENERATION = 5.5
"""Days from one infection to the next (mean of the disease's G)."""
LAG, FEWEST_STEP, LARGEST_STEP = 4, 0.03, 0.3


def wandering(reported: Tensor) -> float:
    """Standard deviation of the weekly steps of log R that reported cases [weeks, boroughs] speak for: half the root
    mean square of changes of the city's weekly growth over four weeks (a random walk's are twice those of a week; noise
    of single weeks counts little), times the days of a generation over seven. .1 with fewer than seven weeks."""
    if len(reported) < LAG + 3:
        return 0.1
    growth = torch.log1p(reported.double().sum(1)).diff()
    change = (growth[LAG:] - growth[:-LAG]).square().mean().sqrt() / math.sqrt(LAG)
    return float((change * GENERATION / 7).clamp(FEWEST_STEP, LARGEST_STEP))


def anchors(simulated: Tensor, reported: Tensor) -> Tensor:
    """(reported + 1) / (simulated + 1) of the last ANCHOR known weeks, within a factor of LARGEST_ANCHOR; by borough.

    simulated, reported [known, boroughs] -> [boroughs]"""
    factor = (reported[-ANCHOR:].sum(0) + 1) / (simulated[-ANCHOR:].sum(0) + 1)
    return factor.clamp(1 / LARGEST_ANCHOR, LARGEST_ANCHOR)


@dataclass
class Member:
    """A simulation on its way."""

    log_rate: float
    """Logarithm of its R over the calibrated one."""
    initial: float
    """Its share infected at first over the calibrated one."""
    outcome: Outcome | None = None


def steered(
    epidemic: Epidemic, values: Tensor, said: Tensor, *, count: int, base: int, step: float | None = None
) -> list[Member]:
    """`count` simulations of the known weeks, each with its R; see the module. step: of log R; None: `wandering`."""
    reported, known, config = epidemic.reported, epidemic.known, epidemic.config
    parts = {name: part.detach() for name, part in epidemic.model.named(values.detach()).items()}
    done = epidemic.model.isolation(parts, said).clamp(0, 1)
    size = wandering(reported) if step is None else step
    draw = np.random.default_rng([base, 1])
    members = [Member(0.0, math.exp(INITIAL_NOISE * draw.standard_normal())) for _ in range(count)]
    one = epidemic.world.population.weight * config.reporting
    for week in range(known):
        for place, member in enumerate(members):
            if week:
                member.log_rate += size * draw.standard_normal()
            rates = (parts["transmission"] * math.exp(member.log_rate)).clamp(max=LARGEST_R)
            own = {**parts, "transmission": rates, "initial": (parts["initial"] * member.initial).clamp(max=1.0)}
            member.outcome = epidemic.week_on(own, done, base + place + count * week, member.outcome)
        cases = np.array([float(weekly(m.outcome.cases)[-1].sum()) for m in members if m.outcome is not None])
        truth = float(reported[week].sum())
        # An agent that falls ill is `one` reported cases: their chance comes to the noise of reports.
        spread = REPORT_NOISE**2 + one / (truth + one)
        off = np.log(cases + one) - math.log(truth + one)
        weight = np.exp(-0.5 * (off**2 - (off**2).min()) / spread)
        # Systematic resampling: as many copies as the weight says, give or take one.
        points = (np.arange(count) + draw.random()) / count
        chosen = np.minimum(np.searchsorted(np.cumsum(weight / weight.sum()), points), count - 1)
        members = [Member(members[i].log_rate, members[i].initial, members[i].outcome) for i in chosen]
    return members


def simulations(epidemic: Epidemic, values: Tensor, said: Tensor, *, weeks: int, seeds: range, base: int) -> np.ndarray:
    """Weekly cases [seed, week, borough] of the calibrated city, the known weeks and those to come.

    With `anchored`, weeks to come are at the level of what was reported last, and so are the cases that people hear
    of then."""
    config, known, reported, made = epidemic.config, epidemic.known, epidemic.reported, []
    if config.steered and seeds:
        members = steered(epidemic, values, said, count=len(seeds), base=base)
        size = wandering(reported)
    for place, seed in enumerate(seeds):
        outcome: Outcome | None = None
        more: dict[str, Any] = {}
        if config.steered:
            outcome = members[place].outcome
            more = {"log_rate": members[place].log_rate, "step": size}
        elif config.anchored and weeks > known:
            outcome = epidemic.free(values, base + seed, said, known)
        factor = torch.ones(reported.shape[1])
        if config.anchored and outcome is not None:
            factor = anchors(weekly(outcome.cases), reported)
        heard = partial(torch.mul, factor)
        outcome = epidemic.free(values, base + LATER + seed, said, weeks, before=outcome, heard=heard, **more)
        cases = weekly(outcome.cases)
        made.append(torch.cat([cases[:known], factor * cases[known:]]))
    return torch.stack(made).double().numpy()
