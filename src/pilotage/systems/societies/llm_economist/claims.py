"""What LLM Economist promises (arXiv 2507.15815), at the scale of a laptop: 100 workers, 40 tax years.

Criteria and margins are the card's where it names one. Three worlds: *smooth*: workers compute their best responses, so
that Saez's formula is nearly right; *learning*: workers are bandits who try all hours anew every tax year; *personas*:
costs of effort differ, habits hold people back, discontent halves utility, and Saez is told the paper's elasticities.
A planner is compared with a schedule that the same workers of the same seed live under: its share of the exact optimum
cannot reach 1 where workers explore."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.societies.llm_economist import measures

GAME = "llm-economist --checkpoint-every 100 --transcripts 0"
SMOOTH = f"{GAME} --workers rational --tax-year 1 --settled 1"
ELASTICITIES = "--elasticity .18,.11,.57"
PERSONAS = f"{GAME} --workers persona --tax-year 4 --settled 1 --cost-spread .4 --satisfaction {ELASTICITIES}"
SHARE = "welfare/share_of_optimum"


def _claim(
    name: str,
    statement: str,
    source: str,
    arms: Mapping[str, str],
    compare: tuple[str, str],
    criterion: Criterion,
    **more: Any,
) -> Claim:
    """A claim on runs of the game, paired by seed: the same people, the same draws of theirs."""
    given = {"metric": SHARE, "n": 10, "cost": 2.5, "measure": measures.played, **more}
    return Claim(
        name, statement, source, {a: Arm(c) for a, c in arms.items()}, criterion=criterion, compare=compare, **given
    )


def _ablation(name: str, statement: str, source: str, without: str) -> Claim:
    """Pattern search in the learning world, with and without something that it is told. Few years are told, so that
    memory matters: the paper tells 50 of thousands."""
    return _claim(
        name,
        statement,
        source,
        {"without": f"{GAME} --history 5 {without}", "with": f"{GAME} --history 5"},
        ("with", "without"),
        Criterion("better", 0.0),
    )


def _population(name: str, statement: str, metric: str, **more: Any) -> Claim:
    given = {"measure": measures.incomes, "cost": 0.5, "unit": "sample of 5,000 workers", "n": 10, **more}
    arms = given.pop("arms", {"gb2": Arm("llm-economist")})
    criterion = given.pop("criterion", Criterion("exact"))
    return Claim(name, statement, "section on populations; card, claim 4", arms, metric, criterion, **given)


def _kinds(name: str, statement: str, metric: str, arm: str, *, higher: bool = True) -> Claim:
    return Claim(
        name,
        statement,
        "section on utilities; card, claim 3",
        {"selfish": Arm("llm-economist"), arm: Arm("llm-economist")},
        metric,
        Criterion("better", 0.0),
        compare=(arm, "selfish"),
        higher_is_better=higher,
        unit="population",
        n=20,
        measure=measures.kinds,
        cost=0.1,
        note="Flat 50 %; the same people, a tenth of 1,000 altruistic, another tenth adversarial, or all selfish.",
    )


def _unmeasured(name: str, statement: str, source: str, why: str) -> Claim:
    arms = {"planner": Arm("llm-economist")}
    return Claim(name, statement, source, arms, SHARE, Criterion("exact"), tier="long", unmeasured=why)


NEAR = Criterion("not_worse", 0.02)
LEARNING = {"optimum": f"{GAME} --planner optimum", "pattern": GAME}

CLAIMS = [
    # ---- 1: near the Stackelberg optimum -----------------------------------------------------------------------------
    _claim(
        "near the optimum",
        "After 40 tax years with workers who learn, welfare of the last five is at most 2 points of the optimum below "
        "what the same workers reach under the best schedule.",
        "abstract; card, claim 1",
        LEARNING,
        ("pattern", "optimum"),
        NEAR,
        primary=True,
        note="The planner is scripted: it searches by what a language model would be told.",
    ),
    _claim(
        "near the optimum: trained network",
        "The same for a small network that was trained by REINFORCE on other populations.",
        "card, claim 1",
        {"optimum": f"{GAME} --planner optimum", "network": f"{GAME} --planner reinforce"},
        ("network", "optimum"),
        NEAR,
        cost=4.0,
    ),
    _claim(
        "near the optimum: workers who compute",
        "The same with workers who compute their best responses, against the exact optimum of 1,331 schedules.",
        "card, claim 1",
        {"optimum": f"{SMOOTH} --planner optimum", "pattern": SMOOTH},
        ("pattern", "optimum"),
        NEAR,
        cost=1.5,
    ),
    _claim(
        "near the optimum: seven brackets",
        "The same with the seven federal brackets, against the best of pattern searches and CMA-ES.",
        "card, worlds",
        {"optimum": f"{SMOOTH} --brackets federal --planner optimum", "pattern": f"{SMOOTH} --brackets federal"},
        ("pattern", "optimum"),
        NEAR,
        cost=3.0,
    ),
    _claim(
        "over random changes",
        "Reading what happened is worth more than changing rates at random, by 5 points of the optimum or more.",
        "card, claim 1, controls",
        {"random": f"{GAME} --planner random", "pattern": GAME},
        ("pattern", "random"),
        Criterion("better", 0.05),
    ),
    _claim(
        "less regret than hill-climbing",
        "Over all 40 years pattern search loses less welfare than random hill-climbing.",
        "card, claim 1, regret",
        {"hill-climb": f"{GAME} --planner hill-climb", "pattern": GAME},
        ("pattern", "hill-climb"),
        Criterion("better", 0.0),
        metric="regret/mean",
        higher_is_better=False,
    ),
    _ablation(
        "replay by metric",
        "Being told the best five schedules so far, beside the last five years, raises the last years' welfare.",
        "section on in-context learning; card, claim 1, ablation",
        "--best 0",
    ),
    _ablation(
        "verbal gradient",
        "Being told in words what the last change did raises the last years' welfare.",
        "section on in-context learning; card, claim 1, ablation",
        "--no-advice",
    ),
    # ---- 2: Saez -----------------------------------------------------------------------------------------------------
    _claim(
        "over saez: misspecified",
        "Where people differ in the cost of effort, have habits and opinions, and the formula is told the paper's "
        "elasticities, the planner's last years are better than Saez's rates by 2 points of the optimum or more.",
        "abstract; card, claim 2",
        {"saez": f"{PERSONAS} --planner saez", "pattern": PERSONAS},
        ("pattern", "saez"),
        Criterion("better", 0.02),
        n=20,
        primary=True,
    ),
    _claim(
        "over saez: smooth",
        "Where workers compute, and the formula is told the elasticity that holds, the planner is still better.",
        "abstract; card, claim 2",
        {"saez": f"{SMOOTH} --planner saez", "pattern": SMOOTH},
        ("pattern", "saez"),
        Criterion("better", 0.0),
        n=20,
        cost=0.5,
        note="The card expects a head-room of .5 to 2 points. The formula stands at the fixed point of its own rates.",
    ),
    _claim(
        "over saez: elasticities alone",
        "Where workers compute, and the formula is told the paper's elasticities, the planner is better by 2 points.",
        "card, claim 2",
        {"saez": f"{SMOOTH} {ELASTICITIES} --planner saez", "pattern": f"{SMOOTH} {ELASTICITIES}"},
        ("pattern", "saez"),
        Criterion("better", 0.02),
        n=20,
        cost=1.5,
    ),
    _claim(
        "over saez: costs alone",
        "Where only the cost of effort differs among people, the planner is better by 2 points.",
        "card, claim 2",
        {"saez": f"{SMOOTH} --cost-spread .4 --planner saez", "pattern": f"{SMOOTH} --cost-spread .4"},
        ("pattern", "saez"),
        Criterion("better", 0.02),
        n=20,
        cost=1.5,
    ),
    # ---- 3: kinds ----------------------------------------------------------------------------------------------------
    _kinds(
        "altruists work more",
        "Altruists of better pay than most work more hours than the same people would if they were selfish.",
        "well-paid altruists' hours",
        "altruistic",
    ),
    _kinds("altruists raise welfare", "A tenth of altruists raises social welfare.", "welfare", "altruistic"),
    _kinds(
        "adversaries lower welfare",
        "A tenth of adversaries lowers social welfare.",
        "welfare",
        "adversarial",
        higher=False,
    ),
    Claim(
        "two workers by backward induction",
        "With two workers of any kinds the computed responses are an equilibrium, and the leader's optimum is that of "
        "backward induction over all schedules.",
        "thesis version; card, published results",
        {"game": Arm("llm-economist")},
        "equilibrium",
        Criterion("exact"),
        unit="two-worker game",
        n=16,
        measure=measures.backward_induction,
        cost=0.2,
    ),
    # ---- 4: populations ----------------------------------------------------------------------------------------------
    _population(
        "incomes follow the fit",
        "Sampled incomes are those of the fitted distribution (Kolmogorov-Smirnov at p = .001 for each sample).",
        "follows the fit",
    ),
    _population(
        "the fit is near the survey",
        "The fitted distribution of incomes is at a distance of at most .1 from the wages of first earners in the "
        "Current Population Survey, grown to 2023.",
        "near the survey",
        note="Another survey than the fit's; wages only, grown by 1.37 from 2013. The cells hold the distances to "
        "couples' wages and to earnings with self-employment.",
    ),
    _population(
        "resampling is nearer than the fit",
        "Incomes resampled from one half of the survey are nearer to the other half than the fitted distribution's.",
        "distance to primary",
        arms={"gb2": Arm("llm-economist"), "resampled": Arm("llm-economist")},
        criterion=Criterion("better", 0.0),
        compare=("resampled", "gb2"),
        higher_is_better=False,
    ),
    Claim(
        "personas have the survey's marginals",
        "Ages and filing statuses of personas are distributed as in the survey (χ² at p = .001 for each draw).",
        "section on personas; card, claim 4",
        {"personas": Arm("llm-economist")},
        "fits",
        Criterion("exact"),
        unit="draw of 400 personas",
        n=10,
        measure=measures.marginals,
        cost=1.0,
        note="Personas are drawn near each worker's income, so that marginals are met only if incomes are.",
    ),
    # ---- 5: voting ---------------------------------------------------------------------------------------------------
    _claim(
        "voting over a planner",
        "Among personas with opinions, electing who sets the rates gives higher welfare, satisfaction counted, than a "
        "planner who seeks welfare.",
        "abstract; card, claim 5",
        {"planner": PERSONAS, "elected": f"{PERSONAS} --planner elected"},
        ("elected", "planner"),
        Criterion("better", 0.0),
        n=20,
        primary=True,
        cost=1.5,
        note="The card expects the opposite: winners serve themselves.",
    ),
    _claim(
        "voting below the benevolent optimum",
        "With selfish voters who compute, elected rates are worse than the best schedule, by 2 points or more.",
        "card, claim 5 (not of the paper)",
        {"elected": f"{SMOOTH} --planner elected", "optimum": f"{SMOOTH} --planner optimum"},
        ("optimum", "elected"),
        Criterion("better", 0.02),
        n=20,
        cost=1.5,
    ),
    _claim(
        "voting over the law",
        "With selfish voters who compute, elected rates bring more welfare than the federal rates of 2024.",
        "card, claim 5 (not of the paper)",
        {
            "law": f"{SMOOTH} --brackets federal --federal-start --planner constant",
            "elected": f"{SMOOTH} --planner elected",
        },
        ("elected", "law"),
        Criterion("better", 0.0),
        metric="over/federal",
        n=20,
        cost=1.5,
    ),
    Claim(
        "voting and the median voter",
        "With one flat rate, what the elected set in the last years is what the worker of median skill likes best, to "
        "10 points.",
        "card, claim 5",
        {
            "median": Arm(f"{SMOOTH} --brackets flat --planner elected"),
            "elected": Arm(f"{SMOOTH} --brackets flat --planner elected"),
        },
        "rate",
        Criterion("same", 10.0),
        compare=("elected", "median"),
        unit="population",
        n=20,
        measure=measures.flat_rate,
        cost=2.0,
    ),
    # ---- 6: scale ----------------------------------------------------------------------------------------------------
    Claim(
        "welfare per head at any scale",
        "A million workers have the welfare per head of the hundred whose incomes they share.",
        "card, claim 6",
        {"100": Arm("llm-economist"), "1000000": Arm("llm-economist")},
        "welfare",
        Criterion("same", 1e-6),
        compare=("1000000", "100"),
        unit="hundred incomes",
        measure=measures.scale,
        cost=6.0,
    ),
    Claim(
        "cost is linear",
        "A year of a million workers costs at most half as much again per worker as one of ten thousand.",
        "card, claim 6",
        {"10000": Arm("llm-economist"), "1000000": Arm("llm-economist")},
        "log seconds per worker",
        Criterion("not_worse", math.log(1.5)),
        compare=("1000000", "10000"),
        higher_is_better=False,
        unit="hundred incomes",
        measure=measures.scale,
        cost=6.0,
        note="Processor time of one thread. The cells hold seconds and the most memory of the process.",
    ),
    # ---- 7: a differentiable planner ---------------------------------------------------------------------------------
    _claim(
        "the gradient of a relaxed model",
        "A planner that knows the model and follows the gradient of welfare through softmax-relaxed hours ends at most "
        "1 point below pattern search, which knows only what happened.",
        "card, claim 7 (not of the paper)",
        {"pattern": GAME, "gradient": f"{GAME} --planner gradient"},
        ("gradient", "pattern"),
        Criterion("not_worse", 0.01),
        cost=4.0,
    ),
    # ---- larger, and what nothing measures here ----------------------------------------------------------------------
    _claim(
        "near the optimum: a thousand workers",
        "With 1,000 workers who learn and tax years of 128 steps the planner ends at most 2 points below the optimum.",
        "section on scale; card, full scale",
        {
            "optimum": f"{GAME} --agents 1000 --tax-year 128 --planner optimum",
            "pattern": f"{GAME} --agents 1000 --tax-year 128",
        },
        ("pattern", "optimum"),
        NEAR,
        n=5,
        tier="long",
        cost=60.0,
    ),
    _unmeasured(
        "a language model near the optimum",
        "With up to 100 workers a language model as planner converges near the Stackelberg optimum.",
        "abstract",
        "needs an instruct model and about 40 calls per run: --planner llm --provider endpoint --model NAME; scripted "
        "stand-ins are no evidence",
    ),
    _unmeasured(
        "personas played by a language model",
        "Workers whom a language model plays as survey personas react plausibly, and voting among them helps.",
        "abstract",
        "needs an instruct model and 40 calls per step: --workers llm --planner elected-llm --provider endpoint",
    ),
    _unmeasured(
        "a fine-tuned planner",
        "A small language model trained by GRPO on the change of welfare plans better than its base.",
        "repository, newer training path",
        "no language model is trained in this system; the network of --planner reinforce stands for it",
    ),
    _unmeasured(
        "occupations",
        "Occupation × sex × age of the sampled workers follow the census.",
        "section on personas; card, claim 4",
        "the survey at hand has no occupations or sex, and the published code's table is of unknown origin",
    ),
]
