"""VADE: prompts chosen by an online estimate of how much there is to learn from them."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.training.language.config import ACTIONS, RUN, TextConfig

CARD = Card(
    name="vade",
    family="reasoning",
    summary="Each training prompt keeps a Beta posterior of its pass rate; prompts are chosen by Thompson sampling of "
    "p(1−p)², so that few groups are all right or all wrong, without extra roll-outs.",
    audience="Whoever pays for roll-outs whose groups carry no gradient.",
    use_when="The set of prompts is finite and revisited at least once or twice, and rewards are 0/1 or in [0, 1].",
    avoid_when="Every prompt is seen once: the posterior never meets its prompt again.",
    paper=Paper("VADE: Variance-Aware Dynamic Sampling via Online Sample-Level Difficulty Estimation", "2511.18902"),
    notes="""\
- λ₁ = 0.2 (retained when selected) and λ₂ = 0.999 (otherwise) are inferred from a figure of the project page, where
  they match seven of eight values; the paper's body could not be read.
- The estimate is per prompt, not per level. Prompts that were never solved are listed in the report: they may be
  mislabelled.
- Works under any group-relative method: `pilotage run gspo --sampler thompson`.
- The image world of the paper comes with the vision systems.
""",
)

SYSTEM = System(
    CARD,
    TextConfig(sampler="thompson", advantage="zscore", surrogate="clip", aggregate="seq_mean_token_mean"),
    RUN,
    ACTIONS,
    pieces={"sampler": {"thompson": "pilotage.data.curricula:BetaThompsonSampler"}},
)
