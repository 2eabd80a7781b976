"""The pieces of the language-model trainer by slot and name, and the columns that the trainer itself can give them."""

from __future__ import annotations

_O = "pilotage.objectives"
_T = "pilotage.trainers"

PIECES: dict[str, dict[str, str]] = {
    "sampler": {
        "uniform": "pilotage.data.curricula:UniformSampler",
        "thompson": "pilotage.data.curricula:BetaThompsonSampler",
    },
    "filter": {"informative": f"{_O}.filters:keep_informative"},
    "penalty": {"kl": f"{_O}.penalties:kl_in_reward", "adaptive_kl": f"{_T}.controllers:AdaptiveKLPenalty"},
    "advantage": {
        "score": f"{_O}.advantages:score_itself",
        "batch_center": f"{_O}.advantages:batch_center",
        "center": f"{_O}.advantages:group_center",
        "zscore": f"{_O}.advantages:group_zscore",
        "grpo": f"{_O}.advantages:group_zscore",
        "leave_one_out": f"{_O}.advantages:leave_one_out",
        "greedy_baseline": f"{_O}.advantages:greedy_baseline",
        "gae": f"{_O}.advantages:generalised_advantage",
        "token_return": f"{_O}.advantages:token_return",
        "bnpo": f"{_O}.beta_normalisation:beta_norm",
        "bnpo_decomposed": f"{_O}.beta_normalisation:decomposed_beta_norm",
        "decoupled_zscore": f"{_O}.decomposition:decoupled_zscore",
        "mvar": f"{_T}.risk:BundledRisk",
    },
    "shaping": {
        "entropy_shape": f"{_O}.conflict:entropy_shape",
        "whiten": f"{_O}.normalisation:whiten",
    },
    "weights": {
        "conflict": f"{_O}.conflict:conflict_weights",
        "importance": f"{_O}.surrogates:importance_weight",
    },
    "surrogate": {
        "reinforce": f"{_O}.surrogates:reinforce",
        "clip": f"{_O}.surrogates:clip",
        "gspo": f"{_O}.surrogates:gspo",
        "cispo": f"{_O}.surrogates:cispo",
    },
    "aggregate": {
        name: f"{_O}.aggregation:{name}"
        for name in ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm", "token_sum_norm")
    },
    "regulariser": {
        "kl": f"{_O}.regularisers:kl",
        "entropy_bonus": f"{_O}.regularisers:entropy_bonus",
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
    {"center", "zscore", "grpo", "leave_one_out", "bnpo", "bnpo_decomposed", "decoupled_zscore", "informative"}
)
"""Pieces that compare answers to one prompt and mean nothing with a single one."""

SINGLE_UPDATE = frozenset({"reinforce"})
"""Surrogates without an importance ratio: after the first update of a batch their gradient would be that of other
weights than sampled it."""
