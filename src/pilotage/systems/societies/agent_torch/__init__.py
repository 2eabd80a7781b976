"""AgentTorch: a city person by person, behaviour from archetypes, calibrated to a real series by gradient."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.societies.agent_torch.config import ACTIONS, EpidemicConfig, run

CARD = Card(
    name="agent-torch",
    family="societies",
    summary="Simulates an epidemic in a city person by person, asks a language model once per kind of person who would "
    "isolate, calibrates both to reported cases by gradients through every day, forecasts, and replays the same weeks "
    "with one thing changed.",
    audience="Public-health and policy analysts who need waves, forecasts and counterfactuals from one model.",
    use_when="Behaviour matters and answers to cases, there is a series to calibrate to, and the question is what "
    "would have been otherwise.",
    avoid_when="A compartment model forecasts well enough, or the numbers have to be right for somebody's decision "
    "today: this is a research model with stylised contacts.",
    paper=Paper("On the limits of agency in agent-based models", "2409.10568"),
    repeatability="exact given the journal",
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    EpidemicConfig(),
    run,
    ACTIONS,
    metric="forecast/wis",
    panels="pilotage.systems.societies.agent_torch.report:panels",
)
