"""BNPO: the advantage divided by a Beta density that follows the pass rates of the batch."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.training.language.config import ACTIONS, RUN, TextConfig

CARD = Card(
    name="bnpo",
    family="reasoning",
    summary="Centred rewards are divided by a Beta density of the prompt's pass rate, whose exponents follow the "
    "distribution of pass rates in the batch and minimise the variance of the gradient.",
    audience="Whoever trains on 0/1 rewards and sees gradient norms jump as prompts move from hopeless to solved.",
    use_when="Rewards are 0/1 (or bounded), batches hold a dozen prompts or more, pass rates vary between prompts.",
    avoid_when="Batches hold fewer than four prompts: the fit falls back to plain centring, and says so.",
    paper=Paper("BNPO: Beta Normalization Policy Optimization", "2506.02864"),
    notes="""\
- (α, β) = (1 + a/3, 1 + b/3), where Beta(a, b) is fitted by moments to the pass rates of the batch's prompts. (1, 1)
  is REINFORCE with the group's mean, (3/2, 3/2) GRPO up to a constant.
- Pass rates that are all equal, or more bimodal than any Beta, fall back to (1, 1) instead of the NaN of the authors'
  code; components that never vary are passed over when rewards are decomposed (`--advantage bnpo_decomposed`).
- TRL's `loss_type="bnpo"` is something else: an average over the tokens of the local batch.
- One update per batch, so that clipping is idle, as in the paper.
""",
)

SYSTEM = System(
    CARD,
    TextConfig(
        advantage="bnpo",
        surrogate="clip:low=0.2,high=0.28,dual=10",
        aggregate="seq_mean_token_sum",
        prompts_per_step=32,
        group_size=16,
    ),
    RUN,
    ACTIONS,
    pieces={
        "advantage": {
            "bnpo": "pilotage.objectives.beta_normalisation:beta_norm",
            "bnpo_smoothed": "pilotage.objectives.beta_normalisation:SmoothedBetaNorm",
            "bnpo_decomposed": "pilotage.objectives.beta_normalisation:decomposed_beta_norm",
            "decoupled_zscore": "pilotage.objectives.decomposition:decoupled_zscore",
        }
    },
)
