"""LLM Economist: a planner sets marginal tax rates, a population reacts, and the distance to the optimum is known."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig

CARD = Card(
    name="llm-economist",
    family="societies",
    summary="Tries tax schedules on people who differ in wages and attitudes and react by working more or less: "
    "a planner, scripted, trained, elected or a language model, changes marginal rates once a year, and is measured "
    "against the best schedule, Saez's formula and the law.",
    audience="Policy analysts who want to see what a tax schedule does before it becomes law.",
    use_when="People differ and react in ways that a formula with one elasticity does not describe, and a "
    "planner that reads and answers in words is to be compared with the known optimum.",
    avoid_when="Households, capital or the full tax code matter, or figures for a real budget are needed: this is a "
    "model of labour supply with stylised workers.",
    paper=Paper(
        "LLM Economist: Large Population Models and Mechanism Design in Multi-Agent Generative Simulacra",
        "2507.15815",
    ),
    repeatability="exact given the journal",
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

PACKAGE = "pilotage.systems.societies.llm_economist"
SYSTEM = System(
    CARD,
    TaxDesignConfig(),
    run=f"{PACKAGE}.simulate:simulate",
    actions={
        "estimate_cost": f"{PACKAGE}.actions:estimate_cost",
        "optimum": f"{PACKAGE}.actions:optimum",
        "counterfactual": f"{PACKAGE}.actions:counterfactual",
    },
    metric="welfare/share_of_optimum",
    panels=f"{PACKAGE}.report:panels",
)
