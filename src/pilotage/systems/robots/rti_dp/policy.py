"""A policy that decides by warm starts, made from a trained base and a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.data.normalisers import Normaliser
from pilotage.data.windows import WindowBatch, Windows
from pilotage.objectives.levels import called_levels
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.execution.discrete_entries import BinaryDimsHorizon, SignedGuess
from pilotage.policies.control.execution.executors import RecedingHorizon
from pilotage.policies.control.heads.denoiser import Denoiser, sampler_arguments
from pilotage.policies.control.policy import ActionPolicy, evaluating, expect_within_limit
from pilotage.policies.control.sampling.restarts import RestartingStart
from pilotage.policies.control.sampling.samplers import limit_of, sampler_for
from pilotage.policies.control.sampling.sampling import InitialSample
from pilotage.policies.control.sampling.starts import FreshStart, Initialiser, ShiftedStart, shifted
from pilotage.policies.control.saving import is_action_policy
from pilotage.policies.pickled import refuse_pickled
from pilotage.runs import Run, check_device
from pilotage.runs.artifacts import contents_hash
from pilotage.systems.robots.rti_dp.base_artifact import imitated_policy
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.training.imitation.trainer import demonstrations_of

BINARY_DIMS = {"pick-place": (3,)}
"""Indices of the numbers of an action that have two values, by environment."""
CALIBRATION_WINDOWS = 400
"""Pairs of windows, at most, on which a restart rule's limits are set."""


def binary_dims_of(config: WarmStartConfig) -> tuple[int, ...]:
    """Return the indices of the numbers of an action that have two values."""
    return config.binary_dims or BINARY_DIMS.get(config.env, ())


def base_folder(config: WarmStartConfig, run: Any) -> Path:
    """Return the folder of the base's policy: the one that the user names, or an artifact.

    Raises UsageError for a folder without a policy, and for a run in another environment.
    """
    if config.base is None:
        entries = binary_dims_of(config) if config.gripper == "scale" else config.scaled_dims
        training = replace(
            config, n_action_steps=config.trained_n_action_steps, scaled_dims=entries, sampler="ddim:steps=4"
        )
        return imitated_policy(training, run.seed, run)
    given = Path(config.base).expanduser()
    refuse_pickled(given)
    folder = given / "policy" if (given / "policy").is_dir() else given
    if (given / "run.json").is_file():
        world = Run.read_recipe(given).config.get("env")
        if world is not None and world != config.env:
            raise UsageError(f"--base {given} was trained in {world}, and --env is {config.env}")
    if not is_action_policy(folder):
        raise UsageError(f"--base {given}: expected a finished run of a policy, or the folder of a saved one")
    return folder


def base_hash(folder: Path) -> str:
    """Return the SHA-256 of the base's files, by which one sees that all arms act with the same weights."""
    return contents_hash(folder)


def acting_policy(config: WarmStartConfig, folder: Path, run: Any) -> ActionPolicy:
    """Return the base in `folder`, deciding as the configuration says.

    Raises UsageError where that cannot work.
    """
    base = ActionPolicy.from_pretrained(folder, device=check_device(config.device))
    if not isinstance(base.head, Denoiser):
        raise UsageError(f"a {type(base.head).__name__} head does not denoise; warm starts need a base that does")
    head = base.head
    for name, value in sampler_arguments(config.sampler).items():
        setattr(head, name, value)
    sampler_for(head.sampler, head.path, head.options)
    actions = base.normalisers["action"]
    expect_within_limit(head.action_limit(), head.limit_reason(), actions)
    if config.start != "noise" and config.update != "own" and isinstance(head.path, VariancePreserving):
        limit = limit_of(sampler_for(config.update, head.path))
        expect_within_limit(limit, f"--update {config.update} (--update own takes that of --sampler)", actions)
    frames, horizon = base.executor.frames, base.executor.horizon
    entries, value = _discrete(config, base)
    if entries:
        executor: RecedingHorizon = BinaryDimsHorizon(frames, horizon, config.n_action_steps, entries, value)
    else:
        executor = RecedingHorizon(frames, horizon, config.n_action_steps)
    parts = (base.encoder, head, executor, base.normalisers)
    policy = ActionPolicy(*parts, goal_weight=base.goal_weight, seed=run.seed_for("evaluation"))
    return replace_start(policy, _initialiser(config, policy, entries, run))


def replace_start(policy: ActionPolicy, initialiser: Initialiser) -> ActionPolicy:
    """Return the same policy with another initialiser."""
    parts = (policy.encoder, policy.head, policy.executor, policy.normalisers)
    return ActionPolicy(*parts, initialiser=initialiser, goal_weight=policy.goal_weight, seed=policy.seed)


def _discrete(config: WarmStartConfig, base: ActionPolicy) -> tuple[Sequence[int], float]:
    """Return the binary dimensions and the size of their values in normalised units.

    Raises UsageError for what does not fit the base.
    """
    entries = binary_dims_of(config)
    if not entries:
        return (), 1.0
    normaliser = base.normalisers["action"]
    assert isinstance(normaliser, Normaliser)
    wanted = config.scale_dims_by if config.gripper == "scale" else 1.0
    for entry in entries:
        if not 0 <= entry < normaliser.offset.numel():
            raise UsageError(f"--binary-dims {entry}: an action has {normaliser.offset.numel()} numbers; count from 0")
        found = normaliser.shrinkage(entry)
        if not np.isclose(found, wanted):
            twice = "; clipping what was scaled would scale it twice" if config.gripper == "clip" else ""
            raise UsageError(
                f"the base was trained with number {entry} of the action scaled by {found:g}, and --gripper "
                f"{config.gripper} needs {wanted:g}{twice}. Give the --gripper and --scale-dims-by it was trained with"
            )
    return entries, 1.0 / wanted


def _initialiser(config: WarmStartConfig, policy: ActionPolicy, entries: Sequence[int], run: Any) -> Initialiser:
    if config.start == "noise":
        return FreshStart()
    head, executor = policy.head, policy.executor
    assert isinstance(head, Denoiser)
    if executor.frames - 1 + 2 * config.n_action_steps > executor.horizon:
        raise UsageError(
            f"chunks of {executor.horizon} actions, of which the first {executor.frames - 1} are past and "
            f"{config.n_action_steps} are executed, leave nothing to start the next from; use a base with longer chunks"
        )
    sampler = None if config.update == "own" or not isinstance(head.path, VariancePreserving) else config.update
    if isinstance(head.path, VariancePreserving):
        levels: Sequence[int | float] = called_levels([int(level) for level in config.levels], head.path.steps)
        if levels and levels[-1] != 0:
            raise UsageError(f"--levels {','.join(map(str, config.levels))}: the last level must be 0")
    else:
        levels = list(config.levels)
    settings: dict[str, Any] = {
        "executed": config.n_action_steps,
        "renoise": head.path if config.start == "renoised" else None,
        "alter": SignedGuess(entries, config.guess_size) if entries and config.gripper == "clip" else None,
        "sampler": sampler,
    }
    plain = ShiftedStart(levels, **settings)
    if config.restart == "never":
        return plain
    if config.start != "shifted":
        raise UsageError(f"--restart {config.restart} needs guesses without added noise; use --start shifted")
    jump, residual = restart_limits(config, replace_start(policy, plain), run)
    return RestartingStart(
        levels,
        **settings,
        jump=jump if config.restart in ("jump", "either") else None,
        residual=residual if config.restart in ("residual", "either") else None,
    )


def restart_limits(config: WarmStartConfig, policy: ActionPolicy, run: Any) -> tuple[float, float]:
    """Return the limits (jump, residual) of a restart at the configured quantile over the demonstrations.

    jump: change of the state from one decision to the next; residual: correction of a guess by denoising; both root
    mean square in normalised units.
    """
    if not 0 < config.restart_quantile < 1:
        raise UsageError(f"--restart-quantile {config.restart_quantile}: expected a share above 0 and below 1")
    now, then = consecutive_windows(config, policy, run, CALIBRATION_WINDOWS, held_back=False)
    change = (then.observations["state"][:, -1] - now.observations["state"][:, -1]).double()
    initialiser = policy.initialiser
    assert isinstance(initialiser, ShiftedStart)
    guess = shifted(planned(policy, now.observations, 0), config.n_action_steps)
    if initialiser.alter is not None:
        guess = initialiser.alter(guess)
    start = InitialSample(guess, initialiser.levels, initialiser.sampler)
    moved = (planned(policy, then.observations, 1, start) - guess).double()
    limits = [torch.quantile(d.flatten(1).square().mean(1).sqrt(), config.restart_quantile) for d in (change, moved)]
    return float(limits[0]), float(limits[1])


def consecutive_windows(
    config: WarmStartConfig, policy: ActionPolicy, run: Any, count: int, *, held_back: bool = True
) -> tuple[WindowBatch, WindowBatch]:
    """Return normalised windows of the demonstrations, and those `executed` steps later in the same episodes.

    Args:
        config: names the demonstrations.
        policy: its normalisers and executor shape the windows.
        run: keeps the demonstrations.
        count: the largest number of pairs.
        held_back: only demonstrations that the base was not trained on, where there are some.

    Raises:
        UsageError: when no two windows follow one another.
    """
    demonstrations = demonstrations_of(config, run)
    if held_back and config.validation and demonstrations.total_episodes > 1:
        generator = torch.Generator().manual_seed(config.data_seed)
        _, demonstrations = demonstrations.split(config.validation, generator)
    normalisers = {name: n for name, n in policy.normalisers.items() if isinstance(n, Normaliser)}
    windows = Windows(
        demonstrations,
        n_obs_steps=policy.executor.frames,
        chunk_size=policy.executor.horizon,
        n_action_steps=policy.executor.executed,
        normalisers=normalisers,
        device=config.device,
    )
    every = windows.take(np.arange(len(windows)))
    step = policy.executor.executed
    follows = (every.episode[step:] == every.episode[:-step]).cpu().numpy()
    pairs = np.flatnonzero(follows)
    if not len(pairs):
        raise UsageError("no two windows of the demonstrations follow one another; give longer ones")
    chosen = pairs[np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(np.int64)]
    return windows.take(chosen), windows.take(chosen + step)


def row_generators(count: int, seed: int) -> list[torch.Generator]:
    """Return one generator per row, the same for equal seeds."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + row) for row in range(count)]


@torch.no_grad()
def planned(
    policy: ActionPolicy, observations: Mapping[str, Tensor], seed: int, start: InitialSample | None = None
) -> Tensor:
    """Return the normalised chunks [window, step, number] that a policy plans in recorded situations.

    Args:
        policy: the policy; it is not changed.
        observations: normalised windows by name, "state" [window, frame, number] and others.
        seed: the same seed gives every row the same noise.
        start: where denoising begins; None: in full, from noise.
    """
    with evaluating(policy.encoder, policy.head):
        condition = policy.encoder(observations)
        return policy.head.sample(condition, row_generators(len(condition.vector), seed), start)
