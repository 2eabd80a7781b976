"""Measures of BESO's claims: one checkpoint acting in many ways, and orders from fixed starts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WAYS: Mapping[str, Mapping[str, Any]] = {
    "3 steps": {"steps": 3},
    "50 steps": {"steps": 50},
    "euler_ancestral": {"sampler": "euler_ancestral"},
    **{f"weight {weight:g}": {"goal_weight": weight} for weight in (0.0, 0.5, 1.0, 1.5, 2.0)},
    "ddim 3": {"sampler": "ddim", "steps": 3},
}
"""How an arm acts: what is changed of a trained policy; all else, and other arms, are as trained."""
FIXED_STARTS, REPEATS = 8, 25


def policy_of(arm: str, context: Any) -> Any:
    """Return the policy that the arm's command trained, acting in the way that `arm` names."""
    from pilotage.policies.control.policy import ActionPolicy

    policy = ActionPolicy.from_pretrained(Path(context.train().run) / "policy")
    for name, value in WAYS.get(arm, {}).items():
        setattr(policy if name == "goal_weight" else policy.head, name, value)
    return policy


def acting(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Evaluate the arm's policy on the starts of its training's own evaluation.

    Returns:
        `result`: what the goal asked for, of 1; `reward`: what was completed, asked for or not; `calls`: passes of the
        network per decision; `success` and `steps` as the evaluation has them. In environments that do not tell result
        and reward apart both are the share of successes.
    """
    del unit
    from pilotage.training.imitation.task import ControlTask, goal_metrics

    policy, config = policy_of(arm, context), context.configuration()
    happened = ControlTask(config).evaluate(policy)
    all_numbers = happened.metrics() | goal_metrics(happened)
    success = all_numbers.get("evaluation/success", math.nan)
    return {
        "result": all_numbers.get("evaluation/result", success),
        "reward": all_numbers.get("evaluation/reward", success),
        "success": success,
        "calls": sum(policy.calls.values()) / max(1, policy.decisions),
        "steps": all_numbers["evaluation/steps"],
    }


def orders(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the entropy in bits of the orders in which the blocks were brought home from one and the same start.

    25 tries from each of 8 starts without a goal, mean over starts; over different starts even one fixed way gives
    several orders. The arm "oracle" draws as many times from the four orders, as the demonstrations were made.
    """
    from pilotage.environments.control import control_env
    from pilotage.rollouts.control import evaluate
    from pilotage.training.imitation.task import ControlTask

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
        ControlTask(config).acting(policy),
        seeds,
        num_envs=config.num_envs,
        window=config.n_obs_steps,
        max_steps=config.evaluation_steps or None,
    )
    return order_numbers(happened.episodes)


def order_numbers(episodes: Any) -> dict[str, float]:
    """Return the entropy of the ways of each seed's successful episodes, mean over seeds, and the share of successes.

    A seed without success counts as 0 bits.
    """
    ways: dict[int, Counter[str]] = {episode.seed: Counter() for episode in episodes}
    for episode in episodes:
        if episode.success and episode.mode:
            ways[episode.seed][episode.mode] += 1
    return {
        "entropy": float(np.mean([bits(counted) for counted in ways.values()])),
        "success": float(np.mean([bool(episode.success) for episode in episodes])),
    }


def bits(counted: Mapping[Any, int]) -> float:
    """Return the entropy of counts in bits; 0 for no counts."""
    shares = np.array([count for count in counted.values() if count], dtype=float)
    shares /= max(1.0, shares.sum())
    return float(-(shares * np.log2(shares)).sum()) + 0.0
