"""What a run's plans look like: all of them over the map of a test scene, as films and as paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from pilotage.systems.robots.stl_diffusion.planners import Request, plans_by
from pilotage.systems.robots.stl_diffusion.rules import RuleSets
from pilotage.systems.robots.stl_diffusion.signals import MODES
from pilotage.systems.robots.stl_diffusion.train import DrivingTrainer, load_planner

FILMS = 2
"""Test scenes whose plans a run films."""
EVERY = 2
"""Steps of a plan between two frames."""
_GREY = "#9a948a"


@dataclass(frozen=True)
class Played:
    """What there is to see; one film per scene, and the plans of the first scene as paths."""

    evaluation: Evaluation
    plan: GroundPlan | None
    paths: Sequence[np.ndarray]


def play(config: DrivingConfig, run: Path, episodes: int = 2, first_seed: int | None = None) -> Played:
    """All plans of the run's own row for `episodes` test scenes from number `first_seed` on (0 by default).

    The film of a scene shows its plans, those that break their rule in grey, and where the neighbours go. Paths are
    those of the first scene; the plans that break their rule count as failures. Raises UsageError for a run that is not
    finished, scenes that there are not, and the row trajopt."""
    first = first_seed or 0
    if episodes < 1 or not 0 <= first < config.test_scenes:
        raise UsageError(
            f"expected at least one scene and a first one from 0 to {config.test_scenes - 1}, got {episodes}, {first}"
        )
    if config.row == "trajopt":
        raise UsageError("plans of the row trajopt are kept as an artifact, not made by a run; play another row")
    planner = load_planner(config, run)
    drives = make_drives(config.test_scenes, 1, test_seed(config))
    count = min(episodes, config.test_scenes - first)
    sets = drives.sets()
    sets = sets[(sets.scene >= first) & (sets.scene < first + count)]
    generator = torch.Generator().manual_seed(first)
    plans = plans_by(config.row, Request(planner, sets, config.samples, generator, config.guidance_rate))
    with torch.no_grad():
        states = sets.states(plans)
        kept = sets.robustness_of(states) > 0
    paths: list[np.ndarray] = []
    listed: list[Episode] = []
    for n in (sets.scene == first).nonzero()[:, 0].tolist():
        for k in range(plans.shape[1]):
            paths.append(states[n, k, :, :2].numpy())
            listed.append(_episode(len(listed), first, MODES[int(sets.mode[n])], bool(kept[n, k]), states.shape[2] - 1))
    # A film is of a scene, and stands at the row of one of its plans; the record there is the scene's own.
    films = {first_row: film(drives, sets, states, kept, first + first_row) for first_row in range(count)}
    return Played(Evaluation(listed, {"row": config.row}, [], {}, films), ground_plan(drives, first), paths)


def save_films(trainer: DrivingTrainer, folder: Path) -> None:
    """The first test scenes with the plans of the run's own row: films for the report, and plans.npz with the places
    [N, K, T+1, 2], whether each keeps its rule [N, K], mode and scene [N]."""
    config = trainer.config
    drives = make_drives(config.test_scenes, 1, test_seed(config))
    sets = drives.sets()
    plans = trainer.test_plans(config.row)
    with torch.no_grad():
        states = sets.states(plans)
        kept = sets.robustness_of(states) > 0
    (folder / "films").mkdir(exist_ok=True)
    places = states[..., :2].numpy().astype(np.float32)
    mode, scene = sets.mode.numpy(), sets.scene.numpy()
    np.savez_compressed(folder / "plans.npz", places=places, kept=kept.numpy(), mode=mode, scene=scene)
    for number in range(min(FILMS, config.test_scenes)):
        frames = np.stack(film(drives, sets, states, kept, number))
        every = bool(kept[sets.scene == number].any(1).all())
        np.savez_compressed(folder / "films" / f"episode-{number}.npz", frames=frames, seed=number, success=int(every))


def ground_plan(drives: Drives, scene: int) -> GroundPlan:
    """The lanes of a scene that there are, as their edges, and where the ego starts."""
    edges = _edges(drives, scene)
    every = np.concatenate(edges)
    low, high = every.min(0) - 6, every.max(0) + 6
    start = drives.scenes.start[scene].tolist()
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return GroundPlan(extent, starts=[(start[0], start[1])], lines=edges)


def film(drives: Drives, sets: RuleSets, states: Tensor, kept: Tensor, scene: int) -> list[np.ndarray]:
    """Frames [height, width, 3] uint8 of one scene: all plans, and who is where at every second step."""
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
    """The edges of the lanes that there are, each [P, 2]."""
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
