"""Stages: logs and calibration, plans by trajectory optimisation (artifacts), the learner, RefineNet, judgement.

Steps count through the two trainings; checkpoints hold both. Each judged row is kept as soon as it is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.runs import Progress
from pilotage.runs.state import save_tensors
from pilotage.systems.robots.stl_diffusion import closed_loop as driving_closed
from pilotage.systems.robots.stl_diffusion import metrics as driving_judge
from pilotage.systems.robots.stl_diffusion.closed_loop import closed_loop
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.data import Drives, make_drives, plans_of, test_seed
from pilotage.systems.robots.stl_diffusion.metrics import judged
from pilotage.systems.robots.stl_diffusion.model import Planner, Plans
from pilotage.systems.robots.stl_diffusion.planners import Request, check_rows, plans_by
from pilotage.systems.robots.stl_diffusion.rules import RuleSets
from pilotage.training.running_means import RunningMeans
from pilotage.training.schedules import schedule

WEIGHTS = "planner.safetensors"
METRICS = {
    "loss": "Mean loss since the last line: of the learner, then of RefineNet.",
    "lr": "Learning rate.",
    "refine/satisfied": "Share of refined plans whose smooth robustness is above 0, in training.",
    "data/plans": "Plans that can be learnt from.",
    "data/valid": "Share of them that keep their rule.",
    "data/logs_satisfied": "Share of logs that keep their own calibrated rule.",
}


class DrivingTrainer:
    """Data, planner and optimisers of one run."""

    def __init__(self, config: DrivingConfig, run: Any) -> None:
        if config.data not in ("augmented", "logs"):
            raise UsageError(f"data={config.data!r} is not known; choose augmented or logs")
        self.config, self.run = config, run
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed_for("weights"))
            self.planner = Planner(config)
        check_rows((*config.rows, *config.closed_rows), self.planner)
        if config.row not in config.rows:
            raise UsageError(f"row={config.row!r} is not among the rows {', '.join(config.rows)}; name one of them")
        learnt = [*self.planner.encoder.parameters(), *self.planner.learner.parameters()]
        self.optimiser = torch.optim.Adam(learnt, lr=config.lr)
        self.refine_optimiser = torch.optim.Adam(self.planner.refiner.parameters(), lr=config.refine_lr)
        self.sums = RunningMeans()
        self.drives = make_drives(config.scenes, config.draws, config.data_seed)
        logs = Plans.logs(self.drives)
        self.facts = {"data/logs_satisfied": float(logs.valid.float().mean())}
        augmented = config.data == "augmented"
        self.plans = Plans.augmented(self.drives, plans_of(config, run)) if augmented else logs
        self.facts |= {"data/plans": float(len(self.plans)), "data/valid": float(self.plans.valid.float().mean())}
        self.noise = run.generator("noise")
        each = [self.drives.sets(shard % config.draws) for shard in range(config.shards)]
        self.shard_sets = each if config.refine_steps else []
        self._prepared: dict[str, Tensor] | None = None

    @property
    def total(self) -> int:
        return self.config.steps + self.config.refine_steps

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        return {
            "planner": self.planner,
            "optimiser": self.optimiser,
            "refine_optimiser": self.refine_optimiser,
            "sums": self.sums,
        }

    # ---- learn -----------------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """One optimiser step of the stage to which `step` belongs."""
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

    def _refining_loss(self) -> dict[str, Tensor]:
        config, ready = self.config, self.prepared()
        count = ready["vector"].shape[1]
        shard = int(torch.randint(config.shards, (1,), generator=self.noise))
        which = torch.randint(count, (config.refine_batch,), generator=self.noise)
        sets = self.shard_sets[shard][which]
        chosen = (ready[name][shard, which] for name in ("vector", "plans", "robustness"))
        return self.planner.refiner_loss(sets, *chosen)

    def prepared(self) -> dict[str, Tensor]:
        """Candidates of the frozen learner, one shard for every training set and `shards` of its rules: drawn once,
        kept beside the run and taken up again where it is resumed. vector [S, N, d], plans [S, N, shard, T, 2],
        robustness [S, N, shard]."""
        if self._prepared is None:
            place = Path(self.run.directory) / "candidates.safetensors"
            if not place.exists():
                aside = place.with_name(".writing-candidates.safetensors")
                save_tensors(self._candidates(), aside)
                aside.replace(place)
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

    # ---- judge -----------------------------------------------------------------------------------------------------

    def judge(self) -> dict[str, float]:
        """Every row in open and in closed loop; what was judged before the run was interrupted is taken as it was."""
        config, metrics = self.config, dict[str, float]()
        drives = make_drives(config.test_scenes, 1, test_seed(config))
        sets = drives.sets()
        for row in config.rows:
            metrics |= self._kept("open_loop", row, partial(self._judged, row, drives, sets))
        for row in config.closed_rows:
            metrics |= self._kept("closed_loop", row, partial(closed_loop, row, self.planner, config))
        leading = {name: metrics[f"open_loop/{config.row}/{name}"] for name in driving_judge.MEASURES}
        return {**leading, **metrics}

    def _judged(self, row: str, drives: Drives, sets: RuleSets) -> dict[str, float]:
        return judged(drives, sets, self.test_plans(row))

    def test_plans(self, row: str) -> Tensor:
        """The plans of a row for the test sets: [N, K, T, 2]."""
        if row == "trajopt":
            return plans_of(self.config, self.run, test=True)
        sets = make_drives(self.config.test_scenes, 1, test_seed(self.config)).sets()
        generator = torch.Generator().manual_seed(self.run.seed_for("evaluation"))
        return plans_by(row, Request(self.planner, sets, self.config.samples, generator, self.config.guidance_rate))

    def _kept(self, kind: str, row: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        folder = Path(self.run.directory) / "judged"
        folder.mkdir(exist_ok=True)
        place = folder / f"{kind}-{row}.json"
        if not place.exists():
            began = time.process_time()
            numbers = make()
            self.run.log_timing(self.total, {f"{kind}/{row}/seconds": time.process_time() - began})
            write_atomically(place, json.dumps(numbers).encode())
        return {f"{kind}/{row}/{name}": value for name, value in json.loads(place.read_text()).items()}

    def save(self) -> None:
        """The weights, to plan with later."""
        save_tensors(self.planner.state_dict(), Path(self.run.directory) / WEIGHTS)


def load_planner(config: DrivingConfig, run: Path) -> Planner:
    """The planner of a finished run. Raises UsageError where there is none."""
    if not (run / WEIGHTS).is_file():
        raise UsageError(f"{run} holds no trained planner yet; let the run finish")
    planner = Planner(config)
    planner.load_state_dict(load_file(run / WEIGHTS))
    return planner.eval()


def train(config: DrivingConfig, run: Any) -> Result:
    """Make the data, train, refine and judge; resumes from the run's newest checkpoint when there is one."""
    if run.finished:
        return Result(run=str(run.directory), metrics=run.result)
    _describe(config, run)
    trainer = DrivingTrainer(config, run)
    start = run.restore(trainer.state())
    if start == 0:
        run.save(0, trainer.state())
    with Progress(trainer.total, run.system, start=start) as progress:
        for step in range(start, trainer.total):
            trainer.step(step)
            done = step + 1
            ends = done in (config.steps, trainer.total)
            if done % config.log_every == 0 or ends:
                _log(trainer, done, progress)
            if done % config.checkpoint_every == 0 or ends:
                run.save(done, trainer.state())
    trainer.planner.eval()
    trainer.save()
    final = {**trainer.judge(), **trainer.facts}
    from pilotage.systems.robots.stl_diffusion.play import save_films

    save_films(trainer, Path(run.directory))
    (Path(run.directory) / "candidates.safetensors").unlink(missing_ok=True)
    run.finish(final)
    return Result(run=str(run.directory), metrics=final)


def _log(trainer: DrivingTrainer, done: int, progress: Progress) -> None:
    refining = done > trainer.config.steps
    optimiser = trainer.refine_optimiser if refining else trainer.optimiser
    metrics = {**trainer.sums.taken(), "lr": optimiser.param_groups[0]["lr"]}
    trainer.run.log(done, metrics)
    progress.advance(done, stage="refine" if refining else "learn", loss=metrics["loss"])


def _describe(config: DrivingConfig, run: Any) -> None:
    for name, text in {**METRICS, **driving_judge.MEASURES}.items():
        run.describe_metric(name, text)
    for kind, rows, measures in (
        ("open_loop", config.rows, driving_judge.MEASURES),
        ("closed_loop", config.closed_rows, driving_closed.MEASURES),
    ):
        for row in rows:
            for name, text in measures.items():
                run.describe_metric(f"{kind}/{row}/{name}", text)
