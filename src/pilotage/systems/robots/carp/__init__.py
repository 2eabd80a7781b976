"""CARP: a whole chunk of actions in a few passes, coarse tokens first and finer ones after."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.carp.config import TokensConfig

CARD = Card(
    name="carp",
    family="robots",
    summary="A residual quantiser turns chunks of actions into tokens at several scales of time; a transformer "
    "predicts them scale by scale, all tokens of a scale at once, so that a decision takes four small passes.",
    audience="Anyone who wants the accuracy of a diffusion policy from demonstrations at the price of a few passes.",
    use_when="A decision must take milliseconds, a chunk is smooth in time, and demonstrations may go several ways.",
    avoid_when="Actions are sharp in time (binary grippers among many smooth numbers are the worst case of the "
    "tokeniser), data is so scarce that codes stay unused, or guidance by gradients is needed: tokens have none.",
    paper=Paper("CARP: Visuomotor Policy Learning via Coarse-to-Fine Autoregressive Prediction", "2412.06782"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    TokensConfig(
        head="tokens",
        network="next_scale:width=64,depth=4",
        steps=3000,
        batch=128,
        lr=3e-3,
        weight_decay=0.05,
        beta1=0.9,
        beta2=0.95,
        grad_clip=2.0,
    ),
    "pilotage.training.imitation.trainer:train",
    {
        "estimate_cost": "pilotage.systems.robots.carp.train:estimate_cost",
        "play": "pilotage.training.imitation.play:play",
    },
    metric="evaluation/success",
    pieces={
        "head": {"tokens": "pilotage.systems.robots.carp.head:NextScaleTokens"},
        "network": {"next_scale": "pilotage.systems.robots.carp.model:NextScaleTransformer"},
        "tokeniser": {"multiscale": "pilotage.systems.robots.carp.tokeniser:MultiscaleTokeniser"},
    },
)
