"""Configuration of a trained diffusion policy that acts by warm starts. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilotage.core.references import PieceName
from pilotage.training.imitation.config import ImitationConfig


@dataclass(frozen=True)
class WarmStartConfig(ImitationConfig):
    """Configuration of a base policy and of how it decides by warm starts."""

    base: str | None = None
    """A finished run, or a folder with a saved policy, whose weights act; none: a base is trained as the options of a
    training say, once per seed, and kept as an artifact."""
    start: Literal["shifted", "renoised", "noise"] = "shifted"
    """Where a decision begins: shifted: at the last chunk, shifted, with no noise added (RTI-DP); renoised: the same,
    noised to the first level (SDEdit); noise: in full, as the base was meant."""
    levels: tuple[int | float, ...] = (3, 1, 0)
    """Levels that are denoised from such a start, falling to 0 (the first is K'); '': none, the old plan goes on. For a
    flow, times that rise to 1."""
    update: Literal["ddpm", "ddim", "own"] = "ddpm"
    """Update from level to level. ddpm: one-level steps with their noise, even where levels are left out, as in the
    paper's code; ddim: from level to listed level, without noise; own: that of --sampler."""
    sampler: PieceName = "ddpm:steps=100"
    """Sampler of the first decision of an episode, and of every one with --start noise."""
    n_action_steps: int = 1
    """Actions of a chunk that are executed before the next decision (Ta)."""
    trained_n_action_steps: int = 8
    """Executed actions for which the base's windows are padded; the base does not depend on --n-action-steps."""
    gripper: Literal["scale", "clip", "plain"] = "scale"
    """Treatment of the numbers of an action that have two values. scale: the base is trained with them scaled down;
    clip: a guess gets their sign; plain: none."""
    binary_dims: tuple[int, ...] = ()
    """Indices of these numbers, from 0; empty: those of the environment (pick-place: 3)."""
    guess_size: float = 1.0
    """Size of those numbers in a guess with --gripper clip, in normalised units (1 / the paper's factor)."""
    restart: Literal["never", "jump", "residual", "either"] = "never"
    """When a decision is made in full: jump: the state jumped; residual: the last guess was far off; either; never."""
    restart_quantile: float = 0.99
    """Quantile, above 0 and below 1, of the demonstrations' changes of state and corrections of guesses beyond which a
    decision is made in full."""
    disturbance: str = ""
    """Disturbance of every episode: slip or nudge (pick-place), or displaced:at=STEP,size=DISTANCE; empty: none."""
    delay: int = 0
    """Steps by which every action arrives late: the latency of a slow sampler, charged in the simulation."""
    timed_decisions: int = 50
    """Decisions that are timed one by one, after 20 to warm up; they go to timing.jsonl. 0: none."""
