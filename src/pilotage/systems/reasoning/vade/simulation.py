"""Curricula against a bandit whose pass rates drift along a known path: cheap enough for many seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pilotage.data.curricula import BetaThompsonSampler, UniformSampler
from pilotage.types import Sampler

SamplerFactory = Callable[[int, int], Sampler]
"""(number of prompts, seed) → sampler"""

VARIANTS: dict[str, SamplerFactory] = {
    "uniform": lambda size, seed: UniformSampler(size, seed=seed),
    "vade": lambda size, seed: BetaThompsonSampler(size, seed=seed),
    "variance": lambda size, seed: BetaThompsonSampler(size, score="p(1-p)", seed=seed),
    "greedy": lambda size, seed: BetaThompsonSampler(size, draw="greedy", seed=seed),
    "last": lambda size, seed: BetaThompsonSampler(size, update="last", seed=seed),
    "no decay": lambda size, seed: BetaThompsonSampler(size, update="none", seed=seed),
    "one scale": lambda size, seed: BetaThompsonSampler(size, retain_selected=0.8, retain_others=0.8, seed=seed),
    "fitted prior": lambda size, seed: BetaThompsonSampler(size, prior="moments", seed=seed),
}
"""VADE, what it is compared with, and its ablations."""


def simulate_bandit(
    sampler_factory: SamplerFactory,
    size: int,
    steps: int,
    batch: int,
    answers: int,
    drift: float,
    seed: int,
) -> dict[str, Any]:
    """Let a sampler choose `batch` of `size` prompts for `steps` steps; a prompt's `answers` are right with its true
    pass rate, independently.

    The logit of a pass rate starts at N(-1, 2²) and grows by drift·N(1, 1) at each step, whatever is chosen: every
    sampler meets the same path for the same seed.

    Returns `gain`: Σ p(1-p)² over all that was chosen; `gains`: [steps] of it; `oracle`: the gain of choosing by the
    true pass rates; `zero_variance`: share of groups all right or all wrong; `coverage`: share of prompts ever chosen;
    `entropy`: of the distribution of visits, in nats; `error`: mean absolute error of the posterior means at the end,
    nan for samplers without.
    """
    world = np.random.default_rng([seed, 1])
    sampler = sampler_factory(size, seed)
    logits = world.normal(-1.0, 2.0, size)
    visits = np.zeros(size)
    gains, oracle, idle = np.zeros(steps), 0.0, 0
    for step in range(steps):
        p = 1 / (1 + np.exp(-logits))
        worth = p * (1 - p) ** 2
        rows = sampler.select(batch)
        # Drawn for all prompts, so that the world's randomness does not depend on what was chosen.
        right = world.binomial(answers, p)[rows]
        gains[step] = worth[rows].sum()
        oracle += np.partition(worth, size - batch)[size - batch :].sum()
        idle += int(((right == 0) | (right == answers)).sum())
        np.add.at(visits, rows, 1)
        sampler.update(rows, right, np.full(batch, answers))
        logits = logits + drift * world.normal(1.0, 1.0, size)
    frequency = visits[visits > 0] / visits.sum()
    truth = 1 / (1 + np.exp(-logits))
    rates = sampler.rates if isinstance(sampler, BetaThompsonSampler) else None
    return {
        "gain": float(gains.sum()),
        "gains": gains,
        "oracle": float(oracle),
        "zero_variance": idle / (steps * batch),
        "coverage": float((visits > 0).mean()),
        "entropy": float(-(frequency * np.log(frequency)).sum()),
        "error": float("nan") if rates is None else float(np.abs(rates.mean() - truth).mean()),
    }
