"""Actions on a finished run: its level K' estimated on demonstrations, its decisions timed, its episodes filmed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.objectives.draws import normal
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.objectives.warm_start import ShiftErrors, contraction, shift_errors
from pilotage.policies.control.execution.latency import MeteredPolicy
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.sampling import InitialSample
from pilotage.policies.control.sampling.starts import FreshStart, ShiftedStart, shifted
from pilotage.rollouts.control import evaluate
from pilotage.runs import Run, check_device
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.env import DisturbedTask
from pilotage.systems.robots.rti_dp.policy import consecutive_windows, planned, replace_start, row_generators
from pilotage.training.imitation import play as imitation_play

WARM_UP = 20
"""Decisions before those that are timed."""
SHOWN = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
"""Levels in the table of an estimate."""


def short_list(level: int) -> list[int]:
    """Return every second level from `level` down, and 0: 3, 1, 0, as in the paper's configurations."""
    return [*range(level, 0, -2), 0]


def estimate(
    config: WarmStartConfig, run: Path, states: int = 200, delta: float = 0.1, seed: int = 0
) -> Mapping[str, Any]:
    """Estimate from which level K' guesses should be denoised, and whether errors then shrink.

    Args:
        config: the configuration of the run.
        run: folder of a finished run.
        states: situations of held-back demonstrations, at least 2.
        delta: standard deviation of the disturbance in normalised units, above 0.
        seed: of the noise.

    Returns:
        K', the list of levels it suggests, the contraction by that list, a curve over levels, and the same for every
        number of the action.

    Raises:
        UsageError: for a run without a policy, or a base whose levels are not integers.
    """
    if not (run / "policy").is_dir():
        raise UsageError(f"{run} holds no finished run")
    if states < 2 or delta <= 0:
        raise UsageError(f"--states {states} --delta {delta}: expected at least 2 states and a delta above 0")
    policy = ActionPolicy.from_pretrained(run / "policy", device=check_device(config.device))
    recipe = config_to_dict(config)
    with (
        tempfile.TemporaryDirectory() as folder,  # the finished run is only read
        Run.create(Path(folder) / "run", system="estimate", config=recipe, seed=0) as scratch,
    ):
        return _estimated(config, policy, scratch, states, delta, seed)


def _estimated(
    config: WarmStartConfig, policy: ActionPolicy, run: Any, states: int, delta: float, seed: int
) -> dict[str, Any]:
    head = policy.head
    if not isinstance(head, Denoiser) or not isinstance(head.path, VariancePreserving):
        raise UsageError("K' is a level of a variance-preserving path; this base denoises on another")
    path = head.path
    start = policy.initialiser
    sampler = start.sampler if isinstance(start, ShiftedStart) else "ddpm"
    now, then = consecutive_windows(config, policy, run, states)
    full = replace_start(policy, FreshStart())
    guess = shifted(planned(full, now.observations, seed), config.n_action_steps)
    errors = shift_errors(guess, planned(full, then.observations, seed), path)
    level = errors.first_level()
    listed = [k for k in SHOWN if k < path.steps]
    lists = [short_list(k) for k in listed]
    factors = contraction_by_list(policy, then.observations, guess, lists, sampler=sampler, delta=delta, seed=seed)
    curve = [
        {"level": k, "error": float(errors.error[k]), "noise": float(errors.noise[k]), "contraction": factor}
        for k, factor in zip(listed, factors, strict=True)
    ]
    chosen = None if level is None else short_list(level)
    found: dict[str, Any] = {
        "states": len(guess),
        "K'": "none: guesses are farther off than any noise" if level is None else level,
        "levels": "" if chosen is None else ",".join(map(str, chosen)),
    }
    if chosen is not None:
        (factor,) = contraction_by_list(
            policy, then.observations, guess, [chosen], sampler=sampler, delta=delta, seed=seed
        )
        found["contraction"] = factor
        found["advice"] = "errors of a guess shrink" if factor < 1 else "errors grow: take a higher level"
    return {**found, "curve": curve, "dims": _by_dim(errors, level)}


def _by_dim(errors: ShiftErrors, level: int | None) -> list[dict[str, Any]]:
    """Return K' and advice for each number of the action."""
    rows = []
    for dim in range(errors.by_entry.shape[1]):
        own = errors.first_level(dim)
        discrete = own is None or (level is not None and own > max(10, 3 * level))
        rows.append(
            {
                "dim": dim,
                "K'": "none" if own is None else own,
                "error_at_3": float(errors.by_entry[min(3, len(errors.noise) - 1), dim]),
                "advice": "discrete: scale it" if discrete else "",
            }
        )
    return rows


def contraction_by_list(
    policy: ActionPolicy,
    observations: Mapping[str, Tensor],
    guess: Tensor,
    lists: Sequence[Sequence[int]],
    *,
    sampler: str | None = None,
    delta: float = 0.1,
    seed: int = 0,
) -> list[float]:
    """Return, for each list of levels, the median over rows of ‖out − out'‖/‖δ‖ when a guess is disturbed by δ.

    Below one, errors of the guess shrink.

    Args:
        policy: the policy that denoises; it is not changed.
        observations: normalised windows by name.
        guess: normalised chunks, [window, step, number].
        lists: lists of levels, each falling to 0.
        sampler: update from level to level; None: the policy's own.
        delta: standard deviation of δ in normalised units.
        seed: of δ and of the samplers' noise.
    """
    disturbed = guess + delta * normal(guess.shape, row_generators(len(guess), seed + 1), like=guess)
    factors = []
    for levels in lists:
        plain, other = (
            planned(policy, observations, seed, InitialSample(x, levels, sampler)) for x in (guess, disturbed)
        )
        factors.append(float(contraction(plain, other, guess, disturbed).median()))
    return factors


# ---- time and videos -------------------------------------------------------------------------------------------------


def timed(config: WarmStartConfig, policy: ActionPolicy, decisions: int) -> dict[str, float]:
    """Time decisions, one episode at a time in an undisturbed environment, whose own time does not count.

    Args:
        config: names the environment.
        policy: the policy that decides.
        decisions: how many are timed, at least 1, after 20 to warm up.

    Returns:
        The numbers of `MeteredPolicy.summary`.
    """
    if decisions < 1:
        raise UsageError(f"{decisions} decisions were to be timed; expected at least 1")
    metered = MeteredPolicy(policy, warm_up=WARM_UP)
    world = DisturbedTask(replace(config, disturbance="", delay=0))
    seed = config.evaluation_seed
    while len(metered.seconds) < decisions:
        missing = (WARM_UP + decisions) * config.n_action_steps
        evaluate(world.make, metered, [seed], num_envs=1, window=policy.executor.frames, max_steps=missing)
        seed += 1
    return metered.summary()


def latency(config: WarmStartConfig, run: Path, decisions: int = 50) -> Mapping[str, Any]:
    """Time decisions of the run's policy and of the same weights denoised in full, one episode at a time.

    Args:
        config: the configuration of the run.
        run: folder of a finished run.
        decisions: how many are timed, after 20 to warm up.
    """
    if config.env == "none" or not (run / "policy").is_dir():
        raise UsageError(f"{run} holds no finished run in an environment")
    rows = []
    for name in ("as it acts", "in full, 1 action", "in full, 8 actions"):
        policy = ActionPolicy.from_pretrained(run / "policy", device=check_device(config.device))
        settings = config
        if name != "as it acts":
            executed = 1 if name.endswith("1 action") else min(8, policy.executor.horizon - policy.executor.frames + 1)
            policy.executor.executed = executed
            policy.initialiser, settings = FreshStart(), replace(config, n_action_steps=executed)
        summary = timed(settings, policy, decisions)
        rows.append({"how": name, **summary, "ms_per_action": summary["p50_ms"] / settings.n_action_steps})
    return {"batch": 1, "threads": torch.get_num_threads(), "latency": rows}


def play(config: WarmStartConfig, run: Path, episodes: int = 3, first_seed: int | None = None) -> imitation_play.Played:
    """Film episodes of a finished run's policy, disturbances included.

    Args:
        config: the configuration of the run.
        run: folder of a finished run.
        episodes: how many episodes.
        first_seed: seed of the first one; None: that of the evaluations.
    """
    return imitation_play.play(config, run, episodes, first_seed, make_task=DisturbedTask)
