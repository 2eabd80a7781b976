"""StockAgent: traders with characters and debts on a market of fictitious firms, with what-if switches."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.societies.stock_agent.config import StockMarketConfig

CARD = Card(
    name="stock-agent",
    family="societies",
    summary="Simulates a stock market of two fictitious firms on which traders with characters, debts and a forum, "
    "scripted, trained or played by a language model, set prices by their orders alone; rate decisions, reports, news "
    "and the forum can be switched off one by one on paired seeds.",
    audience="Market researchers and regulators who ask how investors react to rates, reports, rumours and herd talk.",
    use_when="You want to see what an outside factor changes among many different traders, without money at stake and "
    "without a model that remembers real prices.",
    avoid_when="You need forecasts or a strategy for a real stock: nothing here is fitted to one.",
    paper=Paper(
        "When AI Meets Finance (StockAgent): Large Language Model-based Stock Trading in Simulated Real-world "
        "Environments",
        "2407.18957",
    ),
    repeatability="exact given the journal",
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

PACKAGE = "pilotage.systems.societies.stock_agent"
SYSTEM = System(
    CARD,
    StockMarketConfig(),
    run=f"{PACKAGE}.simulate:simulate",
    actions={
        "estimate_cost": f"{PACKAGE}.actions:estimate_cost",
        "counterfactual": f"{PACKAGE}.actions:counterfactual",
    },
    metric="distance",
    panels=f"{PACKAGE}.report:panels",
)
