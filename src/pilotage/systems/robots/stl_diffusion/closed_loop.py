"""Planning in closed loop: drives of twenty seconds among cars that react, all drives side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.runs import Progress
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.env.highway import STEPS, Scenes, futures
from pilotage.systems.robots.stl_diffusion.env.highway import signals as highway_signals
from pilotage.systems.robots.stl_diffusion.metrics import covered_area
from pilotage.systems.robots.stl_diffusion.model import Planner, averaged, scenes_joined
from pilotage.systems.robots.stl_diffusion.planners import PlanRequest, plans_by
from pilotage.systems.robots.stl_diffusion.rules import RuleSets, psi_of

CLOSED_LOOP_METRICS = {
    "compliance": "Share of plans of a decision with exact robustness above 0; mean over decisions and drives.",
    "area": "m² that a decision's compliant plans cover; mean over decisions and drives.",
    "progress": "m along the road in a drive.",
    "collision": "Share of drives that end in a collision.",
    "out_of_lane": "Share of drives that are outside of every lane at some step.",
}
"""Metrics of every planner in closed loop, with their meaning."""


@dataclass
class _Drive:
    env: Any
    fastest: float
    """m/s: vmax of its driver."""
    distance: float
    """m: the clearance that its driver wants."""
    over: bool = False
    out_of_lane: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    compliance: list[float] = field(default_factory=list)
    area: list[float] = field(default_factory=list)


def closed_loop(name: str, planner: Planner, config: DrivingConfig) -> dict[str, float]:
    """Return the numbers of CLOSED_LOOP_METRICS for the planner called `name`.

    Every `replan` steps the plan of highest exact robustness under the rule of keeping the lane is taken up. Raises
    UsageError without Gymnasium.
    """
    if name == "trajopt":
        raise UsageError("trajopt plans from the test scenes' artifact and has no closed loop; leave it out")
    from pilotage.systems.robots.stl_diffusion.env.driving import HighwayDrive

    drives = []
    for number in range(config.closed_scenes):
        style = np.random.default_rng([config.closed_seed, number])
        env = HighwayDrive(steps=config.closed_steps)
        env.reset(seed=config.closed_seed + number)
        drives.append(_Drive(env, float(style.uniform(8, 13)), float(style.uniform(0.2, 1.0))))
    generator = torch.Generator().manual_seed(config.closed_seed)
    decisions = -(-config.closed_steps // config.replan)
    with Progress(decisions, f"closed loop: {name}", unit="decision") as progress:
        for decision in range(decisions):
            going = [drive for drive in drives if not drive.over]
            if not going:
                break
            plans = _decide(name, planner, going, config, generator)
            left = min(config.replan, config.closed_steps - decision * config.replan)
            for drive, plan in zip(going, plans, strict=True):
                _follow(drive, plan[:left].numpy())
            progress.advance(decision + 1)
    return averaged([_numbers(drive) for drive in drives])


def rules_around(scenes: Scenes, fastest: Tensor, distance: Tensor) -> RuleSets:
    """Return the rule of keeping the present lane, which the present state itself keeps, for every scene.

    Args:
        scenes: the scenes.
        fastest: the driver's vmax in m/s, [scene], loosened where the present already breaks it.
        distance: the driver's dsafe in m, [scene], likewise.
    """
    others = futures(scenes, STEPS)
    now = highway_signals(scenes, scenes.start[:, None, None], 0, others[:, :, :1])
    v, offset, heading, gap = (now[name][:, 0, 0] for name in ("v", "offset", "heading", "clearance"))
    zero = torch.zeros_like(v)
    psi = psi_of(
        {
            "vmin": (v - 1.5).clamp(max=3.0).clamp(min=-0.3),
            "vmax": torch.maximum(v + 1.5, fastest),
            "dmin": torch.minimum(offset - 0.3, zero - 1.2),
            "dmax": torch.maximum(offset + 0.3, zero + 1.2),
            "dsafe": torch.minimum(gap - 0.1, distance).clamp(min=0.0),
            "thmax": (heading + 0.1).clamp(min=0.3),
        }
    )
    count = len(scenes)
    return RuleSets(scenes, others, torch.zeros(count, dtype=torch.int64), psi, torch.arange(count))


def _decide(
    name: str, planner: Planner, drives: list[_Drive], config: DrivingConfig, generator: torch.Generator
) -> Tensor:
    """Return the plan that each drive takes up, [drive, step, 2], in units of the limits."""
    scenes = scenes_joined([drive.env.scenes() for drive in drives])
    wanted = torch.tensor([[drive.fastest, drive.distance] for drive in drives])
    sets = rules_around(scenes, wanted[:, 0], wanted[:, 1])
    request = PlanRequest(planner, sets, config.closed_samples, generator, config.closed_guidance_lr)
    plans = plans_by(name, request)
    with torch.no_grad():
        states = sets.states(plans)
        value = sets.robustness_of(states)
    kept, places = (value > 0).numpy(), states[:, :, 1:, :2].numpy()
    for number, drive in enumerate(drives):
        drive.compliance.append(float(kept[number].mean()))
        drive.area.append(covered_area(places[number], kept[number]))
    return plans[torch.arange(len(plans)), value.argmax(1)]


def _follow(drive: _Drive, plan: np.ndarray) -> None:
    for action in plan:
        _, _, terminated, truncated, drive.info = drive.env.step(action)
        drive.out_of_lane |= bool(drive.info["out_of_lane"])
        if terminated or truncated:
            drive.over = True
            return


def _numbers(drive: _Drive) -> dict[str, float]:
    return {
        "compliance": float(np.mean(drive.compliance)),
        "area": float(np.mean(drive.area)),
        "progress": float(drive.info["progress"]),
        "collision": float(drive.info["collision"]),
        "out_of_lane": float(drive.out_of_lane),
    }
