"""RiskPO: bundles of answers, weighed by the lower tail of their scores."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.training.language.config import ACTIONS, RUN, TextConfig

CARD = Card(
    name="riskpo",
    family="reasoning",
    summary="Answers to several prompts are summed into bundles; the objective is a mean value-at-risk of the bundle "
    "score, which weighs bad bundles more and ignores the best, so that hard prompts pull and entropy lasts longer.",
    audience="Anyone who sees entropy collapse and pass@k stall while pass@1 creeps up.",
    use_when="Many prompts are all wrong or all right in their group, and diversity of answers matters.",
    avoid_when="Batches are small, or reward scales differ between data sources: one then dominates the bundle sums.",
    paper=Paper("Risk-based Policy Optimization via Verifiable Reward for LLM Post-Training", "2510.00911"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    TextConfig(
        advantage="mvar:alpha=0.2,beta=0.8,omega=0.5,size=5,form=paper,credit=uniform",
        surrogate="clip:low=0.2,high=0.2,level=sequence",
        aggregate="seq_mean_token_mean",
        prompts_per_step=20,
        group_size=10,
    ),
    RUN,
    ACTIONS,
    pieces={"advantage": {"mvar": "pilotage.systems.reasoning.riskpo.advantage:BundledRisk"}},
)
