"""AgentTorch: a city person by person, behaviour by archetype, calibrated to a reported series by gradients."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.societies.agent_torch.config import EpidemicConfig

_HERE = "pilotage.systems.societies.agent_torch"
CARD = Card(
    name="agent-torch",
    family="societies",
    summary="Simulates an epidemic in a city person by person, asks a language model once per kind of person who would "
    "isolate, calibrates both to reported cases by gradients through every day, forecasts, and repeats the same weeks "
    "with one thing changed.",
    audience="Public-health and policy analysts who need waves, forecasts and counterfactuals from one model.",
    use_when="Behaviour matters and answers to cases, there is a series to calibrate to, and the question is what "
    "another policy would have changed.",
    avoid_when="A compartment model forecasts well enough, or a decision today depends on the numbers: this is a "
    "research model with stylised contacts.",
    paper=Paper("On the limits of agency in agent-based models", "2409.10568"),
    repeatability="exact given the journal",
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    EpidemicConfig(),
    f"{_HERE}.train:train",
    {
        "estimate_cost": f"{_HERE}.actions:estimate_cost",
        "calibrate": f"{_HERE}.actions:calibrate",
        "forecast": f"{_HERE}.actions:forecast",
        "counterfactual": f"{_HERE}.actions:counterfactual",
        "unemployment": f"{_HERE}.unemployment:unemployment",
    },
    metric="forecast/wis",
    panels=f"{_HERE}.report:panels",
)
