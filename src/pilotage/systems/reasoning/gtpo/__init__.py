"""GTPO: GRPO that protects what right and wrong answers share and leaves out answers that are too uncertain."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.training.language.config import ACTIONS, RUN, TextConfig

CARD = Card(
    name="gtpo",
    family="reasoning",
    summary="Right answers reinforce the tokens they share with wrong ones at the start and at the end; wrong answers "
    "do not punish them. Answers with high entropy are filtered and entropy lowers the advantage. No reference model.",
    audience="Small labs that fine-tune a policy with verifiable rewards and see format tags vanish or accuracy "
    "collapse.",
    use_when="Runs with GRPO collapse, or wrong answers outnumber right ones and punish the common format.",
    avoid_when="The policy starts above ln 2 nats of entropy per token, where the filter is off by definition, or you "
    "want several updates per batch: GTPO is exactly on-policy.",
    paper=Paper("GTPO: Stabilizing Group Relative Policy Optimization via Gradient and Entropy Control", "2508.03772"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    TextConfig(
        advantage="center",
        shaping="entropy_shape:gamma=0.1",
        weights="conflict:weight=2",
        surrogate="reinforce",
        aggregate="seq_mean_token_mean",
    ),
    RUN,
    ACTIONS,
    pieces={
        "shaping": {"entropy_shape": "pilotage.objectives.conflict:entropy_shape"},
        "weights": {"conflict": "pilotage.objectives.conflict:conflict_weights"},
    },
)
