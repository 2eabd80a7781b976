"""A trained diffusion policy that acts by warm starts, evaluated in its environment and timed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.systems.robots.rti_dp.actions import timed
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.env import DisturbedTask
from pilotage.systems.robots.rti_dp.metrics import OWN_METRICS, evaluate_policy
from pilotage.systems.robots.rti_dp.policy import acting_policy, base_folder, base_hash
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.cost import estimate_cost as imitation_cost
from pilotage.training.imitation.metrics import METRICS


def train(config: WarmStartConfig, run: Any) -> Result:
    """Take or train the base, give it its initialiser, and evaluate it.

    A killed run begins again with the base it has.
    """
    if run.finished:
        return Result(run=str(run.directory), metrics=run.result)
    if config.env == "none":
        raise UsageError("warm starts are evaluated by acting; give --env")
    for name, text in {**METRICS, **OWN_METRICS}.items():
        run.describe_metric(name, text)
    run.restore({})
    world = DisturbedTask(config)
    folder = base_folder(config, run)
    run.log_event(None, "base", f"the weights of {folder} act, contents {base_hash(folder)[:16]}")
    policy = acting_policy(config, folder, run)
    policy.save_pretrained(Path(run.directory) / "policy")
    began = time.perf_counter()
    metrics, happened = evaluate_policy(world, policy, config)
    run.log_timing(1, {"evaluation": time.perf_counter() - began})
    for record in happened.records():
        run.log_rollout(1, record)
    if happened.frames:
        world.save_videos(happened, Path(run.directory) / "videos")
    if config.timed_decisions:
        run.log_timing(1, {**timed(config, policy, config.timed_decisions), "threads": torch.get_num_threads()})
    run.log(1, metrics)
    run.finish(metrics)
    return Result(run=str(run.directory), metrics=metrics)


def estimate_cost(config: WarmStartConfig) -> Mapping[str, float]:
    """Return what the training of the base, which may be there already, and the episodes take."""
    training = ImitationConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(ImitationConfig)})
    expected = dict(imitation_cost(replace(training, n_action_steps=config.trained_n_action_steps)))
    if config.base is not None:
        expected |= {"steps": 0, "windows": 0}
    return expected
