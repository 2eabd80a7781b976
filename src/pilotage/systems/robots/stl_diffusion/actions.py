"""The action `play`, and videos of a run's plans: all of them over the map of a test scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import BLUE, INK, ORANGE, PURPLE, Canvas, GroundPlan
from pilotage.rollouts.episodes import Episode, Evaluation
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.data import Drives, make_drives, test_seed
from pilotage.systems.robots.stl_diffusion.env.geometry import beside
from pilotage.systems.robots.stl_diffusion.env.highway import CAR, LANE_WIDTH
from pilotage.systems.robots.stl_diffusion.model import load_planner
from pilotage.systems.robots.stl_diffusion.planners import PlanRequest, plans_by
from pilotage.systems.robots.stl_diffusion.rules import MODES, RuleSets
from pilotage.training.imitation.play import Played

VIDEOS = 2
"""Test scenes whose plans a run films."""
EVERY = 2
"""Steps of a plan between two frames."""
_GREY = "#9a948a"


def play(config: DrivingConfig, run: Path, episodes: int = 2, first_seed: int | None = None) -> Played:
    """Film the plans of the run's own planner on test scenes.

    The video of a scene shows its plans, those that break their rule in grey, and where the neighbours go. Paths are
    those of the first scene; the plans that break their rule count as failures.

    Args:
        config: the configuration of the run.
        run: folder of a finished run.
        episodes: how many test scenes.
        first_seed: number of the first one; None: 0.

    Raises:
        UsageError: for a run that is not finished, scenes that there are not, and the planner trajopt.
    """
    first = first_seed or 0
    if episodes < 1 or not 0 <= first < config.test_scenes:
        raise UsageError(
            f"expected at least one scene and a first one from 0 to {config.test_scenes - 1}, got {episodes}, {first}"
        )
    if config.planner == "trajopt":
        raise UsageError("plans of trajopt are kept as an artifact, not made by a run; play another planner")
    planner = load_planner(config, run)
    drives = make_drives(config.test_scenes, 1, test_seed(config))
    count = min(episodes, config.test_scenes - first)
    sets = drives.sets()
    sets = sets[(sets.scene >= first) & (sets.scene < first + count)]
    generator = torch.Generator().manual_seed(first)
    plans = plans_by(config.planner, PlanRequest(planner, sets, config.samples, generator, config.guidance_lr))
    with torch.no_grad():
        states = sets.states(plans)
        kept = sets.robustness_of(states) > 0
    paths: list[np.ndarray] = []
    listed: list[Episode] = []
    for n in (sets.scene == first).nonzero()[:, 0].tolist():
        for k in range(plans.shape[1]):
            paths.append(states[n, k, :, :2].numpy())
            listed.append(_episode(len(listed), first, MODES[int(sets.mode[n])], bool(kept[n, k]), states.shape[2] - 1))
    # A video is of a scene, and stands at the number of one of its plans; the record there is the scene's own.
    videos = {number: video(drives, sets, states, kept, first + number) for number in range(count)}
    return Played(Evaluation(listed, {"planner": config.planner}, [], {}, videos), ground_plan(drives, first), paths)


def save_videos(config: DrivingConfig, plans: Tensor, folder: Path) -> None:
    """Write the plans of the run's own planner, and videos of them on the first test scenes for the report.

    plans.npz has the places [set, plan, step + 1, 2], whether each plan keeps its rule [set, plan], mode and scene.

    Args:
        config: the configuration of the run.
        plans: for all test sets, in units of the limits, [set, plan, step, 2].
        folder: of the run.
    """
    drives = make_drives(config.test_scenes, 1, test_seed(config))
    sets = drives.sets()
    with torch.no_grad():
        states = sets.states(plans)
        kept = sets.robustness_of(states) > 0
    (folder / "videos").mkdir(exist_ok=True)
    places = states[..., :2].numpy().astype(np.float32)
    mode, scene = sets.mode.numpy(), sets.scene.numpy()
    np.savez_compressed(folder / "plans.npz", places=places, kept=kept.numpy(), mode=mode, scene=scene)
    for number in range(min(VIDEOS, config.test_scenes)):
        frames = np.stack(video(drives, sets, states, kept, number))
        every = bool(kept[sets.scene == number].any(1).all())
        np.savez_compressed(folder / "videos" / f"episode-{number}.npz", frames=frames, seed=number, success=int(every))


def ground_plan(drives: Drives, scene: int) -> GroundPlan:
    """Return the lanes of a scene that there are, as their edges, and where the ego starts."""
    edges = _edges(drives, scene)
    every = np.concatenate(edges)
    low, high = every.min(0) - 6, every.max(0) + 6
    start = drives.scenes.start[scene].tolist()
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return GroundPlan(extent, starts=[(start[0], start[1])], lines=edges)


def video(drives: Drives, sets: RuleSets, states: Tensor, kept: Tensor, scene: int) -> list[np.ndarray]:
    """Return frames [height, width, 3] uint8 of one scene: all plans, and all cars at every second step.

    Args:
        drives: the test scenes.
        sets: their rule sets.
        states: states of the plans, [set, plan, step + 1, 4].
        kept: whether each plan keeps its rule, [set, plan].
        scene: number of the scene.
    """
    rows = (sets.scene == scene).nonzero()[:, 0].tolist()
    there = drives.scenes.neighbours[scene, :, 0] > 0
    places = states[rows][..., :2].flatten(0, 2).numpy()
    edges = _edges(drives, scene)
    every = np.concatenate([*edges, places])
    low, high = every.min(0) - 6, every.max(0) + 6
    colours = (BLUE, ORANGE, PURPLE)
    frames = []
    for t in range(0, states.shape[2], EVERY):
        canvas = Canvas((float(low[0]), float(high[0]), float(low[1]), float(high[1])), 384)
        for edge in edges:
            canvas.path(list(edge), _GREY)
        for n in rows:
            for k in range(states.shape[1]):
                colour = colours[int(sets.mode[n])] if kept[n, k] else "#d8d2c6"
                canvas.path(list(states[n, k, : t + 1, :2].numpy()), colour)
        for pose in drives.others[scene, there, t].tolist():
            canvas.polygon(_car(pose), _GREY)
        canvas.polygon(_car(drives.logs.states[scene, t, :3].tolist()), INK)
        frames.append(canvas.frame())
    return frames


def _edges(drives: Drives, scene: int) -> list[np.ndarray]:
    """Return the edges of the lanes that there are, each [way-point, 2]."""
    valid = drives.scenes.lane_valid[scene].tolist()
    ranks = [rank for rank, there in zip((0, 1, -1), valid, strict=True) if there]
    laterals = sorted({LANE_WIDTH * (rank + side) for rank in ranks for side in (-0.5, 0.5)})
    return [beside(drives.scenes.road[scene], lateral)[:, :2].numpy() for lateral in laterals]


def _car(pose: Sequence[float]) -> list[tuple[float, float]]:
    x, y, heading = pose
    cosine, sine = np.cos(heading), np.sin(heading)
    half = [(CAR[0] / 2 * a, CAR[1] / 2 * b) for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    return [(x + cosine * a - sine * b, y + sine * a + cosine * b) for a, b in half]


def _episode(row: int, seed: int, mode: str, success: bool, steps: int) -> Episode:
    value = float(success)
    return Episode(row, seed, steps, value, value, value, success, False, True, mode, {}, None, 0, "")
