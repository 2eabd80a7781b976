"""The loop that serves every language-model method: roll out, score, assign credit, update, remember."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.references import function_name
from pilotage.core.system import Result, gives
from pilotage.policies.language.adapters import named_weights
from pilotage.rewards import Rewards, build_rewards, check_golds, score_answers
from pilotage.rollouts.groups import sample_groups
from pilotage.rollouts.held_out import HeldOut, held_out
from pilotage.training.language import models as text_models
from pilotage.training.language.config import TextConfig
from pilotage.training.language.credit import apply_filter, assign_credit, columns_of
from pilotage.training.language.critic import Critic
from pilotage.training.language.health import HealthMonitor
from pilotage.training.language.metrics import METRICS, batch_metrics, rollout_record
from pilotage.training.language.piece_set import check_reward_bounds, make_piece_set, sampler_term
from pilotage.training.language.task import fitting_items, make_task
from pilotage.training.language.update import accumulate_gradient, minibatches, optimiser_step
from pilotage.training.loop import Hooks, train_loop
from pilotage.training.schedules import check_schedule, schedule
from pilotage.types import Item, Rollouts, Sampling

MOST_LISTED = 50
"""Prompts that were never solved, at most, that an event names."""


class TextTrainer:
    """Everything of one run that has state, and the verbs of a step."""

    def __init__(self, config: TextConfig, run: Any) -> None:
        self.config, self.run = config, run
        check_schedule(config.lr_schedule)
        self.pieces = make_piece_set(config)
        self.task = make_task(config)
        self.items = self.task.pool(config.num_train_prompts, "train", 0)
        self.tests = self.task.pool(config.evaluation_prompts * len(self.task.difficulties), "held_out", 0)
        # What may refuse an option comes before the policy, which may be trained first.
        self.sampler, offered = self.make_sampler(), len(self.items)
        self.rewards = self.build_rewards(config.reward)
        check_reward_bounds(self.pieces, [(part.weight, part.name) for part in self.rewards])
        self.checks = self.build_checks()
        self.report_unread_golds()
        self.policy = text_models.make_policy(config, self.task, run)
        text_models.check_prompts(self.policy, config, [*self.items, *self.tests])
        self.model = self.policy.model
        self.likelihood = text_models.make_likelihood(config, self.model)
        self.engine = text_models.make_engine(config, self.policy)
        if config.data is not None:
            context, leave_out = getattr(self.engine, "context", 2**31), config.skip_bad_rows
            self.items = fitting_items(self.items, self.prompt, context, leave_out)
            self.tests = fitting_items(self.tests, self.prompt, context, leave_out)
        self.sampling = text_models.training_sampling(config)
        self.optimiser = text_models.optimiser_for(self.model, config)
        if len(self.items) != offered:
            self.sampler = self.make_sampler()
        self.reference = text_models.frozen_copy(self.model) if self.pieces.asks_for("logp_ref") else None
        self.critic = Critic(self.policy, config, run.generator("critic")) if self.pieces.asks_for("value") else None
        self.health = HealthMonitor(self.pieces)
        self.unfinished = 0
        """Answers of the step under way whose reasoning was not finished."""
        self.counts: dict[str, float] = {"tokens": 0, "samples": 0, "initial_entropy": float("nan")}

    def make_sampler(self) -> Any:
        """Return the sampler over the training prompts."""
        sampler, options = sampler_term(self.config.sampler)
        return sampler(len(self.items), seed=self.run.seed_for("sampler"), **options)

    def build_rewards(self, choice: str | Callable[..., Any]) -> Rewards:
        """Return the components of a reward expression; slow and user-written ones run in workers."""
        config = self.config
        return build_rewards(
            choice if isinstance(choice, str) else function_name(choice),
            self.task,
            workers=config.reward_workers,
            limit=config.reward_seconds,
            record=self.run.journal("scores"),
            columns=list(self.items[0].meta) if self.items else None,
        )

    def build_checks(self) -> Rewards | None:
        """Return what tells whether an answer is right; None for data without answers."""
        if not any(item.answer for item in (*self.items, *self.tests)):
            return None
        return self.rewards if self.config.reward == "exact" else self.build_rewards("exact")

    def report_unread_golds(self) -> None:
        """Log an event that names the answers of the data that no reply can equal, because nothing can read them.

        Raises UsageError when they are more than `failure_limit` of the prompts that are trained on.
        """
        answered = [item for item in (*self.items, *self.tests) if item.answer]
        for rewards, items in ((self.rewards, self.items), (self.checks, answered)):
            unread = check_golds(rewards, items) if rewards else []
            if not unread:
                continue
            shown = "; ".join(unread[:3])
            text = f"{len(unread)} of {len(items)} answers of the data cannot be read as mathematics: {shown}"
            if rewards is self.rewards and len(unread) > self.config.failure_limit * len(items):
                raise UsageError(f"{text}. Every reply to them scores 0: fix the data, or give a reward of your own")
            self.run.log_event(0, "unread answers", f"{text}. Every reply to them counts as wrong")
            return

    # ---- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds, beside the run's own random streams."""
        state: dict[str, Any] = {
            "model": self.model,
            "optimiser": self.optimiser,
            "sampler": self.sampler,
            "pieces": self.pieces,
            "health": self.health,
            "counts": self.counts,
        }
        if self.critic is not None:
            state["critic"] = self.critic
        return state

    def load_engine(self, version: int) -> None:
        """Hand the trained weights to the engine."""
        self.engine.load(version, named_weights(self.model))

    # ---- roll out --------------------------------------------------------------------------------------------------

    def collect(self, step: int) -> tuple[Rollouts | None, dict[str, float]]:
        """Return a scored batch, after filters and refills; None when no group was left.

        Also metrics of the collection.
        """
        config = self.config
        parts: list[Rollouts] = []
        reasons: dict[str, int] = {}
        groups, sampled, zero_variance = 0, 0, []
        rounds = self.unfinished = 0
        for round_ in range(1 + config.refill_rounds):
            rounds += 1
            rollouts = self.roll_out(step, round_)
            sampled += len(rollouts)
            rollouts, failures = self.score_rollouts(rollouts)
            for reason, count in failures.items():
                reasons[reason] = reasons.get(reason, 0) + count
            self.remember_pass_rates(rollouts)
            zero_variance.append(_zero_variance_share(rollouts))
            kept = rollouts.select(apply_filter(self.pieces, rollouts, self.context()))
            parts.append(kept)
            groups += len(kept.group.unique())
            if groups >= config.prompts_per_step:
                break
        batch = Rollouts.concatenate(parts)
        batch = batch.select(batch.group < config.prompts_per_step)
        self.counts["samples"] += sampled
        metrics = {
            "samples/total": self.counts["samples"],
            "tokens/total": self.counts["tokens"],
            "groups/zero_variance": float(np.mean(zero_variance)),
            "groups/trained": float(len(batch.group.unique())),
            "samples/rounds": float(rounds),
            **{f"failures/{reason}": float(count) for reason, count in reasons.items()},
        }
        if self.unfinished:
            metrics["unfinished_reasoning"] = float(self.unfinished)
        return (batch if len(batch) else None), metrics

    def roll_out(self, step: int, round_: int) -> Rollouts:
        """`answers` answers to each of `prompts` prompts."""
        config = self.config
        positions = self.sampler.select(config.prompts_per_step)
        items = [self.items[int(position)] for position in positions]
        rollouts = sample_groups(
            self.engine,
            [self.prompt(item) for item in items],
            positions,
            answers=config.group_size,
            max_tokens=[self.max_tokens(item) for item in items],
            seeds=[self.run.seed_for("rollout", step, round_, index) for index in range(len(items))],
            sampling=self.sampling,
            pad_id=self.policy.pad_id,
        )
        self.counts["tokens"] += int(rollouts.mask.sum())
        rollouts.columns["difficulty"] = torch.tensor([item.difficulty for item in items]).repeat_interleave(
            config.group_size
        )
        if self.pieces.asks_for("greedy_reward"):
            rollouts.columns["greedy_reward"] = self.greedy_reward(items).repeat_interleave(config.group_size)
        return rollouts

    def score_rollouts(self, rollouts: Rollouts) -> tuple[Rollouts, dict[str, int]]:
        """Return the roll-outs with their scores as columns, without those left out, and the latter's count by reason.

        An answer is left out when it could not be scored, and when the greedy answer to its prompt could not, of which
        it would need the reward as its baseline (reason `greedy`).
        """
        items = [self.items[int(position)] for position in rollouts.item]
        texts = [self.text(ids, mask) for ids, mask in zip(rollouts.ids, rollouts.mask, strict=True)]
        scored = score_answers(self.rewards, texts, items, rollouts, failure_limit=self.config.failure_limit)
        self.unfinished += scored.unfinished
        columns, reasons = rollouts.columns, dict(scored.reasons)
        columns["scores"] = torch.as_tensor(scored.scores, dtype=torch.float32)
        columns["score"] = torch.as_tensor(scored.total, dtype=torch.float32)
        columns["reward"] = columns["score"].clone()
        columns["correctness"] = _correctness(scored.names, columns["scores"], columns["score"])
        valid = torch.as_tensor(scored.valid)
        if "greedy_reward" in columns:
            without_baseline = valid & columns["greedy_reward"].isnan()
            if bool(without_baseline.any()):
                reasons["greedy"] = int(without_baseline.sum())
                valid &= ~without_baseline
        return rollouts.select(valid) if not bool(valid.all()) else rollouts, reasons

    def greedy_reward(self, items: list[Item]) -> Tensor:
        """Return the reward of the greedy answer to each prompt (ReMax), NaN where it has no score: [prompts]."""
        greedy = sample_groups(
            self.engine,
            [self.prompt(item) for item in items],
            list(range(len(items))),
            answers=1,
            max_tokens=[self.max_tokens(item) for item in items],
            seeds=[0] * len(items),
            sampling=Sampling(temperature=0.0),
            pad_id=self.policy.pad_id,
        )
        self.counts["tokens"] += int(greedy.mask.sum())
        self.counts["samples"] += len(greedy)
        texts = [self.text(ids, mask) for ids, mask in zip(greedy.ids, greedy.mask, strict=True)]
        scored = score_answers(self.rewards, texts, items, greedy, failure_limit=self.config.failure_limit)
        return torch.as_tensor(np.where(scored.valid, scored.total, np.nan), dtype=torch.float32)

    def remember_pass_rates(self, rollouts: Rollouts) -> None:
        """Tell the sampler how each prompt instance went."""
        groups, inverse = rollouts.group.unique(return_inverse=True)
        if not len(groups):
            return
        right = torch.zeros(len(groups), dtype=torch.float64)
        right.index_add_(0, inverse, rollouts.column("score").double().clamp(0.0, 1.0))
        total = torch.bincount(inverse, minlength=len(groups))
        first = torch.zeros(len(groups), dtype=torch.int64)
        first[inverse] = rollouts.item
        self.sampler.update(first.numpy(), right.numpy(), total.numpy())

    # ---- learn -----------------------------------------------------------------------------------------------------

    def prepare(self, rollouts: Rollouts) -> None:
        """Columns that pieces ask for and the trainer makes: logp_old, entropy, logp_ref, value."""
        pieces, columns = self.pieces, rollouts.columns
        need_old = pieces.asks_before_update("logp_old") or not self.on_policy
        need_entropy = pieces.asks_for("entropy") and "entropy" not in columns
        if need_old or need_entropy:
            scored = self.likelihood.score(self.model, rollouts, entropy=need_entropy)
            columns["logp_old"] = scored.logp
            if scored.entropy is not None:
                columns["entropy"] = scored.entropy
        if self.reference is not None:
            columns["logp_ref"] = self.likelihood.score(self.reference, rollouts).logp
        if self.critic is not None:
            columns["value"] = self.critic.values(rollouts)

    @property
    def on_policy(self) -> bool:
        """Return whether each batch takes exactly one update, so that every ratio is 1."""
        return self.config.minibatches * self.config.epochs == 1

    def learn(self, step: int, rollouts: Rollouts) -> dict[str, float]:
        """Credit, then the updates of one batch."""
        config = self.config
        self.prepare(rollouts)
        assign_credit(self.pieces, rollouts, self.context())
        factor = schedule(config.lr_schedule, step, config.steps, config.lr_warmup_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = config.lr * factor
        metrics: dict[str, float] = {"lr": config.lr * factor}
        if self.critic is not None:
            metrics |= self.critic.learn(rollouts)
        frozen = self.critic is not None and step < config.critic_warmup_steps
        norms: list[float] = []
        generator = self.run.generator("minibatches")
        parts = min(config.minibatches, len(rollouts.group.unique()))
        if parts < config.minibatches:
            self.run.log_event(
                step + 1, "few groups", f"{parts} groups are left: {parts} minibatches instead of {config.minibatches}"
            )
        for _ in range(0 if frozen else config.epochs):
            for rows in minibatches(rollouts.group, parts, generator):
                sums = accumulate_gradient(
                    self.pieces, self.model, self.likelihood, rollouts, rows, on_policy=self.on_policy
                )
                self.run.check_finite(step, "loss", sums.values["loss"], _tensors(rollouts))
                norms.append(optimiser_step(self.optimiser, self.model, config.grad_clip))
                self.run.check_finite(step, "gradient norm", norms[-1], _tensors(rollouts))
                metrics.setdefault("sampler_gap", sums.mean("gap"))
                metrics |= {"loss": sums.values["loss"], "ratio": sums.mean("ratio"), "kl_old": sums.mean("kl_old")}
                metrics["logp"] = sums.mean("logp")
        if norms:
            metrics["gradient_norm"] = float(np.mean(norms))
        get, _ = columns_of(rollouts, self.context())
        for piece in self.pieces.all:
            piece.update(get)
        return metrics

    def step(self, step: int) -> dict[str, float]:
        """Return one batch from prompts to new weights; returns its metrics."""
        began = time.perf_counter()
        rollouts, metrics = self.collect(step)
        collected = time.perf_counter()
        if rollouts is None:
            self.run.log_event(step + 1, "empty batch", "every group was filtered out: no update at this step")
            self.check_health(step + 1, metrics, None)
            return metrics
        metrics |= self.learn(step, rollouts)
        self.load_engine(step + 1)
        metrics |= batch_metrics(rollouts)
        if metrics.get("sampler_gap", 0.0) > self.config.logprob_gap_warning:
            self.run.log_event(
                step + 1,
                "sampler gap",
                f"the log-probabilities of sampler and trainer differ by {metrics['sampler_gap']:.3f} nats a token "
                f"on average (alarm at {self.config.logprob_gap_warning}): stale weights, or another precision",
            )
        self.save_rollouts(step + 1, rollouts)
        self.check_health(step + 1, metrics, rollouts)
        learnt = time.perf_counter()
        readings = {"collect": collected - began, "learn": learnt - collected, "seconds": learnt - began}
        self.run.log_timing(step + 1, readings)
        return metrics

    def check_health(self, step: int, metrics: Mapping[str, float], rollouts: Rollouts | None) -> None:
        """Log an event for each health alarm raised by this step's metrics."""
        for kind, text in self.health(metrics, rollouts, self.context()["initial_entropy"]):
            self.run.log_event(step, kind, text)

    def close(self) -> None:
        """End the processes that score."""
        self.rewards.close()
        if self.checks is not None:
            self.checks.close()

    # ---- look ------------------------------------------------------------------------------------------------------

    def evaluate(self, step: int) -> HeldOut:
        """Accuracy on held-out prompts, with noise that depends on the run's seed and the step alone."""
        return held_out(
            self.engine,
            self.tests,
            encode=self.prompt,
            decode=self.policy.decode_answer,
            check=None if self.checks is None else self.right,
            reward=self.rewarded,
            max_new=lambda difficulty: self.config.max_tokens or self.task.max_new(difficulty),
            samples=self.config.evaluation_samples,
            sampling=self.sampling,
            seed=lambda index: self.run.seed_for("held_out", step, index),
            well_formed=getattr(self.task, "well_formed", None),
        )

    def right(self, texts: list[str], items: list[Item]) -> list[float]:
        """Return whether answers are right, by the task's own check, not the training reward; NaN: not known."""
        assert self.checks is not None
        return score_answers(self.checks, texts, items, None, failure_limit=1.0).scores[:, 0].tolist()

    def rewarded(self, texts: list[str], items: list[Item], lengths: np.ndarray) -> list[float]:
        """Return the reward that is trained on, of answers with these numbers of tokens; NaN: could not be made."""
        written = SimpleNamespace(length=lengths)
        return score_answers(self.rewards, texts, items, written, failure_limit=1.0).total.tolist()

    def save_rollouts(self, step: int, rollouts: Rollouts) -> None:
        """Write some answers of the step to rollouts.jsonl."""
        count = len(rollouts) if self.config.save_rollouts < 0 else min(self.config.save_rollouts, len(rollouts))
        for row in np.linspace(0, len(rollouts) - 1, count).astype(int).tolist():
            item = self.items[int(rollouts.item[row])]
            text = self.text(rollouts.ids[row], rollouts.mask[row])
            self.run.log_rollout(step, rollout_record(rollouts, row, item, text))

    def report_never_solved(self) -> None:
        """An event that lists the prompts that were tried and never solved, where the sampler knows them."""
        never_solved = getattr(self.sampler, "never_solved", None)
        rows = [] if never_solved is None else never_solved().tolist()
        if rows:
            shown = ", ".join(f"{self.items[row].id} ({self.items[row].prompt!r})" for row in rows[:MOST_LISTED])
            more = f" and {len(rows) - MOST_LISTED} more" if len(rows) > MOST_LISTED else ""
            text = f"{len(rows)} of {len(self.items)} prompts were never solved, perhaps mislabelled: {shown}{more}"
            self.run.log_event(self.config.steps, "never solved", text)

    def context(self) -> Mapping[str, Any]:
        """Return what pieces may ask for that is not a column."""
        # An engine without entropies leaves it unknown; NaN would compare as "not below the threshold", silently.
        initial = self.counts["initial_entropy"]
        known = None if math.isnan(initial) else initial
        return {"generator": self.run.generator("credit"), "initial_entropy": known}

    def prompt(self, item: Item) -> list[int]:
        """Return the token ids of the prompt of an item."""
        return text_models.prompt_ids(self.policy, self.config, item)

    def max_tokens(self, item: Item) -> int:
        """Return the largest number of tokens of an answer to an item."""
        return self.config.max_tokens or self.task.max_new(item.difficulty)

    def text(self, ids: Tensor, mask: Tensor) -> str:
        """Return the text of sampled tokens."""
        return self.policy.decode_answer(ids[mask])


def _correctness(names: Sequence[str], scores: Tensor, total: Tensor) -> Tensor:
    """Return the score of the component `exact` where the reward has one that scored the answer, else the total: [N].

    Args:
        names: name of each component of the reward.
        scores: score of every answer by every component, [N, K], NaN where it abstained.
        total: the reward, [N].
    """
    if "exact" not in names:
        return total.clone()
    exact = scores[:, list(names).index("exact")]
    return torch.where(exact.isnan(), total, exact)


def _tensors(rollouts: Rollouts) -> dict[str, Tensor]:
    return {"ids": rollouts.ids, "mask": rollouts.mask, "prompt_ids": rollouts.prompt_ids, **rollouts.columns}


def _zero_variance_share(rollouts: Rollouts) -> float:
    """Share of groups whose rewards are all equal: no gradient for a group-relative advantage."""
    reward, group = rollouts.column("reward"), rollouts.group
    unique = group.unique()
    if not len(unique):
        return float("nan")
    return float(np.mean([bool((reward[group == g] == reward[group == g][0]).all()) for g in unique]))


Callback = Callable[[Any, int], Mapping[str, float]]
"""`callback(trainer, step)`: further numbers, logged whenever held-out prompts are answered. It must draw from no
stream of the run and leave the trainer as it found it."""


class _Training(Hooks):
    """A trainer as the training loop drives it."""

    def __init__(self, trainer: TextTrainer, callback: Callback | None) -> None:
        self.trainer, self.callback = trainer, callback
        self.step_metrics: dict[str, float] = {}
        self.final: dict[str, float] = {}
        """Metrics of the last evaluation, without those of the callback."""

    def state(self) -> Mapping[str, Any]:
        return self.trainer.state()

    def resume(self, done: int) -> None:
        self.trainer.load_engine(done)

    def begin(self) -> Mapping[str, float]:
        evaluation = self.trainer.evaluate(0)
        metrics = evaluation.metrics()
        self.trainer.counts["initial_entropy"] = evaluation.answer_entropy
        return {**metrics, **self._called_back(0), "samples/total": 0.0, "tokens/total": 0.0}

    def step(self, step: int) -> None:
        self.step_metrics = self.trainer.step(step)
        if step + 1 == self.trainer.config.steps:
            self.trainer.report_never_solved()

    def metrics(self, done: int) -> Mapping[str, float]:  # noqa: ARG002
        return self.step_metrics

    def evaluate(self, done: int, last: bool) -> Mapping[str, float]:  # noqa: ARG002
        self.final = self.trainer.evaluate(done).metrics()
        return {**self.final, **self._called_back(done)}

    def shown(self, metrics: Mapping[str, float]) -> Mapping[str, float | str]:
        shown = {"reward": metrics.get("reward/mean"), "accuracy": self.final.get("held_out/accuracy")}
        return {name: value for name, value in shown.items() if value is not None}

    def _called_back(self, step: int) -> Mapping[str, float]:
        return dict(self.callback(self.trainer, step)) if self.callback else {}


@gives(*[name for name in METRICS if name.startswith("held_out/")], "samples/total", "tokens/total")
def train(config: TextConfig, run: Any, callback: Callback | None = None) -> Result:
    """Train a language policy; resume from the run's newest checkpoint when there is one.

    Args:
        config: the method, its task and its optimisation.
        run: the run (`pilotage.runs.Run`) that keeps metrics and checkpoints.
        callback: gives further numbers whenever held-out prompts are answered; it changes nothing else of the run.

    Returns:
        The metrics of the last evaluation, and the numbers of answers and tokens that were sampled for training.
    """
    if run.finished:
        return Result(run=str(run.directory), metrics=run.result)
    for name, text in METRICS.items():
        run.describe_metric(name, text)
    trainer = TextTrainer(config, run)
    training = _Training(trainer, callback)
    train_loop(
        run,
        training,
        config.steps,
        checkpoint_every=config.checkpoint_every,
        evaluate_every=config.evaluate_every,
    )
    trainer.policy.save_pretrained(Path(run.directory) / "policy")
    trainer.close()
    final = {
        **training.final,
        "samples/total": trainer.counts["samples"],
        "tokens/total": trainer.counts["tokens"],
    }
    run.finish(final)
    return Result(run=str(run.directory), metrics=final)
