"""What is measured for STL-diffusion: calibration, plans of every row, their time, and how they answer to ψ."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SMALL = (
    "--scenes 6 --test-scenes 2 --draws 2 --plan-steps 100 --steps 3 --batch 8 --levels 4 --guidance-levels 2 "
    "--candidates 2 --samples 4 --shard 4 --shards 2 --refine-batch 2 --width 16 --closed-scenes 1 --closed-steps 3 "
    "--closed-samples 2"
)
"""What a quick measure adds to a command; RefineNet, where there is one, takes `SMALL_REFINE` steps."""
SMALL_REFINE = 2
LEAST_AREA = 0.25
"""m²: one cell of the grid, which stands for no area at all where a logarithm is taken."""
SWEPT = {"vmax": 1, "dmax": 3, "dsafe": 4}
"""Parameters that are swept, with their place in ψ."""
SWEEP = 7


def calibration(arm: str, unit: int, context: Any) -> Mapping[str, float]:
    """Share of the logs of 500 scenes that keep the rule calibrated on them, exactly; drivers of no label left out."""
    del arm
    from pilotage.systems.robots.stl_diffusion.data import make_drives

    sets, plans = make_drives(20 if context.quick else 500, 1, 10_000 + unit).logged()
    kept = sets.robustness(plans[:, None])[:, 0] > 0
    share = float(kept.float().mean())
    return {"share": share, "at least .99": float(share >= 0.99), "logs": float(len(kept))}


def row(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Open loop: the numbers of the row that the arm is called after (`sampled` for whole systems)."""
    del unit
    metrics = context.train(_command(context)).metrics
    name = f"open_loop/{arm}/" if f"open_loop/{arm}/compliance" in metrics else "open_loop/sampled/"
    numbers = {key.removeprefix(name): value for key, value in metrics.items() if key.startswith(name)}
    return {**numbers, "log area": math.log(max(numbers["area"], LEAST_AREA))}


def ablation(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Open loop of a training with or without one part: the row named `ROW` or `without (ROW)`."""
    return row(arm.removeprefix("without (").removesuffix(")"), unit, context)


def closed(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Closed loop: the numbers of the row that the arm is called after (`sampled` for whole systems)."""
    del unit
    metrics = context.train(_command(context)).metrics
    name = f"closed_loop/{arm}/" if f"closed_loop/{arm}/compliance" in metrics else "closed_loop/sampled/"
    return {key.removeprefix(name): value for key, value in metrics.items() if key.startswith(name)}


def seconds(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Processor seconds per scene of the row that the arm is called after, least of three, on the test scenes of a
    trained run, all in one batch; `log speed` is minus its logarithm."""
    from pilotage.systems.robots.stl_diffusion.data import make_drives, test_seed
    from pilotage.systems.robots.stl_diffusion.planners import Request, plans_by

    planner, config = _planner(context)
    sets = make_drives(config.test_scenes, 1, test_seed(config)).sets()
    spent = []
    for _ in range(1 if context.quick or arm == "ctg" else 3):
        began = time.process_time()
        plans_by(arm, Request(planner, sets, config.samples, _generator(unit), config.guidance_rate))
        spent.append(time.process_time() - began)
    least = max(min(spent), 1e-6) / config.test_scenes
    return {"seconds per scene": least, "log speed": -math.log(least)}


def sweep(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Spearman's correlation of vmax, dmax and dsafe with what plans do about them: greatest speed, greatest offset and
    least clearance, means over the plans of all test scenes that keep the lane; the other parameters stay."""
    from scipy.stats import spearmanr

    planner, config = _planner(context)
    found = {name: realised(planner, config, arm, unit, place) for name, place in SWEPT.items()}
    numbers = {name: float(spearmanr(np.arange(SWEEP), values).statistic) for name, values in found.items()}
    least = min(numbers.values())
    return {**numbers, "least": least, "all above .9": float(least > 0.9)}


def realised(planner: Any, config: Any, name: str, unit: int, place: int) -> list[float]:
    """What plans of the row `name` do at `SWEEP` values of one parameter of ψ, from tight to loose."""
    from pilotage.systems.robots.stl_diffusion.data import make_drives, test_seed
    from pilotage.systems.robots.stl_diffusion.env.highway import signals
    from pilotage.systems.robots.stl_diffusion.planners import Request, plans_by

    sets = make_drives(config.test_scenes, 1, test_seed(config)).sets()
    sets = sets[sets.mode == 0]
    values = []
    for value in np.linspace(*{1: (0.5, 6.0), 3: (0.5, 2.5), 4: (0.0, 5.0)}[place], SWEEP):
        psi = sets.psi.clone()
        # vmax counts from the present speed, below which no plan can begin.
        psi[:, place] = float(value) + (sets.scenes.start[:, 3] if place == 1 else 0.0)
        asked = replace(sets, psi=psi)
        plans = plans_by(name, Request(planner, asked, config.samples, _generator(unit), config.guidance_rate))
        seen = signals(asked.scenes, asked.states(plans), 0, asked.others)
        if place == 4:
            inhabited = asked.scenes.neighbours[:, :, 0].any(1)
            values.append(float(seen["clearance"][inhabited].amin(-1).mean()))
        else:
            values.append(float(seen["v" if place == 1 else "offset"].amax(-1).mean()))
    return values


def oracle(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Compliance and success of trajectory optimisation on fresh scenes by the arm's steps and rate."""
    import torch

    from pilotage.systems.robots.stl_diffusion.data import first_plans, make_drives, optimised

    steps, rate = {"short": (300, 0.03), "paper": (2000, 0.005)}[arm]
    sets = make_drives(2 if context.quick else 5, 1, 20_000 + unit).sets()
    begun = first_plans(len(sets), 4, _generator(unit))
    plans = optimised(sets, begun, steps=10 if context.quick else steps, rate=rate, margin=0.01, tau=100.0)
    with torch.no_grad():
        kept = sets.robustness(plans) > 0
    return {"compliance": float(kept.float().mean()), "success": float(kept.any(1).float().mean())}


def _command(context: Any) -> str:
    """The arm's command, small where the measure is quick."""
    if not context.quick:
        return str(context.command)
    refines = context.configuration().refine_steps > 0
    return f"{context.command} {SMALL} --refine-steps {SMALL_REFINE if refines else 0}"


def _planner(context: Any) -> tuple[Any, Any]:
    """The planner that the arm's command trains, and its configuration."""
    from pilotage.systems.robots.stl_diffusion.train import load_planner

    command = _command(context)
    config = context.configuration(command)
    return load_planner(config, Path(context.train(command).run)), config


def _generator(unit: int) -> Any:
    import torch

    return torch.Generator().manual_seed(30_000 + unit)
