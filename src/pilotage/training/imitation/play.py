"""A trained policy in its world, to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import GroundPlan
from pilotage.policies.control.policy import ActionPolicy
from pilotage.rollouts.episodes import Evaluation
from pilotage.runs import check_device
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.task import ControlTask


@dataclass(frozen=True)
class Played:
    """What there is to see. `evaluation.frames[row]` are the frames of an episode."""

    evaluation: Evaluation
    plan: GroundPlan | None
    """The map, where the world has one."""
    paths: Sequence[np.ndarray]
    """Where the acting body was on it, [steps + 1, 2] per episode; empty without a map."""


def play(
    config: ImitationConfig,
    run: Path,
    episodes: int = 3,
    first_seed: int | None = None,
    make_task: Callable[[Any], ControlTask] = ControlTask,
) -> Played:
    """Film `episodes` episodes of the policy in `run`, from the seeds `first_seed` on (by default those of its
    evaluations), in the world that `make_task` makes of the configuration. Raises UsageError for a run without a
    policy, and one that was trained on data alone.
    """
    if config.env == "none":
        raise UsageError(f"{run} was trained on data alone; there is no world to play in")
    if not (run / "policy").is_dir():
        raise UsageError(f"{run} holds no trained policy yet; let the run finish")
    if episodes < 1:
        raise UsageError(f"episodes must be 1 or more, {episodes} was given")
    seed = config.evaluation_seed if first_seed is None else first_seed
    world = make_task(replace(config, evaluation_episodes=episodes, evaluation_seed=seed))
    policy = ActionPolicy.from_pretrained(run / "policy", device=check_device(config.device))
    happened = world.evaluate(policy, videos=episodes, keep=True)
    at = world.place_entries
    paths = (
        [] if at is None else [happened.trajectories[row].observations["state"][:, list(at)] for row in range(episodes)]
    )
    return Played(happened, world.map(), paths)
