"""What is measured for RTI-DP: passes and milliseconds, changes of mind at a fork, K' and contraction, weights."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

LISTS = ("0", "1,0", "2,1,0", "3,1,0", "5,3,1,0", "10,8,6,4,2,0")
"""The lists of levels among which K' is swept."""
FORK_STEPS = 60
"""Steps from the fixed start in which a route round the ring is chosen."""
UNDECIDED = 0.1
"""Planned mean forces whose difference is smaller than this choose no route."""


def acted(arm: str, unit: int, context: Any) -> dict[str, float]:
    """One run of the arm's command, and what its passes come to."""
    del arm, unit
    numbers = dict(context.train().metrics)
    return {**numbers, "log calls per action": math.log(numbers["evaluation/calls_per_step"])}


def passes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Whether every episode took as many passes as the lists say: in full once, then one per listed level."""
    del arm, unit
    from pilotage.runs import read_lines

    run = Path(context.train().run)
    config = context.configuration()
    first = read_lines(run / "rollouts.jsonl")
    full = int(config.sampler.partition("steps=")[2] or 100)
    expected = [full + len(config.levels) * (math.ceil(e["steps"] / config.n_action_steps) - 1) for e in first]
    return {"as listed": float(all(e["calls"] == n for e, n in zip(first, expected, strict=True)))}


def latency(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Milliseconds of a decision, one episode at a time, one thread, after 20 to warm up."""
    del arm, unit
    from pilotage.systems.robots.rti_dp.train import timed
    from pilotage.training.imitation.loading import load_action_policy

    config = context.configuration()
    policy = load_action_policy(Path(context.train().run) / "policy")
    summary = timed(config, policy, 5 if context.quick else 60)
    return {
        **summary,
        "log ms": math.log(summary["p50_ms"]),
        "log ms per action": math.log(summary["p50_ms"] / config.n_action_steps),
    }


def same_weights(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Whether warm starts and full denoising act with the same file of weights."""
    del arm, unit
    commands = (context.command, f"{context.command} --start noise --n-action-steps 8")
    files = [Path(context.train(command=c).run) / "policy" / "weights.safetensors" for c in commands]
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"same weights": float(len(digests) == 1)}


# ---- the fork --------------------------------------------------------------------------------------------------------


def fork(arm: str, unit: int, context: Any) -> dict[str, float]:
    """At the fork of the ring: changes of the planned route per episode, and the share that first planned the one."""
    del arm, unit
    from pilotage.systems.robots.rti_dp.plan_changes import WatchedPlans
    from pilotage.systems.robots.rti_dp.task import DisturbedWorld
    from pilotage.training.imitation.loading import load_action_policy

    policy = load_action_policy(Path(context.train().run) / "policy")
    config = replace(context.configuration(), evaluation_steps=6 if context.quick else FORK_STEPS)
    plans: dict[int, list[float]] = defaultdict(list)

    def look(row: int, chunk: Any) -> None:
        action = policy.normalisers["action"].denormalise(chunk).mean(0)
        plans[row].append(float(action[0] + action[1]))  # one route begins with +x, the other with -y

    policy.executor = WatchedPlans(policy.executor, look)
    happened = DisturbedWorld(config).evaluate(policy)
    return {**fork_numbers(plans), "steps": float(np.mean([e.steps for e in happened.episodes]))}


def fork_numbers(plans: Mapping[int, list[float]]) -> dict[str, float]:
    """Of each episode's planned leanings, in their order: `switches` of sign per episode, undecided plans left out;
    `share` of episodes whose first plan leans to the positive side; whether that is between 30 and 70 %."""
    signs = [[math.copysign(1, lean) for lean in leans if abs(lean) >= UNDECIDED] for leans in plans.values()]
    switches = [sum(a != b for a, b in pairwise(s)) for s in signs]
    first = [s[0] > 0 for s in signs if s]
    share = float(np.mean(first)) if first else float("nan")
    return {"switches": float(np.mean(switches)), "share": share, "both routes": float(0.3 <= share <= 0.7)}


# ---- K' --------------------------------------------------------------------------------------------------------------


def chosen_level(arm: str, unit: int, context: Any) -> dict[str, float]:
    """The K' that demonstrations suggest, and by what the suggested list multiplies an error of the guess."""
    del arm, unit
    found = _estimate(context)
    factor = found.get("contraction", float("nan"))
    level = found["K'"]
    return {
        "K'": float(level) if isinstance(level, int) else float("nan"),
        "contraction": factor,
        "shrinks": float(factor < 1),
    }


def estimate_and_sweep(arm: str, unit: int, context: Any) -> dict[str, float]:
    """How far, in steps of `LISTS`, the estimated K' is from the list that is best in the world."""
    del arm, unit
    metric = "evaluation/coverage/best" if "push-t" in context.command else "evaluation/success"
    swept = [context.train(command=f"{context.command} --levels {levels}").metrics[metric] for levels in LISTS]
    level = _estimate(context)["K'"]
    gap = grid_gap(level if isinstance(level, int) else None, swept)
    return {"gap": gap, "within one": float(gap <= 1), **dict(zip(LISTS, map(float, swept), strict=True))}


def grid_gap(level: int | None, swept: list[float]) -> float:
    """Steps of `LISTS` between the one that begins nearest to `level` and the best of `swept`; infinite for None."""
    if level is None:
        return math.inf
    begins = [int(levels.partition(",")[0]) for levels in LISTS]
    return float(abs(int(np.argmin([abs(b - level) for b in begins])) - int(np.argmax(swept))))


def _estimate(context: Any) -> Mapping[str, Any]:
    from pilotage.systems.robots.rti_dp.estimate import estimate

    run = Path(context.train().run)
    return estimate(context.configuration(), run, states=10 if context.quick else 200, delta=0.1, seed=0)


def gaussian(arm: str, unit: int, context: Any) -> dict[str, float]:
    """A policy whose actions are N(W·o, std²), so that its denoiser is known: the measured factor by which three levels
    shrink a disturbance, against the product of the factors that theory gives. Width and list are drawn by unit."""
    del arm, context
    import torch

    from pilotage.objectives.noise_paths import VariancePreserving
    from pilotage.objectives.warm_start import contraction, gaussian_contraction
    from pilotage.policies.control.sampling.discrete_samplers import ddpm

    path = VariancePreserving()
    generator = torch.Generator().manual_seed(unit)
    std = 0.05 + 0.4 * float(torch.rand(1, generator=generator))
    levels = [*sorted({int(n) for n in torch.randint(1, 40, (3,), generator=generator)}, reverse=True), 0]
    target = 0.3 * torch.randn(64, 8, 2, generator=generator)

    def denoise(x: Any, level: Any) -> Any:
        bar = path.alpha_bars[int(level[0])].float()
        return target + bar.sqrt() * std**2 / (bar * std**2 + 1 - bar) * (x - bar.sqrt() * target)

    guess = target + 0.1 * torch.randn(target.shape, generator=generator)
    other = guess + 0.1 * torch.randn(target.shape, generator=generator)
    ends = [ddpm(denoise, levels, x, torch.Generator().manual_seed(1), path=path, clip=None) for x in (guess, other)]
    measured = float(contraction(ends[0], ends[1], guess, other).median())
    theory = float(gaussian_contraction(path, std)[levels].prod())
    return {"measured": measured, "theory": theory, "within 5 %": float(abs(measured / theory - 1) <= 0.05)}
