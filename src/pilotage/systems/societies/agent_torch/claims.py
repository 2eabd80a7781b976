"""Claims of AgentTorch (arXiv 2409.10568), at the scale of a laptop.

Language models are scripted by a formula throughout, so that no claim is about a real one; and no number of the paper's
tables is compared, since they rest on a commercial model, mobility data and units that the text leaves open.
Real data: the winter wave of New York City 2020–21, weekly cases of five boroughs, from six rolling origins (units).
The file is looked for in $PILOTAGE_HOME/nyc-covid. Forecasts of this wave, with smaller cities, were looked at while
the particle filter, the level correction and the start of alignment were developed: claims about it are no blind test.

Reduced: 50,000 agents where R is planted; 0.5 % of the city in forecasts; ensembles of twenty simulations in place of
five seeds; 30 kinds of people (ages × boroughs) in place of 60.
"""

from __future__ import annotations

from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion, better
from pilotage.systems.societies.agent_torch import measures

WAVE = "agent-torch --series nyc --agents 41684 --horizon 4 --steps 25"
FORECAST_ARMS = {
    "none": f"{WAVE} --behaviour none",
    "rule": f"{WAVE} --behaviour rule",
    "archetypes": f"{WAVE} --behaviour archetypes",
    "aligned": WAVE,
    "persistence": f"{WAVE} --behaviour none --steps 0 --forecast-seeds 1",
}


def _invented(*arms: str) -> dict[str, Arm]:
    """Return arms on the invented city, whose measures tell them apart by name."""
    return dict.fromkeys(arms, Arm("agent-torch"))


def _forecast(name: str, other: str, words: str, source: str, **more: Any) -> Claim:
    """Return the claim that aligned archetypes forecast better than another arm."""
    return better(
        f"forecast: {name}",
        f"Four weeks ahead, aligned archetypes have a lower weighted interval score than {words}.",
        source,
        {arm: Arm(FORECAST_ARMS[arm]) for arm in ("aligned", other)},
        "log_wis",
        higher_is_better=False,
        measure=measures.wave,
        unit="forecast origin",
        n=6,
        cost=30.0,
        note="Origins share weeks, so that the interval over them is narrower than independent waves would give.",
        **more,
    )


CLAIMS = [
    Claim(
        "planted R comes back",
        "A hundred steps of Adam through every day recover eight planted weeks of R within 5 % on average.",
        "section on calibration",
        _invented("gradient"),
        "mean_within_5_percent",
        Criterion("exact"),
        measure=measures.recovery,
        unit="planted series",
        primary=True,
        cost=40.0,
    ),
    _forecast(
        "aligned archetypes over no behaviour",
        "none",
        "no behaviour at all",
        "abstract; table of forecast errors",
        primary=True,
    ),
    Claim(
        "the whole city in minutes",
        "8,336,817 agents live 60 days in 3 minutes of one processor, without gradients.",
        "abstract",
        _invented("full"),
        "60_days_in_3_minutes",
        Criterion("exact"),
        measure=measures.speed,
        unit="repetition",
        primary=True,
        cost=45.0,
        note="Seconds depend on the processor that the document names.",
    ),
    better(
        "gradients over CMA-ES",
        "At a hundred simulations each, Adam recovers R with a smaller error than CMA-ES.",
        "section on calibration",
        _invented("gradient", "cma"),
        "error",
        higher_is_better=False,
        measure=measures.recovery,
        unit="planted series",
        cost=30.0,
    ),
    Claim(
        "archetypes: finer is nearer",
        "The more kinds of people are told apart (1, 6, 30), the nearer the curve is to asking each of 2,000 people.",
        "section on archetypes",
        _invented("kinds", "ages", "one"),
        "error",
        Criterion("rank", 0.5),
        measure=measures.archetypes,
        unit="city",
        n=8,
        cost=4.0,
    ),
    _forecast("aligned over unaligned", "archetypes", "those taken at their word", "section on alignment"),
    _forecast("aligned over a rule", "rule", "a rule by cases", "table of forecast errors"),
    _forecast("aligned over persistence", "persistence", "the last known week again", "baseline added here"),
    better(
        "counterfactual: isolation two weeks earlier",
        "In the invented city, isolation as of two weeks later lowers cases of the known weeks.",
        "section on counterfactuals",
        _invented("earlier", "as it was"),
        "log_cases",
        higher_is_better=False,
        measure=measures.earlier,
        cost=30.0,
    ),
    better(
        "unemployment: behaviour over a constant",
        "Month by month left out, a regression tied over time on scripted behaviour errs less than a level alone.",
        "table of forecast errors",
        _invented("behaviour", "constant"),
        "mae",
        higher_is_better=False,
        measure=measures.unemployment,
        unit="borough",
        cost=1.0,
        note="The table of rates is not checked against BLS. Boroughs share the city's series: five units of one year.",
    ),
]
