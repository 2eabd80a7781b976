"""Measures of RTI-DP's claims: how it acts, the time of a decision, plans at a fork, K' and contraction."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

FORK_STEPS = 60
"""Steps from the fixed start in which a route round the ring is chosen."""
UNDECIDED = 0.1
"""Planned mean forces whose difference is smaller than this choose no route."""


def acted(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the metrics of one run of the arm's command."""
    del arm, unit
    return dict(context.train().metrics)


def latency(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Time a decision, one episode at a time on one thread, after 20 to warm up; `log_ms` is of milliseconds."""
    del arm, unit
    from pilotage.policies.control.policy import ActionPolicy
    from pilotage.systems.robots.rti_dp.actions import timed

    config = context.configuration()
    policy = ActionPolicy.from_pretrained(Path(context.train().run) / "policy")
    summary = timed(config, policy, 5 if context.quick else 60)
    return {**summary, "log_ms": math.log(summary["p50_ms"])}


# ---- the fork --------------------------------------------------------------------------------------------------------


def fork(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return, at the fork of the ring, changes of the planned route per episode, and the share of first routes."""
    del arm, unit
    from pilotage.policies.control.policy import ActionPolicy
    from pilotage.systems.robots.rti_dp.env import DisturbedTask
    from pilotage.systems.robots.rti_dp.metrics import WatchedPlans

    policy = ActionPolicy.from_pretrained(Path(context.train().run) / "policy")
    config = replace(context.configuration(), evaluation_steps=6 if context.quick else FORK_STEPS)
    plans: dict[int, list[float]] = defaultdict(list)

    def keep(row: int, chunk: Any) -> None:
        action = policy.normalisers["action"].denormalise(chunk).mean(0)
        plans[row].append(float(action[0] + action[1]))  # one route begins with +x, the other with -y

    policy.executor = WatchedPlans(policy.executor, keep)
    happened = DisturbedTask(config).evaluate(policy)
    return {**fork_numbers(plans), "steps": float(np.mean([e.steps for e in happened.episodes]))}


def fork_numbers(plans: Mapping[int, list[float]]) -> dict[str, float]:
    """Summarise the planned leanings of each episode, in their order.

    Args:
        plans: by row of the episode, the mean planned force towards one route minus that towards the other.

    Returns:
        `switches` of sign per episode, undecided plans left out, and `share` of episodes whose first plan leans to the
        positive side.
    """
    signs = [[math.copysign(1, lean) for lean in leans if abs(lean) >= UNDECIDED] for leans in plans.values()]
    switches = [sum(a != b for a, b in pairwise(s)) for s in signs]
    first = [s[0] > 0 for s in signs if s]
    share = float(np.mean(first)) if first else float("nan")
    return {"switches": float(np.mean(switches)), "share": share}


# ---- K' --------------------------------------------------------------------------------------------------------------


def chosen_level(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the K' that demonstrations suggest, and the factor by which its list changes an error of the guess."""
    del arm, unit
    from pilotage.systems.robots.rti_dp.actions import estimate

    run = Path(context.train().run)
    found = estimate(context.configuration(), run, states=10 if context.quick else 200, delta=0.1, seed=0)
    factor, level = found.get("contraction", float("nan")), found["K'"]
    return {
        "K'": float(level) if isinstance(level, int) else float("nan"),
        "contraction": factor,
        "shrinks": float(factor < 1),
    }
