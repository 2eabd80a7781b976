"""What is measured for EBT-Policy: a density with two modes, trained policies, their decisions forced and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.direct import Regression
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation
from pilotage.policies.control.heads.head import Head

LEARNT: Mapping[str, Any] = {
    "training_loss": "through_descent",
    "step_size": 1.0,
    "learn_step": True,
    "least_steps": 2,
    "more_steps": 2,
}
TWO_MODE_HEADS: Mapping[str, Mapping[str, Any]] = {
    "through descent": {**LEARNT, "noise_first": 0.05},
    "noised start": {**LEARNT, "start": "noised"},
    "matching": {},
}
TO_THE_END: Mapping[str, Any] = {"steps": 20, "least_slope": 0.0}
"""How the two-mode density is descended: a slope is small between two modes as well, where an early stop would rest."""
EQUAL_PASSES = 4
"""Denoiser passes that cost what two steps down an energy cost, each a forward and a backward."""
SHIFT = 0.5
"""Standard deviation of what disturbs normalised observations."""


# ---- a density with two modes ----------------------------------------------------------------------------------------


def two_modes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """One action that is −1 or 1, equally often, in the same situation: where 1,000 starts end after training."""
    from pilotage.networks.residual_mlp import ResidualMLP

    torch.manual_seed(unit)
    network = ResidualMLP(1, 1, 1, width=64, depth=2, takes_level=False, outputs=1)
    head: Head = (
        Regression(network)
        if arm == "regression"
        else EnergyOptimisation(network, **{**TO_THE_END, **TWO_MODE_HEADS[arm]})
    )
    generator = torch.Generator().manual_seed(unit)
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3)
    nothing, real = Condition(torch.zeros(256, 1)), torch.ones(256, 1, dtype=torch.bool)
    count = 40 if context.quick else 1000
    for step in range(count):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - step / count)
        target = 2.0 * torch.randint(0, 2, (256, 1, 1), generator=generator) - 1
        optimiser.zero_grad()
        head.loss(target, nothing, generator, real).mean().backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
    head.eval()
    with torch.no_grad():
        ends = head.sample(Condition(torch.zeros(1000, 1)), generator).flatten()
    return two_mode_numbers(ends)


def two_mode_numbers(ends: Tensor) -> dict[str, float]:
    """Of ends [n]: share within .2 of −1 or 1, share above 0, mean distance from 0, and whether both modes are held."""
    near, right = float(((ends.abs() - 1).abs() <= 0.2).float().mean()), float((ends > 0).float().mean())
    return {
        "near a mode": near,
        "share right": right,
        "distance from the mean": float(ends.abs().mean()),
        "holds both": float(near >= 0.95 and 0.3 <= right <= 0.7),
        "goes to the mean": float(ends.abs().mean() < 0.1),
    }


# ---- trained policies ------------------------------------------------------------------------------------------------


def _trained(context: Any) -> tuple[Any, Path, Mapping[str, float]]:
    """Configuration, run and metrics of the arm's training."""
    result = context.train()
    return context.configuration(), Path(result.run), result.metrics


def _kept(metrics: Mapping[str, float]) -> dict[str, float]:
    """What a run is compared by: success, and coverage where the world has it."""
    names = ("evaluation/success", "evaluation/coverage/best", "evaluation/mode_entropy", "validation/action_error")
    return {name: metrics[name] for name in names if name in metrics}


def trained(arm: str, unit: int, context: Any) -> dict[str, float]:
    """One training: how well it acts."""
    del arm, unit
    return _kept(_trained(context)[2])


def compute(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The logarithms of what a decision and a window of training cost, counted; a denoiser takes 100 DDPM steps."""
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
        "log decision flops": math.log(counted["decision/flops"]),
        "log training flops": math.log(counted["training/flops"]),
    }


def few_passes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The same weights, with two steps down an energy, or as many denoiser passes as those cost."""
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
    """The same weights with an early stop, or with all steps: how well they act, and gradients per decision."""
    from pilotage.systems.robots.ebt_policy.actions import saved_policy

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    assert isinstance(policy.head, EnergyOptimisation)
    if arm == "all steps":
        policy.head.least_slope = 0.0
    found = _in_world(config, policy, unit)
    return {**_kept(metrics), **_kept(found), "gradients": policy.head.taken()["backward_passes"]}


def _in_world(config: Any, policy: Any, unit: int) -> Mapping[str, float]:
    from pilotage.training.imitation.task import World

    policy.seed = unit
    found: Mapping[str, float] = World(config).evaluate(policy).metrics()
    return found


# ---- what the energy says --------------------------------------------------------------------------------------------


def area_under_curve(odd: Tensor, usual: Tensor) -> float:
    """The probability that a score [n] of an odd case is above that of a usual one [m], ties halved."""
    above = (odd[:, None] > usual[None]).double().mean() + 0.5 * (odd[:, None] == usual[None]).double().mean()
    return float(above)


def detection(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Whether the policy's own score is higher for observations with noise added than for those of held-back
    demonstrations: the energy of its chunk; of a denoiser the error in denoising its own chunk at half noise."""
    from pilotage.systems.robots.ebt_policy.actions import energies, saved_policy, windows_of

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    seen = windows_of(config, 40 if context.quick else 400).observations
    generator = torch.Generator().manual_seed(unit)
    disturbed = {name: value + SHIFT * torch.randn(value.shape, generator=generator) for name, value in seen.items()}
    score = energies if arm != "diffusion" else _denoising_error
    area = area_under_curve(score(policy, disturbed, unit), score(policy, seen, unit))
    return {**_kept(metrics), "area": area, "area above .7": float(area > 0.7)}


def _denoising_error(policy: Any, observations: Mapping[str, Tensor], seed: int) -> Tensor:
    """Mean squared error of the clean estimate against the policy's own chunk, noised half way, over 8 draws: [B]."""
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


def ranking(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Among 16 chunks for a held-back window, the distance of one from the nearest of its expert neighbours' chunks.

    The neighbours are the eight held-back windows of most similar observation. arm: lowest energy, or first drawn."""
    from pilotage.systems.robots.ebt_policy.actions import decide, saved_policy, windows_of

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    batch = windows_of(config, 40 if context.quick else 300)
    head = policy.head
    assert isinstance(head, EnergyOptimisation)
    head.candidates = 16 if arm == "lowest" else 1
    chunk = decide(policy, batch.observations, unit)
    state = batch.observations["state"].flatten(1)
    near = torch.cdist(state, state).topk(min(8, len(state)), largest=False).indices
    gaps = (batch.actions[near] - chunk[:, None]).square().mean((2, 3)).sqrt()
    return {**_kept(metrics), "gap": float(gaps.amin(1).mean())}


def steps_by_place(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Gradients per decision in held-back windows of the pillar world: before the fork (x < −.8), or past it (x > .3).

    All steps are offered; a row stops at the slope of its calibration."""
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


# ---- shifts and failures, for long reproductions ---------------------------------------------------------------------


class Disturbed:
    """A policy that sees its state through noise of `std` times the half range of the data."""

    def __init__(self, policy: Any, std: float, seed: int) -> None:
        self.policy, self.std, self.generator = policy, std, torch.Generator().manual_seed(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def reset(self, rows: Any) -> None:
        self.policy.reset(rows)

    def act(self, observations: Mapping[str, Any], rows: Any) -> Tensor:
        scaling = self.policy.normalisers["state"]
        state = scaling.normalise(torch.as_tensor(observations["state"]).float())
        noise = self.std * torch.randn(state.shape, generator=self.generator)
        answer: Tensor = self.policy.act({**observations, "state": scaling.denormalise(state + noise)}, rows)
        return answer


def under_noise(arm: str, unit: int, context: Any) -> dict[str, float]:
    """What is lost when observations are noisy at evaluation (standard deviation .05 in normalised units)."""
    del arm
    from pilotage.systems.robots.ebt_policy.actions import saved_policy

    config, run, metrics = _trained(context)
    calm = _kept(metrics)
    found = _kept(_in_world(config, Disturbed(saved_policy(config, run), 0.05, unit), unit))
    measure = "evaluation/coverage/best" if "evaluation/coverage/best" in calm else "evaluation/success"
    return {**calm, "noisy": found[measure], "lost": calm[measure] - found[measure]}


def retry(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Pick and place where the first grasp slips: share of episodes with a second attempt, and with success after."""
    del arm
    from pilotage.environments.control import control_env
    from pilotage.rollouts.control import evaluate
    from pilotage.rollouts.vector_envs import Start
    from pilotage.systems.robots.ebt_policy.actions import saved_policy

    config, run, metrics = _trained(context)
    policy = saved_policy(config, run)
    policy.seed = unit
    count = 2 if context.quick else 50
    starts = [Start(config.evaluation_seed + n, {"disturbance": "slip"}) for n in range(count)]
    found = evaluate(
        lambda: control_env(config.env),
        policy,
        starts,
        window=config.n_obs_steps,
        keep=range(count),
        max_steps=config.evaluation_steps or None,
    )
    last = [found.trajectories[row].infos[-1] for row in range(count)]
    slipped = [row for row in range(count) if last[row]["disturbed"]]
    again = [float(last[row]["attempts"] >= 2) for row in slipped]
    good = [float(bool(found.episodes[row].success)) for row in slipped]
    return {
        **_kept(metrics),
        "slipped": len(slipped) / count,
        "second attempt": float(np.mean(again)) if slipped else math.nan,
        "success after a slip": float(np.mean(good)) if slipped else math.nan,
    }
