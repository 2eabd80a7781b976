"""STL-diffusion: varied drives that keep a parametric rule; a denoiser, refinement, guidance, and its baselines."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig

CARD = Card(
    name="stl-diffusion",
    family="robots",
    summary="Trajectory optimisation turns one log per scene into many drives under a parametric Signal Temporal Logic "
    "rule; a masked denoiser learns them, and RefineNet repairs what breaks its rule while keeping the set varied.",
    audience="Anyone who simulates traffic and needs other road users that vary, keep rules and can be controlled.",
    use_when="You can write the rule down, its robustness has gradients, and one scene allows many good outcomes.",
    avoid_when="The one most likely outcome is what you want (it does not predict), or the rule cannot be "
    "differentiated.",
    paper=Paper("Diverse Controllable Diffusion Policy with Signal Temporal Logic", "2503.02924"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    DrivingConfig(),
    "pilotage.systems.robots.stl_diffusion.train:train",
    {"play": "pilotage.systems.robots.stl_diffusion.actions:play"},
    metric="success",
)
