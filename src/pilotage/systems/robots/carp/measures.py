"""Measures of CARP's claims: policies that act, one checkpoint drawn in two ways, times of decisions, tokenisers."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

EPISODES = 50
STARTS = 60
"""Episodes from one fixed start, in which ways are counted."""
DECISIONS = 30
"""Timed decisions of a policy, after WARM_UP that are not."""
WARM_UP = 5
FIRST_TUNING_SEED, TUNING_STARTS = 1000, 500_000
"""Units from which on a training only chooses a setting, and how far its starts are from those that count."""


# ---- policies --------------------------------------------------------------------------------------------------------


def acted(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Train the arm and evaluate it on EPISODES starts; tuning seeds (from 1000 on) have other starts.

    Returns:
        The training's metrics; `coverage` (where the environment has it), `success`, and `log_jerk`, the logarithm of
        the mean squared third difference of executed actions in the range of the data.
    """
    del arm
    result = context.train()
    happened, policy = _evaluated(context, result.run, EPISODES, keep=True, tuning=unit >= FIRST_TUNING_SEED)
    numbers = {**result.metrics, **happened.metrics()}
    scale = policy.normalisers["action"].scale.numpy()
    jerks = [third_difference(one.actions / np.where(scale > 0, scale, 1)) for one in happened.trajectories.values()]
    jerks = [jerk for jerk in jerks if math.isfinite(jerk)]
    numbers["log_jerk"] = math.log(float(np.mean(jerks))) if jerks and np.mean(jerks) > 0 else math.nan
    for short, name in (("coverage", "evaluation/coverage/best"), ("success", "evaluation/success")):
        if name in numbers:
            numbers[short] = numbers[name]
    return numbers


def third_difference(actions: np.ndarray) -> float:
    """Return the mean squared third difference of actions [step, number]; NaN for fewer than four steps."""
    differences = np.diff(actions, 3, axis=0)
    return float(np.square(differences).mean()) if len(differences) else math.nan


def ways(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Evaluate one checkpoint from one start, its tokens drawn by argmax or among the five likeliest ("top 5").

    Returns:
        `success`, `entropy` of the ways in bits, and `rarer`, the share of the rarer way.
    """
    del unit
    result = context.train()
    happened, _ = _evaluated(context, result.run, STARTS, top_k={"argmax": 1, "top 5": 5}[arm])
    metrics, counts = happened.metrics(), list(happened.modes().values())
    return {
        **result.metrics,
        "success": metrics["evaluation/success"],
        "entropy": metrics.get("evaluation/mode_entropy", 0.0),
        "rarer": min(counts) / sum(counts) if len(counts) > 1 else 0.0,
    }


def _evaluated(
    context: Any, run: str, episodes: int, *, keep: bool = False, tuning: bool = False, top_k: int | None = None
) -> tuple[Any, Any]:
    """Return the evaluation of a run's policy on its declared starts, and the policy; `top_k` is set on its head."""
    from pilotage.policies.control.policy import ActionPolicy
    from pilotage.training.imitation.task import ControlTask

    policy = ActionPolicy.from_pretrained(Path(run) / "policy")
    if top_k is not None:
        setattr(policy.head, "top_k", top_k)  # noqa: B010 - a head is a module, whose attributes are typed as tensors
    count = 2 if context.quick else episodes
    config = context.configuration()
    first = config.evaluation_seed + (TUNING_STARTS if tuning else 0)
    world = ControlTask(replace(config, evaluation_episodes=count, evaluation_seed=first))
    return world.evaluate(policy, keep=keep), policy


# ---- time ------------------------------------------------------------------------------------------------------------


def decision_time(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Time a decision in one episode, on one thread and with untrained weights.

    Sizes are those of the command and of a state of 5 and an action of 2 numbers, as in Push-T.

    Returns:
        `log_milliseconds`: logarithm of the processor time; `passes` of the network; `parameters` of the head.
    """
    del arm
    import torch

    from pilotage.policies.control.execution.latency import MeteredPolicy

    policy = untrained_policy(context.configuration(), 5, 2, unit)
    meter = MeteredPolicy(policy, warm_up=1 if context.quick else WARM_UP, clock=time.process_time)
    meter.reset([0])
    decisions = 2 if context.quick else DECISIONS
    generator = torch.Generator().manual_seed(unit)
    while len(meter.seconds) < decisions:
        meter.act({"state": torch.rand(1, 5, generator=generator)}, [0])
    seconds = float(np.median(meter.seconds))
    return {
        "log_milliseconds": math.log(1000 * seconds),
        "passes": meter.summary()["calls_per_decision"],
        "parameters": float(sum(p.numel() for p in policy.head.parameters())),
    }


def untrained_policy(config: Any, state: int, actions: int, seed: int) -> Any:
    """Return a policy of the sizes that a configuration names, with new weights."""
    import torch

    from pilotage.data.demonstrations import Statistics
    from pilotage.data.normalisers import Normaliser
    from pilotage.policies.control.policy import ActionPolicy
    from pilotage.training.imitation.builder import Builder, Sizes

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builder = Builder(config, Sizes(state, actions))
        head = builder.head()
    ends = np.ones(actions)
    plain = Normaliser(Statistics(-ends, ends, 0 * ends, ends, 1))
    return ActionPolicy(builder.encoder.eval(), head.eval(), builder.executor(), {"action": plain}, seed=seed)


# ---- tokenisers ------------------------------------------------------------------------------------------------------


def tokeniser(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Train a tokeniser with the unit as its seed on the chunks of the command's data, without a policy over it."""
    del arm
    result = context.train(f"{context.command} --steps 1 --env none --tokeniser-seed {unit}", seed=0)
    return {name.removeprefix("tokeniser/"): value for name, value in result.metrics.items()} | {
        "log_mse": math.log(result.metrics["tokeniser/mse"])
    }
