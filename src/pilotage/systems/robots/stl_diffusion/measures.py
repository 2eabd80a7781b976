"""Measures of STL-diffusion's claims: plans of every planner, their time, and how they follow ψ."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SMALL = (
    "--scenes 6 --test-scenes 2 --draws 2 --plan-steps 100 --steps 3 --batch 8 --num-noise-levels 4 "
    "--guidance-levels 2 --candidates 2 --samples 4 --shard 4 --shards 2 --refine-batch 2 --width 16 --closed-scenes 1 "
    "--closed-steps 3 --closed-samples 2"
)
"""What a quick measure adds to a command; RefineNet, where there is one, takes `SMALL_REFINE` steps."""
SMALL_REFINE = 2
LEAST_AREA = 0.25
"""m²: one cell of the grid, which stands for no area at all where a logarithm is taken."""
SWEPT = {"vmax": 1, "dmax": 3, "dsafe": 4}
"""Parameters that are swept, with their place in ψ."""
SWEEP = 7


def row(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the open-loop metrics of the planner that the arm is called after (`sampled` for whole systems)."""
    del unit
    metrics = context.train(_command(context)).metrics
    name = f"open_loop/{arm}/" if f"open_loop/{arm}/compliance" in metrics else "open_loop/sampled/"
    numbers = {key.removeprefix(name): value for key, value in metrics.items() if key.startswith(name)}
    return {**numbers, "log_area": math.log(max(numbers["area"], LEAST_AREA))}


def closed(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the closed-loop metrics of the planner that the arm is called after (`sampled` for whole systems)."""
    del unit
    metrics = context.train(_command(context)).metrics
    name = f"closed_loop/{arm}/" if f"closed_loop/{arm}/compliance" in metrics else "closed_loop/sampled/"
    return {key.removeprefix(name): value for key, value in metrics.items() if key.startswith(name)}


def seconds(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Time the planner that the arm is called after on the test scenes of a trained run, all in one batch.

    Returns:
        Processor seconds per scene, least of three, and `log_speed`, minus their logarithm.
    """
    from pilotage.systems.robots.stl_diffusion.data import make_drives, test_seed
    from pilotage.systems.robots.stl_diffusion.planners import PlanRequest, plans_by

    planner, config = _planner(context)
    sets = make_drives(config.test_scenes, 1, test_seed(config)).sets()
    spent = []
    for _ in range(1 if context.quick or arm == "ctg" else 3):
        began = time.process_time()
        plans_by(arm, PlanRequest(planner, sets, config.samples, _generator(unit), config.guidance_lr))
        spent.append(time.process_time() - began)
    least = max(min(spent), 1e-6) / config.test_scenes
    return {"seconds_per_scene": least, "log_speed": -math.log(least)}


def sweep(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return Spearman's correlation of vmax, dmax and dsafe with greatest speed, greatest offset and least clearance.

    Means over the plans of all test scenes that keep the lane; the other parameters stay.
    """
    from scipy.stats import spearmanr

    planner, config = _planner(context)
    found = {name: realised(planner, config, arm, unit, place) for name, place in SWEPT.items()}
    numbers = {name: float(spearmanr(np.arange(SWEEP), values).statistic) for name, values in found.items()}
    least = min(numbers.values())
    return {**numbers, "least": least, "all_above_.9": float(least > 0.9)}


def realised(planner: Any, config: Any, name: str, unit: int, place: int) -> list[float]:
    """Return what plans do at `SWEEP` values of one parameter of ψ, from tight to loose.

    Args:
        planner: the trained networks.
        config: their configuration.
        name: name of the planner.
        unit: seed of the plans.
        place: index of the parameter in ψ.
    """
    from pilotage.systems.robots.stl_diffusion.data import make_drives, test_seed
    from pilotage.systems.robots.stl_diffusion.env.highway import signals
    from pilotage.systems.robots.stl_diffusion.planners import PlanRequest, plans_by

    sets = make_drives(config.test_scenes, 1, test_seed(config)).sets()
    sets = sets[sets.mode == 0]
    values = []
    for value in np.linspace(*{1: (0.5, 6.0), 3: (0.5, 2.5), 4: (0.0, 5.0)}[place], SWEEP):
        psi = sets.psi.clone()
        # vmax counts from the present speed, below which no plan can begin.
        psi[:, place] = float(value) + (sets.scenes.start[:, 3] if place == 1 else 0.0)
        asked = replace(sets, psi=psi)
        plans = plans_by(name, PlanRequest(planner, asked, config.samples, _generator(unit), config.guidance_lr))
        seen = signals(asked.scenes, asked.states(plans), 0, asked.others)
        if place == 4:
            inhabited = asked.scenes.neighbours[:, :, 0].any(1)
            values.append(float(seen["clearance"][inhabited].amin(-1).mean()))
        else:
            values.append(float(seen["v" if place == 1 else "offset"].amax(-1).mean()))
    return values


def _command(context: Any) -> str:
    """Return the arm's command, small where the measure is quick."""
    if not context.quick:
        return str(context.command)
    refines = context.configuration().refine_steps > 0
    return f"{context.command} {SMALL} --refine-steps {SMALL_REFINE if refines else 0}"


def _planner(context: Any) -> tuple[Any, Any]:
    """Return the planner that the arm's command trains, and its configuration."""
    from pilotage.systems.robots.stl_diffusion.model import load_planner

    command = _command(context)
    config = context.configuration(command)
    return load_planner(config, Path(context.train(command).run)), config


def _generator(unit: int) -> Any:
    import torch

    return torch.Generator().manual_seed(30_000 + unit)
