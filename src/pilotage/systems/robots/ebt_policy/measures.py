"""Measures of EBT-Policy's claims: trained policies, the same with forced decisions, and what their energy says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation

EQUAL_PASSES = 4
"""Denoiser passes that cost what two steps down an energy cost, each a forward and a backward."""
SHIFT = 0.5
"""Standard deviation of what disturbs normalised observations."""


# ---- trained policies ------------------------------------------------------------------------------------------------


def _trained(context: Any) -> tuple[Any, Path, Mapping[str, float]]:
    """Return configuration, run and metrics of the arm's training."""
    result = context.train()
    return context.configuration(), Path(result.run), result.metrics


def _kept(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that runs are compared by: success, and coverage where the environment has it."""
    names = ("evaluation/success", "evaluation/coverage/best", "evaluation/mode_entropy", "validation/action_error")
    return {name: metrics[name] for name in names if name in metrics}


def trained(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return how well the arm's training acts."""
    del arm, unit
    return _kept(_trained(context)[2])


def compute(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Count what a decision and a window of training cost, as logarithms too; a denoiser takes 100 DDPM steps."""
    del arm, unit
    from pilotage.systems.robots.ebt_policy.actions import compute_of, saved_policy, windows_of

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    if isinstance(policy.head, Denoiser):
        policy.head.sampler, policy.head.steps = "ddpm", 100
    counted = compute_of(policy, windows_of(config, 64))
    return {
        **_kept(metrics),
        **counted,
        "log_decision_flops": math.log(counted["decision/flops"]),
        "log_training_flops": math.log(counted["training/flops"]),
    }


def few_passes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Evaluate the same weights with two steps down an energy, or as many denoiser passes as those cost."""
    del arm
    from pilotage.systems.robots.ebt_policy.actions import saved_policy

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    if isinstance(policy.head, EnergyOptimisation):
        policy.head.steps, policy.head.least_slope = 2, 0.0
    elif isinstance(policy.head, Denoiser):
        policy.head.sampler, policy.head.steps = "ddim", EQUAL_PASSES
    return {**_kept(metrics), **_kept(_in_world(config, policy, unit))}


def stopping(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Evaluate the same weights with an early stop or with all steps, with their gradients per decision."""
    from pilotage.systems.robots.ebt_policy.actions import saved_policy

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    assert isinstance(policy.head, EnergyOptimisation)
    if arm == "all steps":
        policy.head.least_slope = 0.0
    found = _in_world(config, policy, unit)
    return {**_kept(metrics), **_kept(found), "gradients": policy.head.pop_metrics()["backward_passes"]}


def _in_world(config: Any, policy: Any, unit: int) -> Mapping[str, float]:
    from pilotage.training.imitation.task import ControlTask

    policy.seed = unit
    found: Mapping[str, float] = ControlTask(config).evaluate(policy).metrics()
    return found


# ---- what the energy says --------------------------------------------------------------------------------------------


def area_under_curve(odd: Tensor, usual: Tensor) -> float:
    """Return the probability that a score [n] of an odd case is above that of a usual one [m], ties halved."""
    above = (odd[:, None] > usual[None]).double().mean() + 0.5 * (odd[:, None] == usual[None]).double().mean()
    return float(above)


def detection(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return how well the policy's own score tells observations with added noise from held-back demonstrations.

    The score is the energy of its chunk; of a denoiser the error in denoising its own chunk at half noise.
    """
    from pilotage.systems.robots.ebt_policy.actions import energies, saved_policy, windows_of

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    seen = windows_of(config, 40 if context.quick else 400).observations
    generator = torch.Generator().manual_seed(unit)
    disturbed = {name: value + SHIFT * torch.randn(value.shape, generator=generator) for name, value in seen.items()}
    score = energies if arm != "diffusion" else _denoising_error
    area = area_under_curve(score(policy, disturbed, unit), score(policy, seen, unit))
    return {**_kept(metrics), "area": area}


def _denoising_error(policy: Any, observations: Mapping[str, Tensor], seed: int) -> Tensor:
    """Return the mean squared error of denoising the policy's own chunk from half noise, over 8 draws: [window]."""
    from pilotage.systems.robots.ebt_policy.actions import decide

    chunk = decide(policy, observations, seed)
    generator, head = torch.Generator().manual_seed(seed), policy.head
    level = torch.full((len(chunk),), head.path.steps // 2)
    errors = []
    with torch.no_grad():
        denoise = head.denoiser(policy.encoder(observations))
        for _ in range(8):
            noise = torch.randn(chunk.shape, generator=generator)
            errors.append((denoise(head.path.mix(chunk, noise, level), level) - chunk).square().mean((1, 2)))
    return torch.stack(errors).mean(0)


def steps_by_place(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return gradients per decision in held-back windows before the pillar (x < −.8), or past it (x > .3).

    All steps are offered; a descent stops at the slope of its calibration.
    """
    from pilotage.systems.robots.ebt_policy.actions import decide, saved_policy, windows_of

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    seen = windows_of(config, 60 if context.quick else 600).observations
    assert isinstance(policy.head, EnergyOptimisation)
    decide(policy, seen, unit)
    assert policy.head.latest is not None
    steps = policy.head.latest.steps.double().numpy()
    x = policy.normalisers["state"].denormalise(seen["state"])[:, -1, 0].numpy()
    here = x < -0.8 if arm == "fork" else x > 0.3
    return {**_kept(metrics), "gradients": float(np.mean(steps[here])) if here.any() else math.nan}
