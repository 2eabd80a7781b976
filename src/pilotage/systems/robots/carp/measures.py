"""What is measured for CARP: policies in their worlds, one checkpoint drawn in two ways, time, sizes, tokenisers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
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
MOST_PARAMETERS = 1_000_000


# ---- policies --------------------------------------------------------------------------------------------------------


def acted(arm: str, unit: int, context: Any) -> dict[str, float]:
    """A training, judged on EPISODES starts with their actions kept; tuning seeds (from 1000 on) have other starts.

    `coverage` (where the world speaks of it), `success`, `log jerk`: the logarithm of the mean squared third
    difference of executed actions in the range of the data."""
    del arm
    result = context.train()
    happened, policy = _evaluated(context, result.run, EPISODES, keep=True, tuning=unit >= FIRST_TUNING_SEED)
    numbers = {**result.metrics, **happened.metrics()}
    scale = policy.normalisers["action"].scale.numpy()
    jerks = [third_difference(one.actions / np.where(scale > 0, scale, 1)) for one in happened.trajectories.values()]
    jerks = [jerk for jerk in jerks if math.isfinite(jerk)]
    numbers["log jerk"] = math.log(float(np.mean(jerks))) if jerks and np.mean(jerks) > 0 else math.nan
    for short, name in (("coverage", "evaluation/coverage/best"), ("success", "evaluation/success")):
        if name in numbers:
            numbers[short] = numbers[name]
    return numbers


def third_difference(actions: np.ndarray) -> float:
    """Mean squared third difference of actions [T, A]; NaN for fewer than four."""
    differences = np.diff(actions, 3, axis=0)
    return float(np.square(differences).mean()) if len(differences) else math.nan


def ways(arm: str, unit: int, context: Any) -> dict[str, float]:
    """One checkpoint from one start, drawn by argmax ("argmax"), among 5 ("top 5") or also by argmax at the finest
    scale ("coarse top 5"): success, entropy of the ways in bits, share of the rarer one."""
    del unit
    result = context.train()
    drawing = {"argmax": {"top_k": 1}, "top 5": {"top_k": 5}, "coarse top 5": {"top_k": 5, "argmax_scales": 1}}[arm]
    happened, _ = _evaluated(context, result.run, STARTS, drawing=drawing)
    metrics, counts = happened.metrics(), list(happened.modes().values())
    return {
        **result.metrics,
        "success": metrics["evaluation/success"],
        "entropy": metrics.get("evaluation/mode_entropy", 0.0),
        "rarer": min(counts) / sum(counts) if len(counts) > 1 else 0.0,
    }


def _evaluated(
    context: Any,
    run: str,
    episodes: int,
    *,
    keep: bool = False,
    tuning: bool = False,
    drawing: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """What the policy of a run does on its declared starts, and the policy; `drawing` sets options of its head."""
    from pilotage.training.imitation.loading import load_action_policy
    from pilotage.training.imitation.task import World

    policy = load_action_policy(Path(run) / "policy")
    for name, value in (drawing or {}).items():
        setattr(policy.head, name, value)
    count = 2 if context.quick else episodes
    config = context.configuration()
    first = config.evaluation_seed + (TUNING_STARTS if tuning else 0)
    world = World(replace(config, evaluation_episodes=count, evaluation_seed=first))
    return world.evaluate(policy, keep=keep), policy


# ---- time and sizes --------------------------------------------------------------------------------------------------


def decision_time(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Milliseconds of processor time of one decision of one row, one thread, with untrained weights, and its passes.

    Sizes are those of the command and of a state of 5 and an action of 2 numbers, as in Push-T."""
    del arm
    import torch

    from pilotage.policies.control.execution.latency import MeteredPolicy

    policy = _untrained(context.configuration(), 5, 2, unit)
    meter = MeteredPolicy(policy, warm_up=1 if context.quick else WARM_UP, clock=time.process_time)
    meter.reset([0])
    decisions = 2 if context.quick else DECISIONS
    generator = torch.Generator().manual_seed(unit)
    while len(meter.seconds) < decisions:
        meter.act({"state": torch.rand(1, 5, generator=generator)}, [0])
    seconds = float(np.median(meter.seconds))
    return {
        "log milliseconds": math.log(1000 * seconds),
        "passes": meter.summary()["calls_per_decision"],
        "four passes": float(meter.summary()["calls_per_decision"] == 4),
        "parameters": float(sum(p.numel() for p in policy.head.parameters())),
    }


def parameters(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Parameters at the paper's size on robomimic: a state of 19 and an action of 10 numbers."""
    del arm
    policy = _untrained(context.configuration(), 19, 10, unit)
    count = sum(p.numel() for p in policy.head.parameters())
    return {"parameters": float(count), "log parameters": math.log(count), "small": float(count < MOST_PARAMETERS)}


def _untrained(config: Any, state: int, actions: int, seed: int) -> Any:
    """A policy of the sizes that a configuration names, with new weights."""
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
    """A tokeniser trained with the unit as its seed on the chunks of the command's data, without a policy over it."""
    del arm
    result = context.train(f"{context.command} --steps 1 --env none --tokeniser-seed {unit}", seed=0)
    return {name.removeprefix("tokeniser/"): value for name, value in result.metrics.items()} | {
        "log mse": math.log(result.metrics["tokeniser/mse"])
    }


def checked(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The card's checks of one tokeniser: errors fall with every scale, tokens stay, the coarse scale is smooth."""
    numbers = tokeniser(arm, unit, context)
    scales = sorted(name for name in numbers if name.startswith("mse/scales_"))
    return numbers | {
        "errors fall": float(all(numbers[a] > numbers[b] for a, b in pairwise(scales))),
        "tokens stay": float(numbers["finest_changed"] < 0.05),
        "coarse is smooth": float(numbers["coarse_energy"] < 0.1),
    }
