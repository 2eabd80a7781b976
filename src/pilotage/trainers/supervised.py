"""Supervised training of a language policy on gold solutions, until a measured accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilotage.engines import build_engine
from pilotage.interfaces import Item, Sampling, Task
from pilotage.policies.language import LanguagePolicy, tiny_policy
from pilotage.rollouts.held_out import held_out


@dataclass(frozen=True)
class WarmUp:
    """How an embedded policy is warmed up."""

    size: str
    task: str
    levels: tuple[int, ...]
    accuracy: float
    """Held-out accuracy, mean over levels, at which to stop."""
    seed: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 64
    check_every: int = 25
    most_steps: int = 4000
    items: int = 8000
    """Size of the pool of training items."""


class WarmUpError(RuntimeError):
    """The accuracy asked for was not reached within the step limit."""


def level_weights(levels: Sequence[int]) -> np.ndarray:
    """Probability of each level in a warm-up batch: towards the easy ones, every level present (a graded profile)."""
    weights = np.array([0.75**rank for rank in range(len(levels))])
    return weights / weights.sum()


def supervised_batch(policy: LanguagePolicy, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, attention mask, labels), [B, L]: prompt, solution, one end-of-sequence token; only the last two trained."""
    rows = []
    for item in items:
        prompt = policy.encode(item.prompt)
        rows.append((prompt, policy.encode(item.solution, start=False) + [policy.eos_ids[0]]))
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), policy.pad_id)
    labels = torch.full((len(rows), width), -100)
    attention = torch.zeros((len(rows), width), dtype=torch.int64)
    for index, (prompt, answer) in enumerate(rows):
        length = len(prompt) + len(answer)
        ids[index, :length] = torch.tensor(prompt + answer)
        labels[index, len(prompt) : length] = torch.tensor(answer)
        attention[index, :length] = 1
    return ids, attention, labels


def warm_up(
    settings: WarmUp, task: Task, folder: Path, *, progress: Callable[..., Any] | None = None
) -> dict[str, float]:
    """Trains a fresh embedded policy and saves it to `folder`; returns steps, accuracy (mean and by level) and seconds.

    Raises WarmUpError when the accuracy is not reached within `most_steps`."""
    began = time.perf_counter()
    policy = tiny_policy(settings.size, task.vocabulary, settings.seed)  # type: ignore[attr-defined]
    model = policy.model
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.98), fused=True
    )
    generator = np.random.default_rng([settings.seed, 17])
    pool = task.pool(settings.items, "train", settings.seed)
    by_level = {level: [item for item in pool if item.level == level] for level in task.levels}
    weights = level_weights(task.levels)
    checks = task.pool(64 * len(task.levels), "held_out", settings.seed + 1)
    accuracy: dict[str, float] = {}
    for step in range(1, settings.most_steps + 1):
        chosen = generator.choice(len(task.levels), size=settings.batch, p=weights)
        items = [by_level[task.levels[i]][generator.integers(len(by_level[task.levels[i]]))] for i in chosen]
        ids, attention, labels = supervised_batch(policy, items)
        loss = model(input_ids=ids, attention_mask=attention, labels=labels).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % settings.check_every == 0:
            accuracy = measure(policy, task, checks, seed=step)
            if progress is not None:
                progress(step, loss=float(loss.detach()), accuracy=accuracy["held_out/accuracy"])
            if accuracy["held_out/accuracy"] >= settings.accuracy:
                policy.save(folder)
                return {**accuracy, "steps": step, "seconds": time.perf_counter() - began}
    raise WarmUpError(
        f"the policy {settings.size} on {settings.task} reached {accuracy.get('held_out/accuracy', 0.0):.2f} after "
        f"{settings.most_steps} steps, not {settings.accuracy}: ask for less (--warm-up), easier levels or a larger model"
    )


def measure(policy: LanguagePolicy, task: Task, items: Sequence[Item], seed: int) -> dict[str, float]:
    """Accuracy at temperature 1, one answer per item."""
    engine = build_engine("auto", policy)
    return held_out(
        engine,
        items,
        encode=lambda item: policy.encode(item.prompt),
        decode=policy.decode,
        judge=lambda texts, of: [task.score(item, text) for item, text in zip(of, texts, strict=True)],
        max_new=task.max_new,
        samples=1,
        sampling=Sampling(),
        seed=lambda index: seed * 1_000_003 + index,
    ).metrics()
