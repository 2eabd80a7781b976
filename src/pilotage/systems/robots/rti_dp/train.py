"""A trained diffusion policy tried out by warm starts: in its world, and on the clock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.policies.control.execution.latency import MeteredPolicy
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.restarts import RestartingStart
from pilotage.policies.control.sampling.starts import FreshStart
from pilotage.rollouts.control import evaluate
from pilotage.rollouts.episodes import Evaluation
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.plan_changes import WatchedPlans
from pilotage.systems.robots.rti_dp.policy import acting_policy, base_folder, base_hash
from pilotage.systems.robots.rti_dp.task import DisturbedWorld
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.cost import estimate_cost as forecast_training
from pilotage.training.imitation.loading import load_action_policy
from pilotage.training.imitation.metrics import METRICS

WARM_UP = 20
SWITCH = 0.5
"""Distance between consecutive plans, root mean square of normalised units, that counts as a change of mind."""
OWN_METRICS = {
    "evaluation/plan_change": "Mean distance between consecutive plans where they speak of the same steps, root mean "
    "square of normalised units.",
    "evaluation/switches": f"Decisions per episode whose plan differs from the one before by more than {SWITCH}.",
    "evaluation/restarts": "Share of decisions that the restart rule made in full.",
    "evaluation/coverage/best": "Mean over episodes of the highest coverage of the goal.",
    "evaluation/coverage/last": "Mean over episodes of the last coverage of the goal.",
    "evaluation/jerk": "Mean size of the second difference of executed actions, root mean square over entries of "
    "normalised units.",
}


def act(config: WarmStartConfig, run: Any) -> Result:
    """Take the base, give it its initialiser, and try it out. A killed run begins again with the base it has."""
    if run.finished:
        return Result(run=str(run.directory), metrics=run.result)
    if config.env == "none":
        raise UsageError("a warm start is tried out by acting; give --env")
    for name, text in {**METRICS, **OWN_METRICS}.items():
        run.describe_metric(name, text)
    run.restore({})
    world = DisturbedWorld(config)
    folder = base_folder(config, run)
    run.log_event(None, "base", f"the weights of {folder} act, contents {base_hash(folder)[:16]}")
    policy = acting_policy(config, folder, run)
    policy.save(Path(run.directory) / "policy")
    began = time.perf_counter()
    metrics, happened = tried(world, policy, config)
    run.log_timing(1, {"evaluation": time.perf_counter() - began})
    for record in happened.records():
        run.log_rollout(1, record)
    if happened.frames:
        world.save_videos(happened, Path(run.directory) / "films")
    if config.timed_decisions:
        run.log_timing(1, {**timed(config, policy, config.timed_decisions), "threads": torch.get_num_threads()})
    run.log(1, metrics)
    run.finish(metrics)
    return Result(run=str(run.directory), metrics=metrics)


def tried(world: DisturbedWorld, policy: ActionPolicy, config: WarmStartConfig) -> tuple[dict[str, float], Evaluation]:
    """Every declared episode once: the metrics of `OWN_METRICS` and of the evaluation, and what happened."""
    plain, watched = policy.executor, WatchedPlans(policy.executor)
    policy.executor = watched
    try:
        happened = world.evaluate(policy, config.videos, keep=True)
    finally:
        policy.executor = plain
    steps, decisions = sum(e.steps for e in happened.episodes), max(1, policy.decisions)
    metrics = happened.metrics()
    metrics["evaluation/calls"] = sum(policy.calls.values()) / decisions
    metrics["evaluation/decisions"] = policy.decisions / steps
    metrics["evaluation/plan_change"] = float(np.mean(watched.changes)) if watched.changes else 0.0
    metrics["evaluation/switches"] = sum(c > SWITCH for c in watched.changes) / len(happened.episodes)
    metrics["evaluation/jerk"] = _jerk(policy, happened)
    if isinstance(policy.initialiser, RestartingStart):
        metrics["evaluation/restarts"] = policy.initialiser.restarts / decisions
    return metrics, happened


def _jerk(policy: ActionPolicy, happened: Evaluation) -> float:
    normaliser = policy.normalisers["action"]
    sizes = []
    for trajectory in happened.trajectories.values():
        actions = normaliser.normalise(torch.from_numpy(np.asarray(trajectory.actions, np.float32)))
        second = actions[2:] - 2 * actions[1:-1] + actions[:-2]
        sizes += second.square().mean(-1).sqrt().tolist()
    return float(np.mean(sizes)) if sizes else 0.0


def timed(config: WarmStartConfig, policy: ActionPolicy, decisions: int) -> dict[str, float]:
    """Latency of `decisions` decisions of one episode at a time, after 20 to warm up: see `MeteredPolicy.summary`.

    What an undisturbed world shows is decided on; its own time does not count."""
    if decisions < 1:
        raise UsageError(f"{decisions} decisions were to be timed; expected at least 1")
    metered = MeteredPolicy(policy, warm_up=WARM_UP)
    world = DisturbedWorld(replace(config, disturbance="", delay=0))
    seed = config.evaluation_seed
    while len(metered.seconds) < decisions:
        missing = (WARM_UP + decisions) * config.n_action_steps
        evaluate(world.make, metered, [seed], num_envs=1, window=policy.executor.frames, max_steps=missing)
        seed += 1
    return metered.summary()


def latencies(config: WarmStartConfig, directory: Path, decisions: int) -> Mapping[str, Any]:
    """Rows for `pilotage do rti-dp latency`: the run's policy, and the same weights denoised in full."""
    if config.env == "none" or not (directory / "policy").is_dir():
        raise UsageError(f"{directory} holds no finished run in a world")
    rows = []
    for name in ("as it acts", "in full, 1 action", "in full, 8 actions"):
        policy = load_action_policy(directory / "policy", config.device)
        settings = config
        if name != "as it acts":
            executed = 1 if name.endswith("1 action") else min(8, policy.executor.horizon - policy.executor.frames + 1)
            policy.executor.executed = executed
            policy.initialiser, settings = FreshStart(), replace(config, n_action_steps=executed)
        summary = timed(settings, policy, decisions)
        rows.append({"how": name, **summary, "ms_per_action": summary["p50_ms"] / settings.n_action_steps})
    return {"batch": 1, "threads": torch.get_num_threads(), "latency": rows}


def forecast(config: WarmStartConfig) -> Mapping[str, float]:
    """The training of a base that may be there already, and the episodes."""
    training = ImitationConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(ImitationConfig)})
    expected = dict(forecast_training(replace(training, n_action_steps=config.trained_n_action_steps)))
    if config.base is not None:
        expected |= {"steps": 0, "windows": 0}
    return expected
