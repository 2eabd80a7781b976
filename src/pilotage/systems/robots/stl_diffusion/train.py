"""Training: logs and calibration, plans by trajectory optimisation (artifacts), learner, RefineNet, evaluation.

Steps count through the two trainings; checkpoints hold both. The numbers of each planner are kept as soon as they are
there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pilotage.core.atomic_io import write_atomically, written_aside
from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.runs import Progress
from pilotage.runs.state import save_tensors
from pilotage.systems.robots.stl_diffusion.actions import save_videos
from pilotage.systems.robots.stl_diffusion.closed_loop import CLOSED_LOOP_METRICS, closed_loop
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.data import Drives, make_drives, plans_of, test_seed
from pilotage.systems.robots.stl_diffusion.metrics import OPEN_LOOP_METRICS, open_loop_metrics
from pilotage.systems.robots.stl_diffusion.model import WEIGHTS, Planner, Plans
from pilotage.systems.robots.stl_diffusion.planners import PlanRequest, check_planners, plans_by
from pilotage.systems.robots.stl_diffusion.rules import RuleSets
from pilotage.training.loop import Hooks, train_loop
from pilotage.training.running_means import RunningMeans
from pilotage.training.schedules import schedule

METRICS = {
    "loss": "Mean loss since the last line: of the learner, then of RefineNet.",
    "lr": "Learning rate.",
    "refine/satisfied": "Share of refined plans whose smooth robustness is above 0, in training.",
    "data/plans": "Plans that can be learnt from.",
    "data/valid": "Share of them that keep their rule.",
    "data/logs_satisfied": "Share of logs that keep their own calibrated rule.",
}


class DrivingTrainer(Hooks):
    """Data, planner and optimisers of one run."""

    def __init__(self, config: DrivingConfig, run: Any) -> None:
        if config.data not in ("augmented", "logs"):
            raise UsageError(f"data={config.data!r} is not known; choose augmented or logs")
        self.config, self.run = config, run
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed_for("weights"))
            self.planner = Planner(config)
        check_planners((*config.planners, *config.closed_loop_planners), self.planner)
        if config.planner not in config.planners:
            raise UsageError(
                f"planner={config.planner!r} is not among the planners {', '.join(config.planners)}; name one of them"
            )
        learnt = [*self.planner.encoder.parameters(), *self.planner.learner.parameters()]
        self.optimiser = torch.optim.Adam(learnt, lr=config.lr)
        self.refine_optimiser = torch.optim.Adam(self.planner.refiner.parameters(), lr=config.refine_lr)
        self.sums = RunningMeans()
        self.drives = make_drives(config.scenes, config.draws, config.data_seed)
        logs = Plans.logs(self.drives)
        self.data_metrics = {"data/logs_satisfied": float(logs.valid.float().mean())}
        augmented = config.data == "augmented"
        self.plans = Plans.augmented(self.drives, plans_of(config, run)) if augmented else logs
        self.data_metrics |= {
            "data/plans": float(len(self.plans)),
            "data/valid": float(self.plans.valid.float().mean()),
        }
        self.noise = run.generator("noise")
        each = [self.drives.sets(shard % config.draws) for shard in range(config.shards)]
        self.shard_sets = each if config.refine_steps else []
        self._prepared: dict[str, Tensor] | None = None

    @property
    def total(self) -> int:
        """Optimiser steps of both stages."""
        return self.config.steps + self.config.refine_steps

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint must hold."""
        return {
            "planner": self.planner,
            "optimiser": self.optimiser,
            "refine_optimiser": self.refine_optimiser,
            "sums": self.sums,
        }

    # ---- learn -----------------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """Take one optimiser step of the stage to which `step` belongs."""
        config = self.config
        refining = step >= config.steps
        optimiser = self.refine_optimiser if refining else self.optimiser
        began, length, rate = (
            (config.steps, config.refine_steps, config.refine_lr) if refining else (0, config.steps, config.lr)
        )
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule("cosine", step - began, length, 0)
        if refining:
            numbers = self._refining_loss()
            self.sums.add(**{"refine/satisfied": float(numbers["refine/satisfied"])})
            loss = numbers["loss"]
        else:
            rows = torch.randint(len(self.plans), (config.batch,), generator=self.noise)
            loss = self.planner.learner_loss(self.plans, rows, self.noise)
        self.run.check_finite(step + 1, "loss", loss)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
        optimiser.step()
        self.sums.add(loss=float(loss.detach()))

    def metrics(self, done: int) -> dict[str, float]:
        """Return the mean losses since the last line, and the learning rate of the present stage."""
        optimiser = self.refine_optimiser if done > self.config.steps else self.optimiser
        return {**self.sums.pop_metrics(), "lr": optimiser.param_groups[0]["lr"]}

    def shown(self, metrics: Mapping[str, float]) -> dict[str, float | str]:
        """Return the stage and the loss."""
        return {"stage": "refine" if "refine/satisfied" in metrics else "learn", "loss": metrics["loss"]}

    def _refining_loss(self) -> dict[str, Tensor]:
        config, ready = self.config, self.prepared()
        count = ready["vector"].shape[1]
        shard = int(torch.randint(config.shards, (1,), generator=self.noise))
        which = torch.randint(count, (config.refine_batch,), generator=self.noise)
        sets = self.shard_sets[shard][which]
        chosen = (ready[name][shard, which] for name in ("vector", "plans", "robustness"))
        return self.planner.refiner_loss(sets, *chosen)

    def prepared(self) -> dict[str, Tensor]:
        """Return candidates of the frozen learner: one shard for every training set and `shards` of its rules.

        They are drawn once, kept beside the run and read again where it is resumed: "vector" [rule, set, features],
        "plans" [rule, set, plan, step, 2], "robustness" [rule, set, plan].
        """
        if self._prepared is None:
            place = Path(self.run.directory) / "candidates.safetensors"
            if not place.exists():
                with written_aside(place) as aside:
                    save_tensors(self._candidates(), aside)
            self._prepared = load_file(place)
        return self._prepared

    @torch.no_grad()
    def _candidates(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.run.seed_for("candidates"))
        found = []
        with Progress(len(self.shard_sets), "candidates", unit="shard") as progress:
            for number, sets in enumerate(self.shard_sets):
                vector = self.planner.vector(sets)
                found.append((vector, *self.planner.best(sets, vector, self.config.shard, generator)))
                progress.advance(number + 1)
        names = ("vector", "plans", "robustness")
        return {name: torch.stack(each) for name, each in zip(names, zip(*found, strict=True), strict=True)}

    # ---- evaluate --------------------------------------------------------------------------------------------------

    def evaluate_planners(self) -> dict[str, float]:
        """Return the metrics of every planner in open and in closed loop.

        Numbers that were found before the run was interrupted are read again.
        """
        config, metrics = self.config, dict[str, float]()
        drives = make_drives(config.test_scenes, 1, test_seed(config))
        sets = drives.sets()
        for name in config.planners:
            metrics |= self._kept("open_loop", name, partial(self._open_loop, name, drives, sets))
        for name in config.closed_loop_planners:
            metrics |= self._kept("closed_loop", name, partial(closed_loop, name, self.planner, config))
        leading = {name: metrics[f"open_loop/{config.planner}/{name}"] for name in OPEN_LOOP_METRICS}
        return {**leading, **metrics}

    def _open_loop(self, name: str, drives: Drives, sets: RuleSets) -> dict[str, float]:
        return open_loop_metrics(drives, sets, self.test_plans(name))

    def test_plans(self, name: str) -> Tensor:
        """Return a planner's plans for the test sets, [set, plan, step, 2]."""
        if name == "trajopt":
            return plans_of(self.config, self.run, test=True)
        sets = make_drives(self.config.test_scenes, 1, test_seed(self.config)).sets()
        generator = torch.Generator().manual_seed(self.run.seed_for("evaluation"))
        request = PlanRequest(self.planner, sets, self.config.samples, generator, self.config.guidance_lr)
        return plans_by(name, request)

    def _kept(self, kind: str, planner: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        folder = Path(self.run.directory) / "evaluation"
        folder.mkdir(exist_ok=True)
        place = folder / f"{kind}-{planner}.json"
        if not place.exists():
            began = time.process_time()
            numbers = make()
            self.run.log_timing(self.total, {f"{kind}/{planner}/seconds": time.process_time() - began})
            write_atomically(place, json.dumps(numbers).encode())
        return {
            f"{kind}/{planner}/{name}": value for name, value in json.loads(place.read_text(encoding="utf-8")).items()
        }


def train(config: DrivingConfig, run: Any) -> Result:
    """Make the data, train learner and RefineNet, and evaluate the planners; goes on from the newest checkpoint."""
    if run.finished:
        return Result(run=str(run.directory), metrics=run.result)
    _describe(config, run)
    trainer = DrivingTrainer(config, run)
    train_loop(
        run,
        trainer,
        trainer.total,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        ends=(config.steps,),
    )
    trainer.planner.eval()
    save_tensors(trainer.planner.state_dict(), Path(run.directory) / WEIGHTS)
    final = {**trainer.evaluate_planners(), **trainer.data_metrics}
    save_videos(config, trainer.test_plans(config.planner), Path(run.directory))
    (Path(run.directory) / "candidates.safetensors").unlink(missing_ok=True)
    run.finish(final)
    return Result(run=str(run.directory), metrics=final)


def _describe(config: DrivingConfig, run: Any) -> None:
    for name, text in {**METRICS, **OPEN_LOOP_METRICS}.items():
        run.describe_metric(name, text)
    for kind, planners, metrics in (
        ("open_loop", config.planners, OPEN_LOOP_METRICS),
        ("closed_loop", config.closed_loop_planners, CLOSED_LOOP_METRICS),
    ):
        for planner in planners:
            for name, text in metrics.items():
                run.describe_metric(f"{kind}/{planner}/{name}", text)
