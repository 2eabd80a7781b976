"""Columns that the language trainer gives to pieces."""

from __future__ import annotations

ALWAYS = frozenset(
    [
        "prompt_ids",
        "prompt_mask",
        "ids",
        "mask",
        "group",
        "item",
        "stop",
        "truncated",
        "length",
        "logp_sampled",
        "scores",
        "score",
        "correctness",
        "reward",
        "difficulty",
        "generator",
        "initial_entropy",
    ]
)
"""Columns and settings that every batch has before the first piece runs."""

ON_DEMAND = {
    "entropy": "the engine, or a scoring pass",
    "logp_old": "a scoring pass before the first update",
    "logp_ref": "a frozen copy of the first policy",
    "value": "a critic",
    "greedy_reward": "one more greedy answer per prompt",
}
"""Columns that the trainer makes when a piece asks for them, with what that costs."""

LIVE = frozenset({"logp", "policy_entropy"})
"""Columns that exist only inside an update, with gradients."""
