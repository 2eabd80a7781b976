"""The configuration of every policy that learns from demonstrations: its parts, data and optimisation. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pilotage.core.configuration import INPUT_FILE
from pilotage.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share
from pilotage.core.references import PieceName
from pilotage.training.options import OptimiserOptions


@dataclass(frozen=True)
class Imitation:
    """What makes a method: one choice for each part."""

    slots: ClassVar[Mapping[str, str]] = {"sampler": "denoising_sampler"}
    """Slots of the options that are not called as theirs."""
    encoder: PieceName = "flatten"
    """From observations to a condition: flatten, mlp, recurrent, image, causal."""
    network: PieceName = "residual_mlp"
    """The network over chunks: residual_mlp, unet, transformer, gpt, framewise."""
    head: PieceName = "denoiser"
    """What it is trained for: denoiser, regression, mixture, bins, latent, contrastive, descent, energy, ebt,
    latent_plans, relay; module:function for your own."""
    noise_schedule: PieceName = "vp"
    """How a denoiser's chunks become noise: vp, karras, linear."""
    sampler: PieceName = "ddim:steps=4"
    """How a denoiser draws chunks, with its number of steps; may be changed after training."""
    executor: PieceName = "receding"
    """Which actions of a chunk are executed: receding, ensembling; held: a plan that a head which plans acts on."""
    n_obs_steps: PositiveInt = 2
    """Frames that the policy sees (To)."""
    chunk_size: PositiveInt = 16
    """Actions that it predicts (Tp)."""
    n_action_steps: PositiveInt = 8
    """Actions of a chunk that are executed before the next decision (Ta)."""
    goal_steps: NonNegativeInt = 0
    """Frames of the goal, drawn from the future of the same demonstration; 0: no goal."""
    goal_dropout: Share = 0.0
    """Probability with which a number of the goal is zeroed in training, so that one network also acts without."""
    goal_weight: float = 1.0
    """λ of classifier-free guidance towards the goal when acting; 1: the plain conditional policy."""
    goal_mask: str = "asked"
    """What a goal shows in training. asked: the entries of the state that the world's goals speak of, as when acting;
    all: the whole future state (BESO's released code). Without a world: all."""
    context: PieceName = "none"
    """The first actions of a denoiser's chunk, up to the present. none: predicted anew; noised and clean: the executed
    ones when acting, and in training demonstrated ones with noise (BESO's released code) or without."""


@dataclass(frozen=True)
class ImitationConfig(Imitation, OptimiserOptions):
    """What a method learns from, and for how long."""

    env: PieceName = "pillar"
    """Where the policy acts: pillar, ring, lattice, block-push, push-t, pick-place, an id registered with Gymnasium, or
    an environment of your own, my_env.py:MyEnv; none: nowhere, the data is all there is."""
    data: Annotated[str | None, INPUT_FILE] = None
    """Demonstrations: pusht, a file or folder (npz, zarr, robomimic, D4RL, Minari, LeRobot), a Minari id; without, the
    world's scripted expert demonstrates."""
    state_keys: str = ""
    """Names of the observations that make up the state, joined by +, in the data and in what the environment shows
    (observation+desired_goal of Gymnasium's goal environments); empty: the state of both."""
    action_key: str = ""
    """Names of the data's arrays that make up the action, joined by +; empty: the format's own (action, actions)."""
    skip_bad_episodes: bool = False
    """Leave out demonstrations that cannot be used (missing steps, numbers that are not finite) instead of refusing the
    data; an event names them."""
    cameras: str = ""
    """Names of the cameras that the policy sees (image/NAME in the data), joined by +; empty: none."""
    demonstrations: PositiveInt = 200
    """Demonstrations to learn from, at most where data is given."""
    data_seed: int = 0
    """Seed of the expert's demonstrations, shared by all arms and seeds of a comparison."""
    validation: Share = 0.05
    """Share of the demonstrations, whole trajectories, on which only the error is measured; 0: none."""
    state_scaling: str = "min_max"
    """How states are normalised: min_max to [-1, 1], mean_std, identity."""
    action_scaling: str = "min_max"
    """How actions are normalised: min_max to [-1, 1], mean_std, identity. Heads and samplers that clip to [-1, 1]
    refuse what lies outside."""
    steps: NonNegativeInt = 4000
    """Optimiser steps."""
    batch: PositiveInt = 256
    """Windows per step."""
    lr: PositiveFloat = 1e-3
    lr_schedule: str = "cosine"
    lr_warmup_steps: NonNegativeInt = 100
    beta1: Share = 0.95
    weight_decay: NonNegativeFloat = 1e-6
    grad_clip: NonNegativeFloat = 0.0
    ema_power: float = 0.75
    """Power of the running average of weights that is evaluated, 1 - (1 + k)^-power."""
    ema_decay: float = 0.0
    """Constant decay of that average instead; 0: the power decides."""
    evaluate_every: NonNegativeInt = 0
    """Steps between evaluations in the world; 0: only at the end."""
    evaluation_episodes: PositiveInt = 50
    """Episodes per evaluation, from starts that are the same for every arm and seed."""
    evaluation_seed: int = 100000
    """Seed of the first of these starts; the others follow."""
    evaluation_steps: NonNegativeInt = 0
    """Longest episode; 0: as long as the world allows."""
    num_envs: PositiveInt = 10
    """Episodes that run side by side; results do not depend on it."""
    log_every: PositiveInt = 50
    """Steps over which the loss is averaged for one line of metrics."""
    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints."""
    videos: NonNegativeInt = 2
    """Episodes of the last evaluation of which a video is kept."""
    device: str = "cpu"
    """Where it is trained: cpu, cuda, cuda:1."""
    precision: str = "float32"
    """float32; bfloat16: products in bfloat16, weights and optimiser in float32; auto: whichever the device is made
    for."""
    scaled_dims: tuple[int, ...] = ()
    """Entries of the action, such as an open or closed gripper, that are normalised to ±1/scale_dims_by, not to ±1."""
    scale_dims_by: PositiveFloat = 10.0
    """Factor by which those entries are made smaller; 1: not at all."""
    expert_env: PieceName = ""
    """Environment whose expert demonstrates, such as lattice-play for lattice-goals; empty: `env` itself."""

    @property
    def samples_per_step(self) -> int:
        """Return the number of windows per step."""
        return self.batch


RUN = "pilotage.training.imitation.trainer:train"
ACTIONS = {
    "estimate_cost": "pilotage.training.imitation.cost:estimate_cost",
    "play": "pilotage.training.imitation.play:play",
}
"""What every method of the family runs and offers."""
