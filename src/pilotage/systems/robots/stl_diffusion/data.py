"""Scenes, logs, calibrated rules, and plans by trajectory optimisation: artifacts that all arms and seeds share."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.runs import Progress
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.descent import descend
from pilotage.systems.robots.stl_diffusion.env.highway import STEPS, Scenes, draw_scenes, futures, signals
from pilotage.systems.robots.stl_diffusion.env.traffic import Logs, drive
from pilotage.systems.robots.stl_diffusion.rules import LIMITS, RuleSets, calibrate, draw_around, psi_of, sets_of

PART = 50
"""Scenes whose plans are one artifact: what a kill can cost."""
ROUNDS = 5
"""Rounds of trajectory optimisation; each goes on with the plans that still break their rule."""
_MADE_BY = (
    "systems.robots.stl_diffusion.data",
    "systems.robots.stl_diffusion.rules",
    "systems.robots.stl_diffusion.env.highway",
    "systems.robots.stl_diffusion.env.traffic",
    "systems.robots.stl_diffusion.env.geometry",
    "systems.robots.stl_diffusion.descent",
    "rewards.temporal_logic.robustness",
    "rewards.temporal_logic.windows",
)


@dataclass(frozen=True)
class Drives:
    """Scenes, each with one driver's log and rules for every mode."""

    scenes: Scenes
    others: Tensor
    """[B, 8, T+1, 3]: where the neighbours went."""
    logs: Logs
    psi: Tensor
    """[B, 3, draws, 6]: the calibrated ψ for the mode of the log, drawn around it for the others."""

    def sets(self, draw: int = 0) -> RuleSets:
        """Return one set per scene and mode that there is, under the rule of one draw."""
        return sets_of(self.scenes, self.others, self.psi[:, :, draw], self.scenes.lane_valid)

    def logged(self) -> tuple[RuleSets, Tensor]:
        """Return the logs that kept or changed the lane, under their own rule, and their plans.

        Plans are in units of the limits, [set, step, 2].
        """
        known = self.logs.label < 3
        valid = (self.logs.label[:, None] == torch.arange(3)) & known[:, None]
        return sets_of(self.scenes, self.others, self.psi[:, :, 0], valid), self.logs.controls[known] / LIMITS


def make_drives(count: int, draws: int, seed: int) -> Drives:
    """Draw `count` scenes, their drivers and `draws` rules per mode, all from one seed."""
    if count < 1 or draws < 1:
        raise UsageError(f"expected at least one scene and one draw, got {count} and {draws}")
    generator = torch.Generator().manual_seed(seed)
    scenes = draw_scenes(count, generator)
    logs = drive(scenes, generator)
    others = futures(scenes, STEPS)
    label = torch.where(logs.label == 3, 0, logs.label)
    seen = {name: value[:, 0] for name, value in signals(scenes, logs.states[:, None], label, others).items()}
    own = calibrate(seen, logs.label)
    psi = torch.stack([psi_of(draw_around(own, draws, generator)) for _ in range(3)], 1)
    logged = (logs.label[:, None] == torch.arange(3))[:, :, None, None]
    return Drives(scenes, others, logs, torch.where(logged, psi_of(own)[:, None, None], psi))


def optimised(sets: RuleSets, plans: Tensor, *, steps: int, rate: float, margin: float, tau: float) -> Tensor:
    """Move plans until they keep the rules, in `ROUNDS` rounds of Adam, each on those that do not yet.

    Args:
        sets: the rules.
        plans: in units of the limits, [set, plan, step, 2].
        steps: Adam steps over all rounds.
        rate: learning rate in units of the limits.
        margin: robustness that is asked for.
        tau: temperature of the smooth robustness.

    Returns:
        The moved plans, of the same shape.
    """
    plans = plans.clone()
    for number in range(ROUNDS):
        count = steps // ROUNDS + (number < steps % ROUNDS)
        with torch.no_grad():
            missing = sets.robustness(plans, tau) < margin / 2
        which, draw = missing.nonzero(as_tuple=True)
        if not count or not len(which):
            continue
        rest = sets[which]
        moved = descend(
            plans[which, draw][:, None],
            partial(rest.robustness, tau=tau),
            torch.ones(2),
            steps=count,
            rate=rate,
            margin=margin,
        )
        plans[which, draw] = moved[:, 0]
    return plans


def first_plans(sets: int, draws: int, generator: torch.Generator) -> Tensor:
    """Draw initial plans of trajectory optimisation: uniform accelerations, and turns a tenth of that.

    Returns plans [set, draw, step, 2] in units of the limits.
    """
    drawn = 2 * torch.rand(sets, draws, STEPS, 2, generator=generator) - 1
    return drawn * torch.tensor([0.1, 1.0])


def make_plans(directory: Path, config: Mapping[str, Any]) -> None:
    """Write plans.npz into `directory`: plans [set, plan, step, 2], float32, of the scenes `first` to `last`."""
    drives = make_drives(config["scenes"], config["rules"], config["seed"])
    inside = slice(config["first"], config["last"])
    part = Drives(drives.scenes[inside], drives.others[inside], drives.logs, drives.psi[inside])
    generator = torch.Generator().manual_seed(config["seed"] * 1009 + config["first"] + 1)
    options = {name: config[name] for name in ("steps", "rate", "margin", "tau")}
    if config["rules"] == 1:
        sets = part.sets()
        plans = optimised(sets, first_plans(len(sets), config["draws"], generator), **options)
    else:  # every draw has a rule of its own
        each = [part.sets(draw) for draw in range(config["draws"])]
        count = len(each[0])
        rows = _joined(each)
        plans = optimised(rows, first_plans(len(rows), 1, generator), **options)
        plans = plans.view(config["draws"], count, *plans.shape[2:]).transpose(0, 1)
    np.savez_compressed(directory / "plans.npz", plans=plans.contiguous().numpy())


def _joined(sets: list[RuleSets]) -> RuleSets:
    scenes = Scenes(**{name: torch.cat([getattr(s.scenes, name) for s in sets]) for name in vars(sets[0].scenes)})
    return RuleSets(
        scenes, *(torch.cat([getattr(each, name) for each in sets]) for name in ("others", "mode", "psi", "scene"))
    )


def plans_of(config: DrivingConfig, run: Any, *, test: bool = False) -> Tensor:
    """Return plans by trajectory optimisation [set, plan, step, 2] for all training (or test) sets, in their order.

    One artifact for every `PART` scenes, shared by all runs that ask for the same.
    """
    scenes = config.test_scenes if test else config.scenes
    settings = {
        "scenes": scenes,
        "rules": 1 if test else config.draws,
        "draws": config.samples if test else config.draws,
        "seed": test_seed(config) if test else config.data_seed,
        "steps": config.plan_steps,
        "rate": config.plan_lr,
        "margin": config.margin,
        "tau": config.tau,
    }
    kind, found = ("test" if test else "training"), []
    starts = range(0, scenes, PART)
    with Progress(len(starts), f"{kind} plans", unit="part") as progress:
        for number, first in enumerate(starts):
            part = {**settings, "first": first, "last": min(first + PART, scenes)}
            folder = run.artifact(
                make_plans, part, name=f"highway-{kind}-plans-{number}", code=_sources(), progress=lambda _: None
            )
            with np.load(folder / "plans.npz", allow_pickle=False) as kept:
                found.append(torch.from_numpy(kept["plans"]))
            progress.advance(number + 1)
    return torch.cat(found)


def test_seed(config: DrivingConfig) -> int:
    """Return the seed of the test scenes, far from the training seeds of other comparisons."""
    return 1_000_003 + config.data_seed


def _sources() -> str:
    return "".join(inspect.getsource(importlib.import_module(f"pilotage.{name}")) for name in _MADE_BY)
