"""What is measured for BESO: one checkpoint acting in many ways, orders from fixed starts, the time of a decision."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

WAYS: Mapping[str, Mapping[str, Any]] = {
    **{f"{steps} steps": {"steps": steps} for steps in (1, 2, 3, 5, 10, 50)},
    **{name: {"sampler": name} for name in ("euler_ancestral", "heun", "dpm_solver_2s", "dpm_solver_2m")},
    **{name: {"schedule": name} for name in ("exponential", "karras", "vp")},
    **{f"weight {weight:g}": {"goal_weight": weight} for weight in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)},
    "ddpm 100": {"sampler": "ddpm", "steps": 100},
    "ddim 3": {"sampler": "ddim", "steps": 3},
    "ddim 10": {"sampler": "ddim", "steps": 10},
}
"""How an arm acts: what is changed of a trained policy; all else, and other arms, are as trained."""
FIXED_STARTS, REPEATS = 8, 25
DECISIONS = 100


def policy_of(arm: str, context: Any) -> Any:
    """The policy that the arm's command trained, acting in the way that `arm` names."""
    from pilotage.training.imitation.loading import load_action_policy

    policy = load_action_policy(Path(context.train().run) / "policy")
    for name, value in WAYS.get(arm, {}).items():
        setattr(policy if name == "goal_weight" else policy.head, name, value)
    return policy


def acting(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The training's own starts, with whatever sampler, levels, steps and weight the arm has.

    `result`: what the goal asked for, of 1; `reward`: what was completed, asked for or not; in worlds that do not tell
    them apart both are the share of successes."""
    del unit
    from pilotage.training.imitation.task import World

    policy, config = policy_of(arm, context), context.configuration()
    return numbers_of(World(config).evaluate(policy), policy)


def numbers_of(happened: Any, policy: Any) -> dict[str, float]:
    """The numbers of an evaluation by `policy`."""
    from pilotage.training.imitation.task import judged

    all_numbers = happened.metrics() | judged(happened)
    success = all_numbers.get("evaluation/success", math.nan)
    result, reward = all_numbers.get("evaluation/result", success), all_numbers.get("evaluation/reward", success)
    return {
        "result": result,
        "reward": reward,
        "conditional ratio": result / reward if reward else math.nan,
        "at least 0.9": float(result >= 0.9),
        "success": success,
        "calls": sum(policy.calls.values()) / max(1, policy.decisions),
        "steps": all_numbers["evaluation/steps"],
        "clipped": all_numbers["evaluation/clipped"],
    }


def chance(arm: str, unit: int, context: Any) -> dict[str, float]:
    """`acting`; an arm called "chance" does what was asked for half of the time."""
    if arm == "chance":
        return {"conditional ratio": 0.5}
    return acting(arm, unit, context)


def spread(arm: str, unit: int, context: Any) -> dict[str, float]:
    """One checkpoint, 6 samplers × 4 laws of levels × 4 numbers of steps: the result at 3 steps or more.

    `result` is the arm's: of "3 steps" that with DDIM and linear levels, of "lowest" the lowest of all but those."""
    from pilotage.objectives.levels import SCHEDULES
    from pilotage.training.imitation.task import World

    del unit
    found: dict[str, float] = {}
    config = context.configuration()
    samplers = ("ddim_sigma", "euler", "euler_ancestral", "heun", "dpm_solver_2s", "dpm_solver_2m")
    few = context.quick
    for sampler in samplers[: 2 if few else None]:
        for schedule in list(SCHEDULES)[: 1 if few else None]:
            for steps in (1, 3) if few else (1, 3, 5, 10):
                policy = policy_of("", context)
                policy.head.sampler, policy.head.schedule, policy.head.steps = sampler, schedule, steps
                found[f"{sampler} {schedule} {steps}"] = numbers_of(World(config).evaluate(policy), policy)["result"]
    own = found.get("ddim_sigma linear 3", math.nan)
    lowest = min(value for name, value in found.items() if not name.endswith(" 1"))
    return {**found, "result": lowest if arm == "lowest" else own}


# ---- orders ----------------------------------------------------------------------------------------------------------


def orders(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Entropy in bits of the orders in which the blocks were brought home, from one and the same start: 25 tries from
    each of 8 starts, mean over starts. Over different starts even one fixed way gives several orders.

    "oracle": as many draws from the four orders, as the demonstrations were made. Others act without a goal."""
    from pilotage.environments.control import control_env
    from pilotage.rollouts.control import evaluate
    from pilotage.training.imitation.task import World

    starts, repeats = (2, 3) if context.quick else (FIXED_STARTS, REPEATS)
    if arm == "oracle":
        drawn = np.random.default_rng([unit, 50]).integers(0, 4, (starts, repeats))
        return {"entropy": float(np.mean([bits(Counter(row.tolist())) for row in drawn])), "success": 1.0}
    policy, config = policy_of(arm, context), context.configuration()
    if config.goal_steps:
        policy.goal_weight = 0.0
    seeds = [config.evaluation_seed + start for start in range(starts) for _ in range(repeats)]
    happened = evaluate(
        lambda: control_env(config.env),
        World(config).acting(policy),
        seeds,
        num_envs=config.num_envs,
        window=config.n_obs_steps,
        max_steps=config.evaluation_steps or None,
    )
    return order_numbers(happened.episodes)


def order_numbers(episodes: Any) -> dict[str, float]:
    """`entropy` of the ways of the successful episodes of every seed, mean over seeds (0 for one without success), and
    the share of successes."""
    ways: dict[int, Counter[str]] = {episode.seed: Counter() for episode in episodes}
    for episode in episodes:
        if episode.success and episode.mode:
            ways[episode.seed][episode.mode] += 1
    return {
        "entropy": float(np.mean([bits(counted) for counted in ways.values()])),
        "success": float(np.mean([bool(episode.success) for episode in episodes])),
    }


def bits(counted: Mapping[Any, int]) -> float:
    """Entropy of counts, in bits; 0 for none."""
    shares = np.array([count for count in counted.values() if count], dtype=float)
    shares /= max(1.0, shares.sum())
    return float(-(shares * np.log2(shares)).sum()) + 0.0


# ---- time ------------------------------------------------------------------------------------------------------------


def latency(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Processor milliseconds of one decision for one robot, the median of 100; `log per pass`, its share of a pass."""
    del unit
    policy = policy_of(arm, context)
    frames, width = policy.encoder.frames, policy.encoder.state_dim
    observation = {"state": np.zeros((1, frames, width), np.float32)}
    if policy.encoder.goal_dim:
        observation["goal"] = np.zeros((1, policy.encoder.goals * policy.encoder.goal_dim), np.float32)
    policy.reset([0])
    spent = []
    for _ in range(3 if context.quick else DECISIONS):
        began = time.process_time()
        policy.act(observation, [0])
        spent.append(1000 * (time.process_time() - began))
    milliseconds, calls = float(np.median(spent)), policy.calls[0] / policy.decisions
    return {"milliseconds": milliseconds, "log per pass": math.log(milliseconds / calls), "calls": calls}


def lattice_routes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Entropy in bits of the routes from corner to corner of the lattice, 60 tries from one start to one goal."""
    del unit
    from pilotage.environments.control import control_env
    from pilotage.rollouts.control import evaluate
    from pilotage.training.imitation.task import World

    policy, config = policy_of(arm, context), replace(context.configuration(), env="lattice-goals")
    corners = {"start_cell": (1, 1), "goal_cell": (5, 5), "noise": 0.0}
    happened = evaluate(
        lambda: control_env(config.env, **corners),
        World(config).acting(policy),
        [config.evaluation_seed] * (3 if context.quick else 60),
        num_envs=config.num_envs,
        window=config.n_obs_steps,
        max_steps=config.evaluation_steps or None,
    )
    return order_numbers(happened.episodes)
