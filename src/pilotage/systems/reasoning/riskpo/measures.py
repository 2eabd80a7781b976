"""What is measured for RiskPO: trainings that are looked in on and the hardest level's gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pilotage.evaluation.matched import mean_over_progress
from pilotage.evaluation.sampling import pass_at_k

HARD_DIFFICULTIES = (3, 4)
EQUAL_ACCURACY = (0.38, 0.42)
"""Held-out accuracies between which entropies are compared: from where all arms start to where a baseline gets."""
PASSES = (1, 8, 32)


# ---- trainings -------------------------------------------------------------------------------------------------------


def look(trainer: Any, step: int) -> dict[str, float]:
    """Entropy along gold solutions, both advantages' covariances with log π; pass@k on hard levels at the end."""
    from pilotage.training.language import callbacks

    short = trainer.config.steps < 10
    tests = [trainer.tests[i] for i in callbacks.first_of_each_difficulty(trainer.tests, 4 if short else 50)]
    seen = {"gold_entropy": callbacks.gold_entropy(trainer, tests)}
    sampled = [trainer.items[i] for i in callbacks.first_of_each_difficulty(trainer.items, 2 if short else 5)]
    rollouts = callbacks.sample_answers(trainer, sampled, 16, "covariance", step)
    seen |= covariances(rollouts, trainer.run.seed_for("bundles", step))
    if step == trainer.config.steps:
        count = 4 if short else 24
        hard = [trainer.tests[i] for i in callbacks.first_of_each_difficulty(trainer.tests, count)]
        hard = [item for item in hard if item.difficulty in HARD_DIFFICULTIES]
        answers = PASSES[-1] if short else 2 * PASSES[-1]
        if hard:
            right = callbacks.right_counts(callbacks.sample_answers(trainer, hard, answers, "pass", step), answers)
            seen |= {f"pass@{k}": float(pass_at_k(right, answers, k).mean()) for k in PASSES}
    return seen


def covariances(rollouts: Any, seed: int) -> dict[str, float]:
    """Cov(log π(y|x), A) of GRPO's mean-centred and RiskPO's advantage on the same answers, each scaled to deviation 1.

    Also `assumption`: mean log π of right minus wrong answers within mixed groups, positive where probability rises
    with the reward (NaN without such groups). Quantiles are those of the batch itself.
    """
    import torch

    from pilotage.objectives.groups import group_mean
    from pilotage.systems.reasoning.riskpo.advantage import BundledRisk
    from pilotage.training.language.callbacks import unit_deviation, within_group_covariance

    reward, group = rollouts.column("reward"), rollouts.group
    logp = torch.where(rollouts.mask, rollouts.logp_sampled, 0.0).double().sum(-1)
    piece = BundledRisk(size=min(5, len(group.unique())))
    risk = piece(reward, group, torch.Generator().manual_seed(seed))["advantage"]
    centred = reward - group_mean(reward, group)
    gaps = []
    for one in group.unique():
        right = (reward > 0.5) & (group == one)
        wrong = (reward <= 0.5) & (group == one)
        if right.any() and wrong.any():
            gaps.append(float(logp[right].mean() - logp[wrong].mean()))
    return {
        "covariance/mean": within_group_covariance(logp, unit_deviation(centred), group),
        "covariance/mvar": within_group_covariance(logp, unit_deviation(risk), group),
        "assumption": float(np.mean(gaps)) if gaps else float("nan"),
    }


def trained(arm: str, seed: int, context: Any) -> dict[str, float]:
    """Return one training: accuracy by level, signal, entropy at equal accuracy, pass@k on the hard levels."""
    del arm, seed
    from pilotage.runs.metrics import read_lines

    result = context.train(callback=look)
    lines = read_lines(Path(result.run) / "metrics.jsonl")
    return {**result.metrics, **training_numbers(lines)}


def training_numbers(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return what a training's metrics say, line by line; see `trained`."""
    looks = [line for line in lines if "gold_entropy" in line]
    accuracy = [line["held_out/accuracy"] for line in looks]
    entropy = [line["gold_entropy"] for line in looks]
    last = looks[-1]
    hard = [last[f"held_out/accuracy/level_{level}"] for level in HARD_DIFFICULTIES]
    numbers = {
        "nonzero": float(np.mean([line["advantage/nonzero"] for line in lines if "advantage/nonzero" in line])),
        "gold_entropy": entropy[-1],
        "gold_entropy_at_equal_accuracy": mean_over_progress(accuracy, entropy, *EQUAL_ACCURACY),
        "hard_accuracy": float(np.mean(hard)),
        "easy_accuracy": last["held_out/accuracy/level_1"],
        **{f"pass@{k}": last[f"pass@{k}"] for k in PASSES},
    }
    for name in ("covariance/mean", "covariance/mvar", "assumption"):
        values = [line[name] for line in looks if line.get(name) is not None]
        numbers[name] = float(np.mean(values)) if values else float("nan")
    return numbers


def covariance(arm: str, seed: int, context: Any) -> dict[str, float]:
    """Return the mean over the looks of one training (the first is at the start) of the covariance of the advantage
    `arm`.
    """
    numbers = trained(arm, seed, context)
    return {
        "covariance": numbers[f"covariance/{arm}"],
        "assumption": numbers["assumption"],
        "held_out/accuracy": numbers["held_out/accuracy"],
    }


# ---- the gradient of the hardest level -------------------------------------------------------------------------------


def bundling_noise(arm: str, seed: int, context: Any) -> dict[str, float]:
    """Variance of the hardest level's gradient at the start of training, over fresh answers to the same prompts.

    Advantages have deviation 1 over the batch, so that the arms' scales do not matter. `log_variance` is the logarithm
    of tr Cov; `noise_share` its share of the second moment.
    """
    del arm
    from pilotage.core.configuration import config_to_dict
    from pilotage.runs import Run
    from pilotage.training.language import callbacks
    from pilotage.training.language.trainer import TextTrainer

    name, config = context.command.split()[0], context.configuration()
    draws = 3 if context.quick else 12
    with Run.create(context.directory, system=name, config=config_to_dict(config), seed=seed) as run:
        trainer = TextTrainer(config, run)
        items = trainer.items[: config.prompts_per_step]
        hardest = max(item.difficulty for item in items)
        gradients = []
        for draw in range(draws):
            rollouts = callbacks.sample_answers(trainer, items, config.group_size, "noise", draw)
            advantage = _fresh_advantage(trainer, rollouts, run.seed_for("bundles", draw))
            rows = (rollouts.column("difficulty") == hardest).nonzero().flatten()
            gradients.append(callbacks.gradient_of(trainer, rollouts, callbacks.unit_deviation(advantage), rows))
        trainer.close()
    table = np.stack(gradients)
    variance, second = float(table.var(0, ddof=1).sum()), float((table**2).sum(1).mean())
    return {
        "log_variance": float(np.log(variance)) if variance > 0 else float("nan"),
        "noise_share": variance / second if second > 0 else float("nan"),
    }


def _fresh_advantage(trainer: Any, rollouts: Any, seed: int) -> Any:
    """The advantage piece's, with the quantiles of this batch, because nothing was seen before."""
    import torch

    piece = trainer.pieces.advantage[0].stateful
    piece.tracker.quantiles = None
    generator = torch.Generator().manual_seed(seed)
    return piece(rollouts.column("reward"), rollouts.group, generator)["advantage"]
