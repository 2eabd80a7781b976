"""What AgentTorch promises (arXiv 2409.10568), at the scale of a laptop.

Language models are scripted by a formula throughout, so nothing here says how a real one behaves; and no number of the
paper's tables is compared, since they rest on a commercial model, mobility data and units that its text leaves open.
Real: the winter wave of New York City 2020–21, weekly cases of five boroughs, from six rolling origins (units). The
file is looked for in $PILOTAGE_HOME/nyc-covid. Forecasts of this very wave were looked at, with smaller cities, while
the filter, the anchor and the start of alignment were made: claims about it are no blind test.

Reduced against the card: 50,000 agents where R is planted; 0.5 % of the city in forecasts, ensembles of twenty
simulations in place of five seeds; 30 kinds of people (ages × boroughs) in place of 60."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.societies.agent_torch import measures

WAVE = "agent-torch --series nyc --agents 41684 --horizon 4 --steps 25"
INVENTED = "agent-torch"


def _claim(name: str, statement: str, source: str, arms: Mapping[str, str], metric: str, **more: Any) -> Claim:
    made = {arm: Arm(command) for arm, command in arms.items()}
    return Claim(name, statement, source, made, metric, **{"criterion": Criterion("better"), **more})


def _below(
    name: str, statement: str, source: str, arms: Mapping[str, str], pair: tuple[str, str], **more: Any
) -> Claim:
    """The first of the pair has less of the metric."""
    return _claim(name, statement, source, arms, compare=pair, higher_is_better=False, **more)


def _arms(*names: str, command: str = INVENTED) -> dict[str, str]:
    return dict.fromkeys(names, command)


def _unmeasured(name: str, statement: str, source: str, reason: str) -> Claim:
    arms = {"agents": Arm(INVENTED)}
    return Claim(name, statement, source, arms, "forecast/wis", Criterion("exact"), tier="long", unmeasured=reason)


RECOVERY: dict[str, Any] = {"metric": "error", "measure": measures.recovery, "unit": "planted series", "cost": 30.0}
GRADIENT: dict[str, Any] = {"metric": "log off", "measure": measures.gradient_error, "unit": "city", "cost": 14.0}
SPEED: dict[str, Any] = {"measure": measures.speed, "unit": "repetition"}
AGENT_DAY: dict[str, Any] = {"metric": "log seconds per agent-day", "cost": 24.0, **SPEED}
NEARER: dict[str, Any] = {
    "metric": "error",
    "criterion": Criterion("rank", 0.5),
    "measure": measures.archetypes,
    "unit": "city",
    "n": 8,
    "cost": 4.0,
}
RATES: dict[str, Any] = {"metric": "mae", "measure": measures.unemployment, "unit": "borough", "cost": 1.0}
WEEKS: dict[str, Any] = {"metric": "log cases", "measure": measures.earlier, "cost": 30.0}
FORECAST: dict[str, Any] = {
    "metric": "log wis",
    "measure": measures.wave,
    "unit": "forecast origin",
    "n": 6,
    "cost": 30.0,
    "note": "Origins share weeks, so that the interval over them is narrower than independent waves would give.",
}
ONLINE = {
    "none": f"{WAVE} --behaviour none",
    "rule": f"{WAVE} --behaviour rule",
    "archetypes": f"{WAVE} --behaviour archetypes",
    "aligned": WAVE,
    "persistence": f"{WAVE} --behaviour none --steps 0 --forecast-seeds 1",
    "seir": f"{WAVE} --behaviour none --steps 0 --forecast-seeds 1",
}


NAMES = {
    "none": "aligned archetypes over no behaviour",
    "archetypes": "aligned over unaligned",
    "rule": "aligned over a rule",
    "persistence": "aligned over persistence",
    "seir": "aligned over a compartment model",
}


def _forecast(other: str, words: str, source: str, **more: Any) -> Claim:
    statement = f"Four weeks ahead, aligned archetypes have a lower weighted interval score than {words}."
    arms = {name: ONLINE[name] for name in (other, "aligned")}
    return _below(f"forecast: {NAMES[other]}", statement, source, arms, ("aligned", other), **FORECAST, **more)


CLAIMS = [
    _claim(
        "planted R comes back",
        "A hundred steps of Adam through every day recover eight planted weeks of R within 5 % on average.",
        "section on calibration; card, claim 3",
        _arms("gradient"),
        "mean within 5 %",
        criterion=Criterion("exact"),
        measure=measures.recovery,
        unit="planted series",
        primary=True,
        cost=40.0,
    ),
    _forecast("none", "no behaviour at all", "abstract; table of forecast errors; card, claim 4", primary=True),
    _claim(
        "the whole city in minutes",
        "8,336,817 agents live 60 days in 3 minutes of one processor, without gradients.",
        "abstract; card, claim 1",
        _arms("full"),
        "60 days in 3 minutes",
        criterion=Criterion("exact"),
        primary=True,
        cost=45.0,
        **SPEED,
        note="Seconds depend on the processor that the document names.",
    ),
    _claim(
        "the whole city under 3 GB",
        "The whole city without gradients takes at most 3 GB of memory.",
        "card, claim 1",
        _arms("full"),
        "under 3 GB",
        criterion=Criterion("exact"),
        cost=45.0,
        **SPEED,
    ),
    _below(
        "tensors over objects",
        "An agent-day costs at most a tenth of what it costs with an object per person.",
        "abstract; card, claim 1",
        _arms("full", "objects"),
        ("full", "objects"),
        criterion=Criterion("better", math.log(10)),
        **AGENT_DAY,
    ),
    _below(
        "cost is linear in agents",
        "An agent-day of the whole city costs at most twice that of a tenth of it.",
        "card, claim 1",
        _arms("tenth", "full"),
        ("full", "tenth"),
        criterion=Criterion("not_worse", math.log(2)),
        **AGENT_DAY,
    ),
    _below(
        "gradients over CMA-ES",
        "At a hundred simulations each, Adam recovers R with a smaller error than CMA-ES.",
        "section on calibration; card, claim 3",
        _arms("gradient", "cma"),
        ("gradient", "cma"),
        **RECOVERY,
    ),
    _below(
        "gradients over rejection",
        "At a hundred simulations each, Adam recovers R with a smaller error than approximate Bayesian computation.",
        "section on calibration; card, claim 3",
        _arms("gradient", "abc"),
        ("gradient", "abc"),
        **RECOVERY,
    ),
    _below(
        "gradients through days",
        "Gradients that pass from day to day recover R with a smaller error than those of single days.",
        "card, claim 3 (the reference detaches stages)",
        _arms("gradient", "same day"),
        ("gradient", "same day"),
        **RECOVERY,
    ),
    _below(
        "estimator: over straight-through",
        "One simulation's gradient through what happened is nearer to finite differences than straight-through.",
        "section on differentiability; card, claim 3",
        _arms("left", "straight_through"),
        ("left", "straight_through"),
        **GRADIENT,
    ),
    _below(
        "estimator: over smoothed perturbation",
        "One simulation's gradient through what happened is nearer to finite differences than smoothed perturbation.",
        "section on differentiability; card, claim 3",
        _arms("left", "smoothed"),
        ("left", "smoothed"),
        **GRADIENT,
    ),
    _below(
        "estimator: over the score function",
        "One simulation's gradient through what happened is nearer to finite differences than the score function's.",
        "section on differentiability; card, claim 3",
        _arms("left", "score"),
        ("left", "score"),
        **GRADIENT,
    ),
    _claim(
        "archetypes: finer is nearer",
        "The more kinds of people are told apart (1, 6, 30), the nearer the curve is to asking each of 2,000 people.",
        "section on archetypes; card, claim 2",
        _arms("kinds", "ages", "one"),
        **NEARER,
    ),
    _claim(
        "archetypes: more answers are nearer",
        "With 30 kinds, 20 answers give a curve nearer to asking everybody than 5, and 5 a nearer one than one.",
        "section on archetypes; card, claim 2",
        _arms("draws 20", "draws 5", "draws 1"),
        **NEARER,
    ),
    _forecast("archetypes", "those taken at their word", "section on alignment; card, claim 4"),
    _forecast("rule", "a rule by cases", "table of forecast errors; card, claim 4"),
    _forecast("persistence", "the last known week again", "card, claim 4"),
    _forecast("seir", "a four-parameter SEIR model", "card, claim 4"),
    _below(
        "counterfactual: isolation two weeks earlier",
        "In the invented city, isolation as of two weeks later lowers cases of the known weeks.",
        "section on counterfactuals; card, claim 6",
        _arms("as it was", "earlier"),
        ("earlier", "as it was"),
        **WEEKS,
    ),
    _below(
        "agents, no equation",
        "Those who live with somebody infected are at least twice as often infected within twelve days as others.",
        "card, traps",
        _arms("household", "elsewhere"),
        ("elsewhere", "household"),
        metric="log attack rate",
        criterion=Criterion("better", math.log(2)),
        measure=measures.attack_rates,
        unit="city",
        cost=1.0,
    ),
    _claim(
        "the known best wording",
        "P3O ends at the known best of twelve prompts in at least nine of ten seeds, on a scripted stand-in.",
        "section on prompt optimisation; card, claim 7",
        _arms("p3o"),
        "nine of ten",
        criterion=Criterion("exact"),
        measure=measures.wording,
        unit="ten seeds",
        cost=4.0,
    ),
    _below(
        "unemployment: behaviour over a constant",
        "Month by month left out, a regression tied over time on scripted behaviour errs less than a level alone.",
        "table of forecast errors; card, claim 5",
        _arms("constant", "behaviour"),
        ("behaviour", "constant"),
        **RATES,
        note="The table of rates is not checked against BLS. Boroughs share the city's series: five units of one year.",
    ),
    _below(
        "unemployment: behaviour over a trend",
        "Month by month left out, the same errs less than a straight line through time.",
        "card, claim 5 (ablation)",
        _arms("trend", "behaviour"),
        ("behaviour", "trend"),
        **RATES,
    ),
    _below(
        "counterfactual: behaviour frozen at its mean",
        "In the invented city, behaviour that answers to cases gives fewer cases than the same frozen at its mean.",
        "section on retrospective analysis; card, claim 6",
        _arms("as it was", "frozen"),
        ("as it was", "frozen"),
        **WEEKS,
        tier="long",
    ),
    _unmeasured(
        "errors of the paper",
        "Infections are forecast with an error of 95.17, unemployment with 24.59, below heuristics and alternatives.",
        "table of forecast errors",
        "answers of a commercial model, mobility data with terms of their own, and units that the text leaves open",
    ),
    _unmeasured(
        "archetypes correlate with what people did",
        "Isolation and employment by archetype correlate with observed trends by borough.",
        "section on archetypes",
        "what was observed is mobility data that may not be shipped, and a formula in a model's place proves nothing",
    ),
    _unmeasured(
        "turning points",
        "Adaptive behaviour beats the others at turning points of the wave.",
        "card, claim 4",
        "six origins of one wave hold two turning points, which would be chosen after seeing them",
    ),
    _unmeasured(
        "no stimulus",
        "Without the stimulus payments more people work.",
        "section on counterfactuals; card, claim 6",
        "`pilotage do agent-torch unemployment` shows it, but the scripted formula says so by construction",
    ),
    _unmeasured(
        "a next outbreak",
        "A model calibrated to one pathogen carries its behaviour over to another.",
        "section on prospective analysis; card, claim 6",
        "`pilotage do agent-torch counterfactual --change pathogen` shows it, but there is no truth to compare with",
    ),
    _unmeasured(
        "memory and peers",
        "Memory of past exchanges and of peers changes what archetypes do.",
        "section on behaviour; card, agency ladder",
        "the scripted formula reads the last question alone; `--memory` is there for a model, peers are not",
    ),
    _unmeasured(
        "against other frameworks",
        "A simulation is faster by orders of magnitude than in mesa.",
        "section on scale; card, claim 1",
        "a benchmark beside other libraries belongs to benchmarks/, not to claims",
    ),
]
