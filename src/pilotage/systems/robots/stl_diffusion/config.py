"""Configuration of planners of varied drives that keep a parametric rule. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from pilotage.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class DrivingConfig:
    """Configuration of data, learner, refinement, guidance and evaluation."""

    # ---- data
    scenes: PositiveInt = 500
    """Training scenes of the highway, each with the log of one driver."""
    test_scenes: PositiveInt = 60
    """Scenes on which plans are evaluated."""
    draws: PositiveInt = 8
    """Rules drawn per training scene and mode, each with one plan from trajectory optimisation (the paper: 64)."""
    data: str = "augmented"
    """Training data: augmented (plans from trajectory optimisation), logs (what the one driver did)."""
    data_seed: NonNegativeInt = 0
    """Seed of scenes, drivers and rules, shared by all arms and seeds of a comparison; the test scenes' follows from
    it."""
    plan_steps: NonNegativeInt = 300
    """Adam steps of trajectory optimisation (the paper: 2000)."""
    plan_lr: PositiveFloat = 0.03
    """Learning rate of trajectory optimisation, in units of the controls' limits (the paper: .005)."""
    tau: PositiveFloat = 100.0
    """Temperature τ of the smooth robustness that gradients go through; metrics are exact."""

    # ---- learner
    learner: str = "denoiser"
    """Generative model that is trained: denoiser (DDPM), vae."""
    predicts: str = "noise"
    """Prediction target of the denoiser: noise, clean."""
    num_noise_levels: PositiveInt = 50
    """Noise levels (the paper: 100)."""
    beta_scale: PositiveFloat = 0.2
    """Factor of the cosine schedule's β."""
    width: PositiveInt = 256
    """Width of the two hidden layers of every network."""
    steps: NonNegativeInt = 3000
    """Optimiser steps of the learner."""
    batch: PositiveInt = 1024
    """Plans per step."""
    lr: PositiveFloat = 3e-3
    """Learning rate of Adam, with cosine decay (the paper: 3e-4, for far longer)."""
    masked: bool = True
    """Whether plans that break their rule are left out of the loss."""
    kl_weight: NonNegativeFloat = 0.01
    """vae: weight of the divergence from the prior, per latent dimension, against the squared error per control."""
    rule_weight: NonNegativeFloat = 0.0
    """vae: weight of ReLU(margin − ρ) of plans drawn from the prior (TrafficSim: 1)."""
    collision_weight: NonNegativeFloat = 0.0
    """vae: weight of how deep drawn plans run into others, in m (TrafficSim: 0.1)."""

    # ---- refinement
    refine_steps: NonNegativeInt = 1000
    """Optimiser steps of RefineNet; 0: none is trained."""
    refine_batch: PositiveInt = 32
    """Shards per step."""
    refine_lr: PositiveFloat = 1e-3
    """Learning rate of RefineNet's Adam, with cosine decay."""
    refine_loss: str = "diversity"
    """diversity: minus the expected size of a DPP sample; rule: ReLU(margin − ρ) alone (L_STL)."""
    refine_rule_weight: NonNegativeFloat = 0.0
    """Weight of ReLU(margin − ρ) beside the diversity."""
    change_weight: NonNegativeFloat = 0.0
    """λ: weight of the mean squared change."""
    shard: PositiveInt = 16
    """Siblings that share a summary and a diversity."""
    shards: PositiveInt = 4
    """Shards per scene and mode that RefineNet trains on."""
    shared: bool = True
    """Whether siblings share a summary."""
    candidates: PositiveInt = 5
    """Last iterates of the reverse process among which the one of highest robustness is taken; 1: the final one."""
    margin: float = 0.01
    """Robustness that trainings ask for, in units of the signals' ranges."""

    # ---- guidance
    guidance_levels: NonNegativeInt = 10
    """Last levels at which plans are guided."""
    guidance_lr: PositiveFloat = 0.01
    """Adam's rate of guidance, in units of the controls' limits."""
    closed_guidance_lr: PositiveFloat = 0.04
    """Adam's rate of guidance in closed loop."""
    passes_after_guidance: NonNegativeInt = 3
    """Further passes of RefineNet after guidance."""
    ctg_rounds: NonNegativeInt = 3
    """CTG: Adam steps at every level."""
    ctg_lr: PositiveFloat = 0.01
    """CTG: learning rate of these steps, in units of the controls' limits."""
    rejection_factor: PositiveInt = 8
    """rejection: how many times as many plans are drawn as are kept."""

    # ---- evaluation
    planner: str = "guided"
    """Planner of the system, among `planners`: its numbers are those of the run."""
    planners: tuple[str, ...] = (
        "constant",
        "random",
        "trajopt",
        "sampled",
        "candidates",
        "refined",
        "guided",
        "released",
    )
    """Planners that are evaluated in open loop: constant (velocity), random (controls), trajopt (the oracle), sampled
    (the learner alone), candidates (best of the last iterates), refined, guided, released (with the clip of the
    released code), ctg, rejection (best of many from the learner)."""
    closed_loop_planners: tuple[str, ...] = ("constant", "sampled", "guided")
    """Planners that are evaluated in closed loop."""
    samples: PositiveInt = 32
    """Plans per scene and mode."""
    closed_scenes: NonNegativeInt = 20
    """Drives in closed loop, 20 s each."""
    closed_samples: PositiveInt = 16
    """Plans per decision."""
    closed_steps: PositiveInt = 40
    """Half-seconds of a drive."""
    replan: PositiveInt = 2
    """Half-seconds between decisions."""
    closed_seed: NonNegativeInt = 5000
    """Seed of the first drive; the others follow."""
    log_every: PositiveInt = 50
    """Steps over which losses are averaged for one line of metrics."""
    checkpoint_every: PositiveInt = 250
    """Steps between checkpoints."""
