"""The pieces of the language-model trainer by slot and name, and the columns that the trainer itself can give them.

References are written out, because what a result depends on is read from the sources (`experiment/imports.py`)."""

from __future__ import annotations

PIECES: dict[str, dict[str, str]] = {
    "sampler": {
        "uniform": "pilotage.data.curricula:UniformSampler",
        "thompson": "pilotage.data.curricula:BetaThompsonSampler",
    },
    "filter": {"informative": "pilotage.objectives.filters:keep_informative"},
    "penalty": {
        "kl": "pilotage.objectives.penalties:kl_in_reward",
        "adaptive_kl": "pilotage.trainers.controllers:AdaptiveKLPenalty",
    },
    "advantage": {
        "score": "pilotage.objectives.advantages:score_itself",
        "batch_center": "pilotage.objectives.advantages:batch_center",
        "center": "pilotage.objectives.advantages:group_center",
        "zscore": "pilotage.objectives.advantages:group_zscore",
        "grpo": "pilotage.objectives.advantages:group_zscore",
        "leave_one_out": "pilotage.objectives.advantages:leave_one_out",
        "greedy_baseline": "pilotage.objectives.advantages:greedy_baseline",
        "gae": "pilotage.objectives.advantages:generalised_advantage",
        "token_return": "pilotage.objectives.advantages:token_return",
        "bnpo": "pilotage.objectives.beta_normalisation:beta_norm",
        "bnpo_smoothed": "pilotage.objectives.beta_normalisation:SmoothedBetaNorm",
        "bnpo_decomposed": "pilotage.objectives.beta_normalisation:decomposed_beta_norm",
        "decoupled_zscore": "pilotage.objectives.decomposition:decoupled_zscore",
        "mvar": "pilotage.trainers.risk:BundledRisk",
    },
    "shaping": {
        "entropy_shape": "pilotage.objectives.conflict:entropy_shape",
        "whiten": "pilotage.objectives.normalisation:whiten",
    },
    "weights": {
        "conflict": "pilotage.objectives.conflict:conflict_weights",
        "importance": "pilotage.objectives.surrogates:importance_weight",
    },
    "surrogate": {
        "reinforce": "pilotage.objectives.surrogates:reinforce",
        "clip": "pilotage.objectives.surrogates:clip",
        "gspo": "pilotage.objectives.surrogates:gspo",
        "cispo": "pilotage.objectives.surrogates:cispo",
    },
    "aggregate": {
        "token_mean": "pilotage.objectives.aggregation:token_mean",
        "seq_mean_token_mean": "pilotage.objectives.aggregation:seq_mean_token_mean",
        "seq_mean_token_sum": "pilotage.objectives.aggregation:seq_mean_token_sum",
        "const_norm": "pilotage.objectives.aggregation:const_norm",
        "token_sum_norm": "pilotage.objectives.aggregation:token_sum_norm",
    },
    "regulariser": {
        "kl": "pilotage.objectives.regularisers:kl",
        "entropy_bonus": "pilotage.objectives.regularisers:entropy_bonus",
    },
}

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
        "reward",
        "level",
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

GROUP_RELATIVE = frozenset(
    {
        "center",
        "zscore",
        "grpo",
        "leave_one_out",
        "bnpo",
        "bnpo_smoothed",
        "bnpo_decomposed",
        "decoupled_zscore",
        "informative",
    }
)
"""Pieces that compare answers to one prompt and mean nothing with a single one."""

SINGLE_UPDATE = frozenset({"reinforce"})
"""Surrogates without an importance ratio: after the first update of a batch their gradient would be that of other
weights than sampled it."""
