"""From which level a base's guesses should be denoised: K', estimated on demonstrations."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.objectives.warm_start import ShiftErrors, shift_errors
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.starts import FreshStart, ShiftedStart, shifted
from pilotage.runs import Run
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.policy import consecutive_windows, replace_start
from pilotage.systems.robots.rti_dp.probe import contraction_by_list, planned
from pilotage.training.imitation.loading import load_action_policy

SHOWN = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
"""Levels of which a table tells."""


def short_list(level: int) -> list[int]:
    """Every second level from `level` down, and 0: 3, 1, 0. As the lists of the paper's configurations run."""
    return [*range(level, 0, -2), 0]


def estimate(config: WarmStartConfig, directory: Path, states: int, delta: float, seed: int) -> Mapping[str, Any]:
    """Of a finished run: K', the list it suggests, the curve, what there is to know of each entry, contraction.

    Raises UsageError for a run without a policy, a base that is not of integer levels, and fewer than 2 states."""
    if not (directory / "policy").is_dir():
        raise UsageError(f"{directory} holds no finished run")
    if states < 2 or delta <= 0:
        raise UsageError(f"--states {states} --delta {delta}: expected at least 2 states and a delta above 0")
    policy = load_action_policy(directory / "policy", config.device)
    recipe = config_to_dict(config)
    with (
        tempfile.TemporaryDirectory() as folder,  # the finished run is only read
        Run.create(Path(folder) / "run", system="estimate", config=recipe, seed=0) as run,
    ):
        return estimated(config, policy, run, states, delta, seed)


def estimated(
    config: WarmStartConfig, policy: ActionPolicy, run: Any, states: int, delta: float = 0.1, seed: int = 0
) -> dict[str, Any]:
    """The same of a policy at hand; `run` keeps the demonstrations."""
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
    return {**found, "curve": curve, "entries": _entries(errors, level, chosen or [])}


def _entries(errors: ShiftErrors, level: int | None, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """What is to be said of each entry of the action alone."""
    del chosen
    rows = []
    for entry in range(errors.by_entry.shape[1]):
        own = errors.first_level(entry)
        discrete = own is None or (level is not None and own > max(10, 3 * level))
        rows.append(
            {
                "entry": entry,
                "K'": "none" if own is None else own,
                "error at 3": float(errors.by_entry[min(3, len(errors.noise) - 1), entry]),
                "advice": "discrete: scale it" if discrete else "",
            }
        )
    return rows
