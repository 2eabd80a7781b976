"""What to look at in a running training that its own metrics do not tell. A callback leaves the trainer as it found it.

Noise depends on the run's seed, a name and the step alone, so that a resumed run sees the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.objectives.groups import group_mean
from pilotage.rollouts.groups import sample_groups
from pilotage.training.language.update import accumulate_gradient
from pilotage.types import STOP_REASONS, Item, Rollouts


def first_of_each_difficulty(items: Sequence[Item], count: int) -> list[int]:
    """Positions of the first `count` items of every difficulty, in the order of `items`."""
    seen: dict[int, int] = {}
    chosen = []
    for position, item in enumerate(items):
        seen[item.difficulty] = seen.get(item.difficulty, 0) + 1
        if seen[item.difficulty] <= count:
            chosen.append(position)
    return chosen


def sample_answers(trainer: Any, items: Sequence[Item], answers: int, name: str, step: int) -> Rollouts:
    """`answers` answers of the engine's weights to each item, judged by the task's own check.

    Columns: reward [N] in [0, 1] (also as score), difficulty [N]. Nothing is counted, and no sampler learns of it.
    """
    rollouts = sample_groups(
        trainer.engine,
        [trainer.prompt(item) for item in items],
        list(range(len(items))),
        answers=answers,
        max_tokens=[trainer.max_tokens(item) for item in items],
        seeds=[trainer.run.seed_for(name, step, index) for index in range(len(items))],
        sampling=trainer.sampling,
        pad_id=trainer.policy.pad_id,
    )
    texts = [trainer.text(ids, mask) for ids, mask in zip(rollouts.ids, rollouts.mask, strict=True)]
    right = trainer.right(texts, [item for item in items for _ in range(answers)])
    rollouts.columns["reward"] = torch.tensor(right, dtype=torch.float32)
    rollouts.columns["score"] = rollouts.columns["reward"].clone()
    rollouts.columns["difficulty"] = torch.tensor([item.difficulty for item in items]).repeat_interleave(answers)
    return rollouts


def right_counts(rollouts: Rollouts, answers: int) -> np.ndarray:
    """Return number of right answers to each item, for roll-outs of `sample_answers`, [items]."""
    counts: np.ndarray = rollouts.column("reward").reshape(-1, answers).sum(1).numpy()
    return counts


def gold_rollouts(trainer: Any, items: Sequence[Item]) -> Rollouts:
    """Return the worked solutions of `items`, with the end-of-sequence token, as if they had been sampled."""
    policy = trainer.policy
    prompts = [trainer.prompt(item) for item in items]
    golds = [[*policy.encode(item.solution), policy.eos_ids[0]] for item in items]
    prompt_width, width = max(map(len, prompts)), max(map(len, golds))
    prompt_ids = torch.full((len(items), prompt_width), policy.pad_id)
    ids = torch.full((len(items), width), policy.pad_id)
    for row, (prompt, gold) in enumerate(zip(prompts, golds, strict=True)):
        prompt_ids[row, prompt_width - len(prompt) :] = torch.tensor(prompt)
        ids[row, : len(gold)] = torch.tensor(gold)
    lengths = torch.tensor([len(gold) for gold in golds])
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=torch.arange(prompt_width)[None] >= prompt_width - prompt_lengths[:, None],
        ids=ids,
        mask=torch.arange(width)[None] < lengths[:, None],
        group=torch.arange(len(items)),
        item=torch.arange(len(items)),
        stop=torch.full((len(items),), STOP_REASONS.index("eos")),
        logp_sampled=torch.zeros(ids.shape),
    )


def gold_entropy(trainer: Any, items: Sequence[Item]) -> float:
    """Entropy in nats per token along the worked solutions of `items`: the same prefixes for every policy."""
    rollouts = gold_rollouts(trainer, items)
    scored = trainer.likelihood.score(trainer.model, rollouts, entropy=True)
    return float(scored.entropy[rollouts.mask].double().mean())


def within_group_covariance(x: Tensor, y: Tensor, group: Tensor) -> float:
    """Covariance of x and y [N] under the policy, estimated within each prompt and averaged over answers.

    Divides by n − 1 within a group of n answers, so that it is unbiased.
    """
    dx, dy = x.double() - group_mean(x.double(), group), y.double() - group_mean(y.double(), group)
    size = torch.bincount(group.unique(return_inverse=True)[1])[group.unique(return_inverse=True)[1]].double()
    return float((dx * dy * size / (size - 1)).mean())


def unit_deviation(advantage: Tensor) -> Tensor:
    """Return the advantage [N] divided by its standard deviation over all answers; as it is where that is 0."""
    std = advantage.double().std(unbiased=False)
    return advantage.double() / (std if float(std) > 0 else 1.0)


def gradient_of(trainer: Any, rollouts: Rollouts, advantage: Tensor, rows: Tensor) -> np.ndarray:
    """Return gradient of the method's loss over `rows` [n] alone, with a given advantage [N] of every answer,
    [weights].

    The trainer's own gradients must be empty; they are again afterwards.
    """
    rollouts.columns["advantage"] = torch.where(rollouts.mask, advantage.float()[:, None], 0.0)
    accumulate_gradient(trainer.pieces, trainer.model, trainer.likelihood, rollouts, rows, on_policy=True)
    parts = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    gradient: np.ndarray = torch.cat(parts).double().numpy().copy()
    trainer.optimiser.zero_grad(set_to_none=True)
    return gradient
