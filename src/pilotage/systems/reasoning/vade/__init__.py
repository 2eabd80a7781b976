"""VADE: prompts chosen by an online estimate of how much there is to learn from them."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.training.language.config import ACTIONS, RUN, TextConfig

CARD = Card(
    name="vade",
    family="reasoning",
    summary="Each training prompt keeps a Beta posterior of its pass rate; prompts are chosen by Thompson sampling of "
    "p(1−p)², so that few groups are all right or all wrong, without extra roll-outs.",
    audience="Anyone who pays for roll-outs whose groups carry no gradient.",
    use_when="The set of prompts is finite and revisited at least once or twice, and rewards are 0/1 or in [0, 1].",
    avoid_when="Every prompt is seen once: the posterior never meets its prompt again.",
    paper=Paper("VADE: Variance-Aware Dynamic Sampling via Online Sample-Level Difficulty Estimation", "2511.18902"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    TextConfig(sampler="thompson", advantage="zscore", surrogate="clip", aggregate="seq_mean_token_mean"),
    RUN,
    ACTIONS,
    pieces={"sampler": {"thompson": "pilotage.data.curricula:BetaThompsonSampler"}},
)
