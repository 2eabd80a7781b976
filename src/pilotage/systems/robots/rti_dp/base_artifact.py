"""Policies learned from demonstrations as artifacts: trained once per settings and seed, shared by all arms."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotage.core.configuration import config_from_dict, config_to_dict
from pilotage.runs import Run
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.task import expert_sources
from pilotage.training.imitation.trainer import train

UNTRIED: Mapping[str, Any] = {
    "evaluate_every": 0,
    "evaluation_episodes": 1,
    "evaluation_seed": 0,
    "evaluation_steps": 1,
    "num_envs": 1,
    "videos": 0,
    "log_every": 500,
    "checkpoint_every": 2000,
}
"""Fields of a training of which the policy does not depend, so that they do not make it another one."""
SOURCES = (
    "pilotage.training.imitation.trainer",
    "pilotage.training.imitation.builder",
    "pilotage.data.windows",
    "pilotage.data.normalisers",
    "pilotage.objectives.noise_paths",
    "pilotage.objectives.denoising",
    "pilotage.policies.control.encoders",
    "pilotage.policies.control.heads.denoiser",
    "pilotage.networks.residual_mlp",
    "pilotage.networks.ema",
)


def imitated_policy(config: ImitationConfig, seed: int, run: Any) -> Path:
    """Return the folder of the policy that `config` trains with `seed`; how it is tried out plays no part.

    An artifact of `run`, with the training's metrics.jsonl beside it.
    """
    plain = ImitationConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(ImitationConfig)})
    settings = {"seed": seed, "config": config_to_dict(dataclasses.replace(plain, **UNTRIED))}
    inputs = [Path(config.data)] if config.data and Path(config.data).exists() else []
    code = "".join(inspect.getsource(importlib.import_module(name)) for name in SOURCES)
    if config.data is None:
        code += expert_sources(config.env)
    folder: Path = run.artifact(
        make_policy, settings, inputs, name=f"policy-{config.env.replace(':', '-').replace('/', '-')}", code=code
    )
    return folder / "policy"


def make_policy(directory: Path, settings: Mapping[str, Any], *inputs: Path) -> None:
    """The maker of that artifact."""
    del inputs  # the configuration names the data
    config: ImitationConfig = config_from_dict(ImitationConfig(), settings["config"])
    with Run.create(directory / "run", system="imitation", config=settings["config"], seed=settings["seed"]) as run:
        train(config, run)
    for kept in ("policy", "metrics.jsonl"):
        (directory / "run" / kept).rename(directory / kept)
    shutil.rmtree(directory / "run")  # what is left holds clock readings and places on this machine
