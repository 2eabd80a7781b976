"""The loop that learns a policy from demonstrations and tries it in its world."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.core.system import Result, gives
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.normalisers import Normaliser, Scaling, fit_normalisers
from pilotage.data.sources import open_demonstrations
from pilotage.data.windows import Goals, WindowBatch, WindowBatches, Windows
from pilotage.networks.ema import AveragedWeights
from pilotage.policies.control.heads.context_denoiser import executed_context
from pilotage.policies.control.heads.head import TrainingData
from pilotage.policies.control.policy import ActionPolicy, expect_within_limit
from pilotage.rollouts.episodes import Evaluation
from pilotage.runs import check_device, resolve_precision
from pilotage.training.imitation.builder import Builder, Sizes
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.metrics import METRICS
from pilotage.training.imitation.task import ControlTask, control_task, expert_demonstrations, goal_metrics
from pilotage.training.loop import Hooks, train_loop
from pilotage.training.running_means import RunningMeans
from pilotage.training.schedules import check_schedule, schedule

VALIDATION_WINDOWS = 512
"""Windows, at most, on which the validation error is measured."""
LISTED_EPISODES = 10
"""Episodes left out that an event lists one by one."""


class ImitationTrainer(Hooks):
    """Trainer of one run: demonstrations, normalisers, model and optimiser."""

    def __init__(self, config: ImitationConfig, run: Any) -> None:
        self.config, self.run = config, run
        check_schedule(config.lr_schedule)
        check_device(config.device)
        self.precision = resolve_precision(config.precision, config.device)
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision={config.precision!r}: policies are trained in float32, bfloat16 or auto")
        self.world: ControlTask | None = control_task(config)
        demonstrations = demonstrations_of(config, run)
        if self.world is not None and config.data is not None:
            self.world.expect_fitting(demonstrations, self.cameras)
        training, validating = demonstrations, None
        if config.validation:
            training, validating = demonstrations.split(config.validation, _generator(config.data_seed))
        scalings: dict[str, Scaling] = {"action": config.action_scaling}  # type: ignore[dict-item]
        if not self.cameras or "state" in demonstrations.observations:
            scalings["state"] = config.state_scaling  # type: ignore[assignment]
        self.normalisers: dict[str, Normaliser] = fit_normalisers(training, scalings)
        if config.scaled_dims:
            self.normalisers["action"].shrink(config.scaled_dims, config.scale_dims_by)
        self.windows = self._windows(training)
        self.validation = None if validating is None else self._windows(validating)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed_for("weights"))
            self.builder = Builder(config, self._sizes(training))
            self.encoder, self.head = self.builder.encoder, self.builder.head()
        self.model = nn.ModuleDict({"encoder": self.encoder, "head": self.head})
        self.training_data = TrainingData(
            self._actions(training), lambda: self._chunks(training), _generator(config.data_seed), config, run
        )
        for name, text in self.head.metric_descriptions().items():
            run.describe_metric(name, text)
        self.head.fit(self.training_data)
        expect_within_limit(self.head.action_limit(), self.head.limit_reason(), self.normalisers["action"])
        self.model.to(config.device)
        self._decide_once(training)
        self.batches = WindowBatches(self.windows, config.batch, run.generator("batches"))
        self.noise = run.generator("noise")
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.average = AveragedWeights(self.model, decay=config.ema_decay or None, power=config.ema_power)
        self.sums = RunningMeans()
        self._report_data(demonstrations)
        self._began = time.perf_counter()
        self._episodes_kept = False

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras."""
        return tuple(filter(None, self.config.cameras.split("+")))

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        return {
            "model": self.model,
            "optimiser": self.optimiser,
            "average": self.average,
            "batches": self.batches,
            "sums": self.sums,
        }

    # ---- learn -----------------------------------------------------------------------------------------------------

    def step(self, step: int) -> None:
        """Do one optimiser step."""
        self._began = time.perf_counter()
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.lr * schedule(config.lr_schedule, step, config.steps, config.lr_warmup_steps)
        batch = self.batches.draw()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed_for("dropout", step))  # layers with dropout draw from torch's own generator
            loss = self.loss(batch, self.noise).mean()
        self.run.check_finite(step + 1, "loss", loss, {"actions": batch.actions, **batch.observations})
        loss.backward()
        limit = config.grad_clip if config.grad_clip > 0 else math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.run.check_finite(step + 1, "gradient_norm", norm, {"actions": batch.actions, **batch.observations})
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(self.model)
        self.sums.add(loss=float(loss.detach()), gradient_norm=float(norm))

    def loss(self, batch: WindowBatch, generator: torch.Generator) -> Tensor:
        """Return the head's loss per window, [B]."""
        kind = torch.device(self.config.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16"):
            condition = self.encoder(batch.observations, generator)
            loss: Tensor = self.head.loss(batch.actions, condition, generator, ~batch.padded)
        return loss

    # ---- look ------------------------------------------------------------------------------------------------------

    def resume(self, done: int) -> None:
        """Note whether an earlier process already kept the episodes of the last evaluation."""
        self._episodes_kept = done == self.config.steps

    def metrics(self, done: int) -> dict[str, float]:
        """Return the mean loss and gradient norm since the last call, the head's own metrics, and what was used."""
        found = self.sums.pop_metrics()
        found |= {f"training/{name}": value for name, value in self.head.pop_metrics().items()}
        found |= {"lr": self.optimiser.param_groups[0]["lr"], "samples/total": float(done * self.config.batch)}
        self.run.log_timing(done, {"seconds": time.perf_counter() - self._began})
        return found

    def evaluate(self, done: int, last: bool) -> dict[str, float]:
        """Return metrics of the averaged weights on held-back demonstrations and in the environment; keep episodes."""
        metrics, happened = self.tried(done, self.config.videos if last else 0)
        if happened is not None and not self._episodes_kept:
            self._save_episodes(done, happened)
        return metrics

    def shown(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the loss, and the success where there was an evaluation."""
        names = {"loss": "loss", "evaluation/success": "success"}
        return {short: metrics[name] for name, short in names.items() if name in metrics}

    def policy(self, seed: int) -> ActionPolicy:
        """Return the policy with the weights that the model has now."""
        return ActionPolicy(
            self.encoder,
            self.head,
            self.builder.executor(),
            self.normalisers,
            goal_weight=self.config.goal_weight,
            seed=seed,
        ).to(self.config.device)

    def tried(self, step: int, videos: int = 0) -> tuple[dict[str, float], Evaluation | None]:
        """Return metrics of the averaged weights, and the episodes; the first `videos` of them are filmed."""
        with self.average.swapped_in(self.model):
            self.model.eval()
            metrics = self._validate()
            happened = None
            if self.world is not None:
                policy = self.policy(self.run.seed_for("evaluation", step))
                self.head.pop_metrics()  # what the validation did is not the world's
                began = time.perf_counter()
                happened = self.world.evaluate(policy, videos)
                metrics |= happened.metrics() | goal_metrics(happened)
                metrics["evaluation/calls"] = sum(policy.calls.values()) / max(1, policy.decisions)
                metrics["evaluation/decisions"] = policy.decisions / sum(e.steps for e in happened.episodes)
                self.run.log_timing(step, {"evaluation": time.perf_counter() - began})
                metrics |= {f"evaluation/{name}": value for name, value in self.head.pop_metrics().items()}
            self.model.train()
        return metrics, happened

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        count = min(len(self.validation), VALIDATION_WINDOWS)
        rows = np.linspace(0, len(self.validation) - 1, count).astype(np.int64)
        generator = _generator(self.run.seed_for("validation", 0))
        batch = self.validation.take(rows, generator)
        loss = self.loss(batch, generator)
        past, real = self.head.history, ~batch.padded
        guide = None
        if past:
            before = torch.where(real[..., None], batch.actions, 0.0)[:, :past]
            guide, real = executed_context(before, self.head.horizon), real[:, past:]
        condition = self.encoder(batch.observations, generator)
        chunk = self.head.sample(condition, generator, guide=guide)
        error = (chunk - batch.actions)[:, past:].abs().mean(-1)[real]
        metrics = {"validation/loss": float(loss.mean()), "validation/action_error": float(error.mean())}
        return metrics | self.head.held_out_metrics(batch.actions, condition, ~batch.padded)

    def _save_episodes(self, step: int, happened: Evaluation) -> None:
        for record in happened.records():
            self.run.log_rollout(step, record)
        if happened.frames and self.world is not None:
            self.world.save_videos(happened, Path(self.run.directory) / "videos")

    # ---- data ------------------------------------------------------------------------------------------------------

    def _windows(self, demonstrations: Demonstrations, *, raw: bool = False) -> Windows:
        """Return the windows that a policy sees; raw: in the data's units."""
        config = self.config
        names = [*(["state"] if "state" in self.normalisers else []), *(f"image/{camera}" for camera in self.cameras)]
        if config.goal_mask not in ("asked", "all"):
            raise UsageError(f"goal_mask={config.goal_mask!r} is not known; choose asked or all")
        keep = None if self.world is None or config.goal_mask == "all" else self.world.goal_entries
        return Windows(
            demonstrations,
            n_obs_steps=config.n_obs_steps,
            chunk_size=config.chunk_size,
            n_action_steps=config.n_action_steps,
            names=names,
            goals=Goals(steps=config.goal_steps, keep=keep) if config.goal_steps else None,
            normalisers=None if raw else self.normalisers,
            device=config.device,
        )

    def _chunks(self, demonstrations: Demonstrations) -> Tensor:
        config = self.config
        windows = Windows(
            demonstrations,
            n_obs_steps=config.n_obs_steps,
            chunk_size=config.chunk_size,
            n_action_steps=config.n_action_steps,
            names=[],
            normalisers=self.normalisers,
        )
        return windows.take(np.arange(len(windows))).actions

    def _sizes(self, demonstrations: Demonstrations) -> Sizes:
        state = self.normalisers["state"].offset.numel() if "state" in self.normalisers else 0
        channels = 3
        for camera in self.cameras:
            channels = int(demonstrations.column(f"image/{camera}").shape[-1])
        return Sizes(state, demonstrations.action_size, state, self.cameras, channels)

    def _actions(self, demonstrations: Demonstrations) -> Tensor:
        return self.normalisers["action"].normalise(torch.from_numpy(demonstrations.actions))

    def _decide_once(self, demonstrations: Demonstrations) -> None:
        """Make one decision with the untrained policy, so that parts that do not fit are refused before training."""
        alone = self._windows(demonstrations.subset([0]), raw=True)
        shown = alone.take([0], _generator(0)).observations
        policy = self.policy(seed=0)
        policy.reset([0])
        policy.act({name: value.cpu() for name, value in shown.items()}, [0])
        self.head.pop_metrics()

    def _report_data(self, demonstrations: Demonstrations) -> None:
        """What is odd about the data, once."""
        gone = demonstrations.meta.get("left_out_episodes", {})
        if gone:
            listed = "; ".join(f"{name}: {why}" for name, why in list(gone.items())[:LISTED_EPISODES])
            more = f"; and {len(gone) - LISTED_EPISODES} more" if len(gone) > LISTED_EPISODES else ""
            self.run.log_event(None, "episodes left out", f"{len(gone)} demonstrations cannot be used ({listed}{more})")
        normaliser = self.normalisers["action"]
        constant = torch.nonzero(normaliser.constant).flatten().tolist()
        if constant:
            self.run.log_event(None, "constant actions", f"entries {constant} of the action never change in the data")
        for kind, text in self.head.warnings(self._actions(demonstrations), normaliser.constant.cpu()).items():
            self.run.log_event(None, kind, text)
        if self.world is not None and self.config.videos and not self.world.facts["renders"]:
            self.run.log_event(
                None, "no videos", f"{self.config.env} cannot be filmed: its metadata[render_modes] lists no rgb_array"
            )
        if self.windows.short_episodes:
            self.run.log_event(
                None,
                "short episodes",
                f"{self.windows.short_episodes} of {demonstrations.total_episodes} demonstrations are shorter than a "
                f"chunk of {self.config.chunk_size} actions and were padded",
            )


def demonstrations_of(config: ImitationConfig, run: Any) -> Demonstrations:
    """Return the data: what `data` names, or the expert's, an artifact that all arms and seeds share."""
    if config.demonstrations < 1:
        raise UsageError(f"demonstrations={config.demonstrations}: at least 1 is needed")
    if config.data is None:
        if config.env == "none":
            raise UsageError("without a world there is no expert to demonstrate; give --data")
        found = expert_demonstrations(config, run)
    else:
        state = [name for name in config.state_keys.split("+") if name]
        cameras = [f"image/{name}" for name in config.cameras.split("+") if name]
        found = open_demonstrations(
            config.data,
            action=[name for name in config.action_key.split("+") if name],
            names=[*(state or ["state"]), *cameras],
            skip_bad=config.skip_bad_episodes,
        )
        if found.total_episodes > config.demonstrations:
            found = found.subset(range(config.demonstrations))
    names: Sequence[str] = [name for name in config.state_keys.split("+") if name]
    return found.with_state(names) if names else found


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@gives("evaluation/*", "validation/*", "samples/total")
def train(config: ImitationConfig, run: Any) -> Result:
    """Train a policy from demonstrations; goes on from the run's newest checkpoint when there is one."""
    if run.finished:
        return Result(run=str(run.directory), metrics=run.result)
    for name, text in METRICS.items():
        run.describe_metric(name, text)
    trainer = ImitationTrainer(config, run)
    final = train_loop(
        run,
        trainer,
        config.steps,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        evaluate_every=config.evaluate_every,
    )
    with trainer.average.swapped_in(trainer.model):
        trainer.policy(run.seed_for("policy")).save_pretrained(Path(run.directory) / "policy")
    final |= {"samples/total": float(config.steps * config.batch)}
    run.finish(final)
    return Result(run=str(run.directory), metrics=final)
