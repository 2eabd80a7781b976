"""The metrics of a policy that learns from demonstrations: what each means."""

from __future__ import annotations

METRICS = {
    "loss": "Mean training loss since the last line, in the head's own unit; comparable within a head only.",
    "lr": "Learning rate.",
    "gradient_norm": "Mean norm of the gradient before clipping since the last line.",
    "validation/loss": "The loss on demonstrations held back, with the averaged weights and fixed noise.",
    "validation/action_error": "Mean absolute error of sampled chunks against the demonstrated ones, normalised units.",
    "evaluation/success": "Share of episodes that the world calls a success.",
    "evaluation/return": "Mean sum of rewards of an episode.",
    "evaluation/best_reward": "Mean over episodes of the highest reward of a step.",
    "evaluation/last_reward": "Mean over episodes of the last reward.",
    "evaluation/steps": "Mean length of an episode, in steps.",
    "evaluation/terminated": "Share of episodes that ended by themselves, not by the limit of steps.",
    "evaluation/clipped": "Share of actions outside the world's range, which were clipped.",
    "evaluation/mode_entropy": "Entropy, in bits, of the ways that successful episodes took.",
    "evaluation/result": "Mean share of the tasks that the goal asked for and the episode completed (0.49, then 1).",
    "evaluation/reward": "The same over any completed tasks, asked for or not.",
    "evaluation/conditional_ratio": "evaluation/result over evaluation/reward: the share of what was done.",
    "evaluation/calls": "Passes of the network per decision.",
    "evaluation/calls_per_step": "Passes of the network per executed action.",
    "evaluation/decisions": "Decisions per step.",
    "samples/total": "Windows trained on so far.",
}
