"""The configuration of a trained diffusion policy that acts by warm starts. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.core.system import Result
from pilotage.training.imitation.config import ImitationConfig


@dataclass(frozen=True)
class WarmStartConfig(ImitationConfig):
    """How a trained policy decides"""

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
    """How the levels are walked: ddpm: one-level steps with their noise, even where levels are left out, as the paper's
    code does; ddim: from level to listed level, without noise; own: as --sampler says."""
    sampler: str = "ddpm:steps=100"
    """How the first decision of an episode, and every one of --start noise, draws its chunk."""
    n_action_steps: int = 1
    """Actions of a chunk that are executed before the next decision (Ta)."""
    trained_n_action_steps: int = 8
    """Ta for which the base's windows are padded; the base does not depend on --n-action-steps."""
    gripper: Literal["scale", "clip", "plain"] = "scale"
    """What is done about entries of the action with two values: scale: the base is trained with them shrunk; clip: a
    guess gets their sign; plain: nothing."""
    two_valued: tuple[int, ...] = ()
    """These entries; none: those that the world is known to have (pick-place: 3)."""
    guess_size: float = 1.0
    """With --gripper clip, what a guess gets beside the sign, normalised units (1 / the paper's factor)."""
    restart: Literal["never", "jump", "residual", "either"] = "never"
    """When a decision is made in full after all: when the state jumps, when the last guess was far off, either."""
    restart_quantile: float = 0.99
    """Changes of the state, and corrections of guesses, beyond this quantile of those in the demonstrations restart."""
    disturbance: str = ""
    """What happens in every episode: slip or nudge (pick-place), or displaced:at=STEP,size=DISTANCE; empty: nothing."""
    delay: int = 0
    """Steps by which every action arrives late: the latency of a slow sampler, charged in the simulation."""
    timed_decisions: int = 50
    """Decisions that are timed one by one, after 20 to warm up; they go to timing.jsonl. 0: none."""


def run(config: WarmStartConfig, run: Any) -> Result:
    """Train or take the base, and try out how it acts; the trainer is imported only now."""
    from pilotage.systems.robots.rti_dp.train import act

    return act(config, run)


def forecast(config: WarmStartConfig) -> Mapping[str, float]:
    """What a run will take, the base's training included."""
    from pilotage.systems.robots.rti_dp.train import forecast as timed

    return timed(config)


def play(config: WarmStartConfig, run: Path, episodes: int = 3, first_seed: int | None = None) -> Any:
    """Episodes of a finished run's policy, filmed, disturbances included."""
    from pilotage.systems.robots.rti_dp.task import DisturbedWorld
    from pilotage.training.imitation.play import play as play_episodes

    return play_episodes(config, run, episodes, first_seed, make_world=DisturbedWorld)


def estimate(config: WarmStartConfig, run: Path, states: int = 200, delta: float = 0.1, seed: int = 0) -> Any:
    """From which level K' guesses should be denoised, estimated on demonstrations, and whether errors then shrink.

    states: situations of held-back demonstrations. delta: standard deviation of the disturbance, normalised units.
    seed: of the noise."""
    from pilotage.systems.robots.rti_dp.estimate import estimate as estimated

    return estimated(config, run, states, delta, seed)


def latency(config: WarmStartConfig, run: Path, decisions: int = 50) -> Any:
    """Milliseconds and network passes of a decision, one episode at a time: this policy beside full denoising.

    decisions: how many are timed, after 20 to warm up."""
    from pilotage.systems.robots.rti_dp.train import latencies

    return latencies(config, run, decisions)


ACTIONS: Mapping[str, Callable[..., Any]] = {
    "estimate_cost": forecast,
    "play": play,
    "estimate": estimate,
    "latency": latency,
}
