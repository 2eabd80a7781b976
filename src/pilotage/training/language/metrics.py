"""The metrics of a text run: what each means, and how it is made from the batch that the loss consumed."""

from __future__ import annotations

from typing import Any

import torch

from pilotage.types import STOP_REASONS, Item, Rollouts

METRICS = {
    "held_out/accuracy": "Share of right answers to held-out prompts at the training temperature, mean over levels.",
    "held_out/accuracy/level_*": "The same for one difficulty level.",
    "held_out/reward": "Mean reward of held-out answers, by the reward that is trained on.",
    "held_out/well_formed": "Share of held-out answers that keep the task's grammar.",
    "held_out/entropy": "Entropy in nats per token of the sampling distribution on held-out answers.",
    "held_out/length": "Mean length of held-out answers, in tokens.",
    "reward/mean": "Mean reward of the batch that was trained on; biased where a method chooses its prompts.",
    "reward/std": "Standard deviation of that reward over answers.",
    "advantage/mean": "Mean advantage over tokens, as the loss consumed it.",
    "advantage/std": "Standard deviation of the advantage over tokens.",
    "advantage/nonzero": "Share of answers with any non-zero advantage.",
    "entropy": "Entropy in nats per token of the sampling distribution on the training batch.",
    "length/mean": "Mean answer length of the batch, in tokens.",
    "truncated": "Share of answers cut at the token limit.",
    "groups/zero_variance": "Share of prompt groups whose rewards were all equal, before any filter.",
    "groups/trained": "Number of prompt groups in the batch that was trained on.",
    "samples/total": "Answers generated so far, discarded ones included.",
    "samples/rounds": "Rounds of roll-outs that this batch took.",
    "tokens/total": "Tokens generated for training so far, discarded ones included.",
    "failures/*": "Answers of this step that could not be scored, by reason; left out, never counted as zero.",
    "unfinished_reasoning": "Answers of this step whose reasoning was never finished, which counts as wrong.",
    "loss": "Value of the loss at the last update; comparable within a method only.",
    "ratio": "Mean ratio of new to old probability per token at the last update; 1 with one update per batch.",
    "kl_old": "Mean k3 estimate of the divergence from the sampling policy at the last update.",
    "logp": "Mean log-probability of the sampled tokens at the last update.",
    "gradient_norm": "Norm of the gradient before clipping, mean over the updates of the step.",
    "lr": "Learning rate.",
    "sampler_gap": "Mean absolute difference between the engine's and the trainer's log-probabilities, nats per token.",
    "weights/mean": "Mean token weight, where the method weighs tokens.",
    "critic/loss": "Loss of the critic (PPO): half the squared error of the clipped values.",
    "critic/explained_variance": "1 - Var(target - value) / Var(target) over tokens.",
}


def batch_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Metrics that anybody can compute again from the batch's columns."""
    mask, reward = rollouts.mask, rollouts.column("reward")
    advantage = rollouts.column("advantage")[mask].double()
    out = {
        "reward/mean": float(reward.double().mean()),
        "reward/std": float(reward.double().std(unbiased=False)),
        "advantage/mean": float(advantage.mean()),
        "advantage/std": float(advantage.std(unbiased=False)),
        "advantage/nonzero": float((rollouts.column("advantage") != 0).any(-1).double().mean()),
        "length/mean": float(rollouts.length.double().mean()),
        "truncated": float(rollouts.truncated.double().mean()),
    }
    if "entropy" in rollouts.columns:
        out["entropy"] = float(rollouts.columns["entropy"][mask].double().mean())
    if "token_weight" in rollouts.columns:
        out["weights/mean"] = float(rollouts.columns["token_weight"][mask].double().mean())
    return out


def rollout_record(rollouts: Rollouts, row: int, item: Item, text: str) -> dict[str, Any]:
    """Return one answer as it is written to rollouts.jsonl."""
    mask = rollouts.mask[row]
    advantage = rollouts.column("advantage")[row][mask]
    record: dict[str, Any] = {
        "item": item.id,
        "difficulty": item.difficulty,
        "prompt": item.prompt,
        "gold": item.answer,
        "completion": text,
        "ids": rollouts.ids[row][mask].tolist(),
        "group": int(rollouts.group[row]),
        "score": float(rollouts.column("score")[row]),
        "reward": float(rollouts.column("reward")[row]),
        "stop": STOP_REASONS[int(rollouts.stop[row])],
        "length": int(mask.sum()),
        "advantage": [round(float(value), 6) for value in advantage]
        if len(advantage) and not bool(torch.all(advantage == advantage[0]))
        else (float(advantage[0]) if len(advantage) else 0.0),
    }
    if "entropy" in rollouts.columns and len(advantage):
        record["entropy"] = float(rollouts.columns["entropy"][row][mask].double().mean())
    return record
