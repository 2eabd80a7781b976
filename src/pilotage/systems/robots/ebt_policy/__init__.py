"""EBT-Policy: a scalar energy over action chunks; acting is a short descent on it that stops when it is at rest."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.training.imitation.config import ACTIONS, ImitationConfig

SYSTEM = System(
    Card(
        name="ebt-policy",
        family="robots",
        summary="Learns one scalar energy over chunks of actions; acting is a few descent steps on it, as many as the "
        "situation needs, and the energy says how sure the policy is.",
        audience="Anyone who runs diffusion policies and wants fewer passes per decision and a score that rises in odd "
        "situations.",
        use_when="A decision must be short, its length may vary, or something must notice that the situation is odd.",
        avoid_when="Training time is short: each step differentiates a gradient. And take the default head, not `ebt`, "
        "where demonstrations do different things in one situation.",
        paper=Paper("EBT-Policy: Energy Unlocks Emergent Physical Reasoning Capabilities", "2510.27545"),
        notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
    ),
    ImitationConfig(
        head="energy",
        network="residual_mlp:width=256,depth=3",
        steps=2000,
        grad_clip=1.0,
    ),
    "pilotage.training.imitation.trainer:train",
    {
        **ACTIONS,
        "compute": "pilotage.systems.robots.ebt_policy.actions:compute",
        "confidence": "pilotage.systems.robots.ebt_policy.actions:confidence",
    },
    metric="evaluation/success",
    pieces={
        "head": {
            "energy": "pilotage.policies.control.heads.energy_optimisation:EnergyOptimisation",
            "ebt": "pilotage.policies.control.heads.energy_optimisation:build_ebt",
            "descent": "pilotage.policies.control.heads.energy:EnergyByDescent",
        },
        "energy_loss": {
            "equilibrium_matching": "pilotage.policies.control.heads.energy:equilibrium_matching",
            "through_descent": "pilotage.policies.control.heads.energy_training:through_descent",
        },
        "encoder": {"causal": "pilotage.policies.control.causal_encoder:CausalEncoder"},
    },
)
