"""The configuration of planners of varied drives that keep a parametric rule. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage.core.system import Result


@dataclass(frozen=True)
class DrivingConfig:
    """Data, learner, refinement, and how it is judged."""

    # ---- data
    scenes: int = 500
    """Training scenes of the world Lanes, each with the log of one driver."""
    test_scenes: int = 60
    """Scenes on which plans are judged."""
    draws: int = 8
    """Rules drawn per training scene and mode, each with one plan from trajectory optimisation (the paper: 64)."""
    data: str = "augmented"
    """What is learnt from: augmented (plans from trajectory optimisation), logs (what the one driver did)."""
    data_seed: int = 0
    """Seed of scenes, drivers and rules, shared by all arms and seeds of a comparison; the test scenes' follows from
    it."""
    plan_steps: int = 300
    """Adam steps of trajectory optimisation (the paper: 2000)."""
    plan_rate: float = 0.03
    """Their rate, in units of the controls' limits (the paper: .005)."""
    tau: float = 100.0
    """Temperature τ of the smooth robustness that gradients go through; metrics are exact."""

    # ---- learner
    learner: str = "denoiser"
    """What is trained: denoiser (DDPM), vae."""
    predicts: str = "noise"
    """What the denoiser is asked for: noise, clean."""
    levels: int = 50
    """Noise levels (the paper: 100)."""
    beta_scale: float = 0.2
    """Factor of the cosine schedule's β."""
    width: int = 256
    """Width of the two hidden layers of every network."""
    steps: int = 3000
    """Optimiser steps of the learner."""
    batch: int = 1024
    """Plans per step."""
    lr: float = 3e-3
    """Learning rate of Adam, with cosine decay (the paper: 3e-4, for far longer)."""
    masked: bool = True
    """Whether plans that break their rule are left out of the loss."""
    kl_weight: float = 0.01
    """vae: weight of the divergence from the prior, per latent dimension, against the squared error per control."""
    rule_weight: float = 0.0
    """vae: weight of ReLU(margin − ρ) of plans drawn from the prior (TrafficSim: 1)."""
    collision_weight: float = 0.0
    """vae: weight of how deep drawn plans run into others, in m (TrafficSim: 0.1)."""

    # ---- refinement
    refine_steps: int = 1000
    """Optimiser steps of RefineNet; 0: none is trained."""
    refine_batch: int = 32
    """Shards per step."""
    refine_lr: float = 1e-3
    """Learning rate of its Adam, with cosine decay."""
    refine_loss: str = "diversity"
    """diversity: minus the expected size of a DPP sample; rule: ReLU(margin − ρ) alone (L_STL)."""
    refine_rule_weight: float = 0.0
    """Weight of ReLU(margin − ρ) beside the diversity."""
    change_weight: float = 0.0
    """λ: weight of the mean squared change."""
    shard: int = 16
    """Siblings that share a summary and a diversity."""
    shards: int = 4
    """Shards per scene and mode that RefineNet trains on."""
    shared: bool = True
    """Whether siblings share a summary."""
    candidates: int = 5
    """Last iterates of the reverse process among which the one of highest robustness is taken; 1: the final one."""
    margin: float = 0.01
    """Robustness that trainings ask for, in units of the signals' ranges."""

    # ---- guidance
    guidance_levels: int = 10
    """Last levels at which plans are guided."""
    guidance_rate: float = 0.01
    """Adam's rate of guidance, in units of the controls' limits."""
    closed_guidance_rate: float = 0.04
    """The same in closed loop."""
    passes_after_guidance: int = 3
    """Further passes of RefineNet after guidance."""
    ctg_rounds: int = 3
    """CTG: Adam steps at every level."""
    ctg_rate: float = 0.01
    """CTG: their rate."""
    rejection_factor: int = 8
    """rejection: how many times as many plans are drawn as are kept."""

    # ---- judgement
    row: str = "guided"
    """How the system plans, among `rows`: its numbers lead."""
    rows: tuple[str, ...] = ("constant", "random", "trajopt", "sampled", "candidates", "refined", "guided", "released")
    """What is judged in open loop: constant (velocity), random (controls), trajopt (the oracle), sampled (the learner
    alone), candidates (best of the last iterates), refined, guided, released (with the clip of the released code), ctg,
    rejection (best of many from the learner)."""
    closed_rows: tuple[str, ...] = ("constant", "sampled", "guided")
    """What is judged in closed loop."""
    samples: int = 32
    """Plans per scene and mode."""
    closed_scenes: int = 20
    """Drives in closed loop, 20 s each."""
    closed_samples: int = 16
    """Plans per decision."""
    closed_steps: int = 40
    """Half-seconds of a drive."""
    replan: int = 2
    """Half-seconds between decisions."""
    closed_seed: int = 5000
    """Seed of the first drive; the others follow."""
    log_every: int = 50
    """Steps over which losses are averaged for one line of metrics."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""


def train(config: DrivingConfig, run: Any) -> Result:
    """Make the data, train, refine and judge; the trainer is imported only now."""
    from pilotage.systems.robots.stl_diffusion.train import train as train_driving

    return train_driving(config, run)


def play(config: DrivingConfig, run: Path, episodes: int = 2, first_seed: int | None = None) -> Any:
    """Plans of a finished run over the map of test scenes: see `pilotage.systems.robots.stl_diffusion.play`."""
    from pilotage.systems.robots.stl_diffusion.play import play as play_plans

    return play_plans(config, run, episodes, first_seed)


ACTIONS: Mapping[str, Callable[..., Any]] = {"play": play}
