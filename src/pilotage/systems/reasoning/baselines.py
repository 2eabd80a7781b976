"""The well-known methods as rows: what everything else is compared with. Each is a choice for each slot.

The numbers are those of the papers; where trainers differ (TRL, verl) the docs name the tuple of slots that runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilotage.core.system import Card, Paper, System
from pilotage.training.language.config import ACTIONS, RUN, TextConfig


def _row(
    name: str,
    summary: str,
    use_when: str,
    avoid_when: str,
    paper: Paper | None,
    config: TextConfig,
    pieces: Mapping[str, Mapping[str, str]] | None = None,
) -> System:
    card = Card(
        name=name,
        family="reasoning",
        summary=summary,
        audience="For anyone who needs a faithful baseline.",
        use_when=use_when,
        avoid_when=avoid_when,
        paper=paper,
        baseline=True,
    )
    return System(card, config, RUN, ACTIONS, pieces=pieces or {})


REINFORCE_PLUS_PLUS = Paper(
    "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization", "2501.03262"
)

SYSTEMS = [
    _row(
        "reinforce",
        "Policy gradient with the plain reward: every right answer is made more likely, wrong ones are left alone.",
        "You want the simplest estimator, as a yardstick.",
        "Rewards are mostly positive or mostly negative: without a baseline the gradient is noisy.",
        Paper("Simple Statistical Gradient-Following Algorithms for Connectionist RL (Williams 1992)", ""),
        TextConfig(advantage="score", surrogate="reinforce", aggregate="seq_mean_token_sum"),
        {
            "task": {
                "add": "pilotage.environments.text.arithmetic:Add",
                "chain10": "pilotage.environments.text.arithmetic:Chain10",
                "countdown": "pilotage.environments.text.puzzles:Countdown",
                "sort": "pilotage.environments.text.puzzles:Sort",
                "maze": "pilotage.environments.text.puzzles:Maze",
            },
            "sampler": {"uniform": "pilotage.data.curricula:UniformSampler"},
            "reward": {
                "exact": "pilotage.rewards.components:exact",
                "math": "pilotage.rewards.components:mathematical",
                "partial": "pilotage.rewards.components:partial",
                "format": "pilotage.rewards.components:well_formed",
                "overlong": "pilotage.rewards.components:overlong",
                "length": "pilotage.rewards.components:length",
            },
            "advantage": {
                "score": "pilotage.objectives.advantages:raw_reward",
                "batch_center": "pilotage.objectives.advantages:batch_center",
            },
            "surrogate": {"reinforce": "pilotage.objectives.surrogates:reinforce"},
            "aggregate": {
                "seq_mean_token_sum": "pilotage.objectives.aggregation:seq_mean_token_sum",
                "token_sum_norm": "pilotage.objectives.aggregation:token_sum_norm",
            },
        },
    ),
    _row(
        "reinforce-mean",
        "Policy gradient with the group's mean reward as baseline.",
        "You want an unbiased, low-variance gradient without dividing by a standard deviation.",
        "Answers per prompt are very few: the mean contains the answer itself.",
        None,
        TextConfig(advantage="center", surrogate="reinforce", aggregate="seq_mean_token_sum"),
        {"advantage": {"center": "pilotage.objectives.advantages:group_center"}},
    ),
    _row(
        "remax",
        "Policy gradient whose baseline is the reward of the greedy answer to the same prompt.",
        "You sample one or few answers per prompt.",
        "Greedy answers are unlike sampled ones, or decoding is the bottleneck.",
        Paper(
            "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning LLMs", "2310.10505"
        ),
        TextConfig(advantage="greedy_baseline", surrogate="reinforce", aggregate="seq_mean_token_sum"),
        {"advantage": {"greedy_baseline": "pilotage.objectives.advantages:greedy_baseline"}},
    ),
    _row(
        "rloo",
        "Each answer is compared with the mean of the other answers to its prompt.",
        "You want an unbiased baseline with few answers per prompt.",
        "You need token-level credit.",
        Paper("Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback", "2402.14740"),
        TextConfig(
            advantage="leave_one_out",
            penalty="kl:coefficient=0.05",
            surrogate="clip:level=trajectory",
            aggregate="seq_mean_token_sum",
        ),
        {"advantage": {"leave_one_out": "pilotage.objectives.advantages:leave_one_out"}},
    ),
    _row(
        "ppo",
        "Clipped policy gradient with a learned critic and generalised advantages per token.",
        "Token-level credit matters and you can afford a second network.",
        "Memory is short, or rewards come only at the end: group baselines do as well for less.",
        Paper("Proximal Policy Optimization Algorithms", "1707.06347"),
        TextConfig(
            advantage="gae",
            shaping="whiten",
            surrogate="clip",
            aggregate="token_mean",
            penalty="kl:coefficient=0.001",
            minibatches=4,
        ),
        {
            "advantage": {"gae": "pilotage.objectives.advantages:generalised_advantage"},
            "surrogate": {"clip": "pilotage.objectives.surrogates:clip"},
            "shaping": {"whiten": "pilotage.objectives.normalisation:whiten"},
            "penalty": {
                "kl": "pilotage.objectives.penalties:kl_in_reward",
                "adaptive_kl": "pilotage.training.language.kl_controller:AdaptiveKLPenalty",
            },
            "regulariser": {"entropy_bonus": "pilotage.objectives.regularisers:entropy_bonus"},
            "aggregate": {"token_mean": "pilotage.objectives.aggregation:token_mean"},
        },
    ),
    _row(
        "grpo",
        "Group-relative advantage: rewards standardised within the answers to one prompt, no critic.",
        "Rewards can be checked and several answers per prompt are cheap.",
        "Most groups are all right or all wrong, which give no gradient (see vade, dapo).",
        Paper("DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", "2402.03300"),
        TextConfig(advantage="zscore", surrogate="clip", aggregate="seq_mean_token_mean"),
        {
            "advantage": {
                "zscore": "pilotage.objectives.advantages:group_zscore",
                "grpo": "pilotage.objectives.advantages:group_zscore",
            },
            "aggregate": {"seq_mean_token_mean": "pilotage.objectives.aggregation:seq_mean_token_mean"},
            "regulariser": {"kl": "pilotage.objectives.regularisers:kl"},
        },
    ),
    _row(
        "dr-grpo",
        "GRPO without the division by the group's deviation and by the answer's length, which bias it.",
        "Answers grow longer without growing better.",
        "Reward scales differ much between prompts.",
        Paper("Understanding R1-Zero-Like Training: A Critical Perspective", "2503.20783"),
        TextConfig(advantage="center", surrogate="clip", aggregate="const_norm:maximum=64"),
        {"aggregate": {"const_norm": "pilotage.objectives.aggregation:const_norm"}},
    ),
    _row(
        "dapo",
        "GRPO with a higher upper clip, token-mean loss, and batches refilled with groups that are neither all right "
        "nor all wrong; its soft penalty of overlong answers is a reward (exact+overlong:maximum=…,buffer=…).",
        "Many groups carry no signal and sampling is cheap beside training.",
        "Sampling is the bottleneck: discarded answers are paid for (see vade).",
        Paper("DAPO: An Open-Source LLM Reinforcement Learning System at Scale", "2503.14476"),
        TextConfig(
            filter="informative",
            refill_rounds=10,
            advantage="zscore",
            surrogate="clip:low=0.2,high=0.28",
            aggregate="token_mean",
        ),
        {"filter": {"informative": "pilotage.objectives.filters:keep_informative"}},
    ),
    _row(
        "gspo",
        "GRPO whose importance ratio and clip are taken over the whole answer.",
        "Batches take several updates, or a mixture-of-experts policy makes token ratios noisy.",
        "Each batch takes one update: every ratio is 1 and it is GRPO.",
        Paper("Group Sequence Policy Optimization", "2507.18071"),
        TextConfig(advantage="zscore", surrogate="gspo", aggregate="seq_mean_token_mean", minibatches=4),
        {"surrogate": {"gspo": "pilotage.objectives.surrogates:gspo"}},
    ),
    _row(
        "reinforce-plus-plus",
        "Returns per token with a KL penalty inside the reward, standardised over the whole batch.",
        "You want one global scale of advantages and few answers per prompt.",
        "Prompts differ much in difficulty: a global baseline favours the easy ones.",
        REINFORCE_PLUS_PLUS,
        TextConfig(
            advantage="token_return",
            shaping="whiten",
            surrogate="clip",
            aggregate="token_mean",
            penalty="kl:coefficient=0.001",
        ),
        {
            "advantage": {"token_return": "pilotage.objectives.advantages:token_return"},
            "weights": {"importance": "pilotage.objectives.surrogates:importance_weight"},
        },
    ),
    _row(
        "reinforce-plus-plus-baseline",
        "Group means as baseline, then standardised over the whole batch, with a k2 divergence in the loss.",
        "As reinforce-plus-plus, with several answers per prompt.",
        "You need to stay without a reference model.",
        REINFORCE_PLUS_PLUS,
        TextConfig(
            advantage="center",
            shaping="whiten",
            surrogate="clip",
            aggregate="token_mean",
            regulariser="0.001*kl:kind=k2",
        ),
    ),
    _row(
        "cispo",
        "The importance weight is clipped and held constant, so that no token loses its gradient.",
        "Batches take several updates and rare, decisive tokens are clipped away by PPO-style losses.",
        "Each batch takes one update.",
        Paper("MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention", "2506.13585"),
        TextConfig(advantage="zscore", surrogate="cispo", aggregate="token_mean", minibatches=4),
        {"surrogate": {"cispo": "pilotage.objectives.surrogates:cispo"}},
    ),
]
