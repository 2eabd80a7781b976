"""Claims of LLM Economist (arXiv 2507.15815) at the scale of a laptop: 100 workers, 40 tax years.

Criteria and margins were fixed before the runs. There are three worlds. *smooth*: workers compute their best
responses, so that Saez's formula is nearly right. *learning*: workers are bandits who try all hours anew every tax
year. *personas*: costs of effort differ, workers keep habits, discontent halves utility, and Saez's formula is given
the paper's elasticities. A planner is compared with a schedule that is in force for the same workers of the same seed:
its share of the exact optimum cannot reach 1 where workers explore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.societies.llm_economist import measures

GAME = "llm-economist --checkpoint-every 100 --transcripts 0"
SMOOTH = f"{GAME} --workers rational --tax-year 1 --settled 1"
PERSONAS = f"{GAME} --workers persona --tax-year 4 --settled 1 --cost-spread .4 --satisfaction --elasticity .18,.11,.57"
NEAR = Criterion("not_worse", 0.02)
HIGHER = Criterion("better", 0.0)


def _claim(
    name: str,
    statement: str,
    source: str,
    arms: Mapping[str, str],
    compare: tuple[str, str],
    criterion: Criterion,
    **more: Any,
) -> Claim:
    """Return a claim on the share of the optimum in runs of the game, paired by seed: same people, same draws."""
    given = {"metric": "welfare/share_of_optimum", "n": 10, "cost": 2.5, "measure": measures.played, **more}
    return Claim(
        name, statement, source, {a: Arm(c) for a, c in arms.items()}, criterion=criterion, compare=compare, **given
    )


def _ablation(name: str, statement: str, without: str) -> Claim:
    """Return a claim on pattern search in the learning world with and without a part of its prompt.

    Five past years are in the prompt, so that memory matters: the paper has 50 of thousands.
    """
    arms = {"without": f"{GAME} --history 5 {without}", "with": f"{GAME} --history 5"}
    return _claim(name, statement, "section on in-context learning", arms, ("with", "without"), HIGHER)


CLAIMS = [
    # ---- near the optimum --------------------------------------------------------------------------------------------
    _claim(
        "near the optimum",
        "After 40 tax years with workers who learn, welfare of the last five is at most 2 points of the optimum below "
        "what the same workers reach under the best schedule.",
        "abstract",
        {"optimum": f"{GAME} --planner optimum", "pattern": GAME},
        ("pattern", "optimum"),
        NEAR,
        primary=True,
        note="The planner is scripted: it searches by the text that a language model would be given.",
    ),
    _claim(
        "near the optimum: seven brackets",
        "The same with the seven federal brackets and workers who compute their best responses, against the best of "
        "pattern searches and CMA-ES.",
        "abstract; the paper has three brackets",
        {"optimum": f"{SMOOTH} --brackets federal --planner optimum", "pattern": f"{SMOOTH} --brackets federal"},
        ("pattern", "optimum"),
        NEAR,
        cost=3.0,
    ),
    _claim(
        "over random changes",
        "A planner that reads what happened exceeds random changes of rates by 5 points of the optimum or more.",
        "control, not in the paper",
        {"random": f"{GAME} --planner random", "pattern": GAME},
        ("pattern", "random"),
        Criterion("better", 0.05),
    ),
    _ablation(
        "replay by metric",
        "The best five schedules so far, given beside the last five years, raise the last years' welfare.",
        "--best 0",
    ),
    _ablation(
        "verbal gradient",
        "A sentence on what the last change did raises the last years' welfare.",
        "--no-advice",
    ),
    # ---- Saez's formula ----------------------------------------------------------------------------------------------
    _claim(
        "over saez: misspecified",
        "Where people differ in the cost of effort, have habits and opinions, and the formula is given the paper's "
        "elasticities, the planner's last years are better than Saez's rates by 2 points of the optimum or more.",
        "abstract",
        {"saez": f"{PERSONAS} --planner saez", "pattern": PERSONAS},
        ("pattern", "saez"),
        Criterion("better", 0.02),
        n=20,
        primary=True,
    ),
    _claim(
        "over saez: smooth",
        "Where workers compute, and the formula is given the elasticity that holds, the planner is still better.",
        "abstract",
        {"saez": f"{SMOOTH} --planner saez", "pattern": SMOOTH},
        ("pattern", "saez"),
        HIGHER,
        n=20,
        cost=0.5,
        note="A gain of .5 to 2 points was expected. The formula stands at the fixed point of its own rates.",
    ),
    # ---- populations -------------------------------------------------------------------------------------------------
    Claim(
        "the fit is near the survey",
        "The fitted distribution of incomes is at a distance of at most .1 from the wages of first earners in the "
        "Current Population Survey, grown to 2023.",
        "section on populations",
        {"gb2": Arm("llm-economist")},
        "near_the_survey",
        Criterion("exact"),
        unit="sample of 5,000 workers",
        n=10,
        measure=measures.incomes,
        cost=0.5,
        note="Another survey than the fit's; wages only, grown by 1.37 from 2013. The jobs also hold the distances to "
        "couples' wages and to earnings with self-employment.",
    ),
    Claim(
        "personas have the survey's marginals",
        "Ages and filing statuses of personas are distributed as in the survey (χ² at p = .001 for each draw).",
        "section on personas",
        {"personas": Arm("llm-economist")},
        "fits",
        Criterion("exact"),
        unit="draw of 400 personas",
        n=10,
        measure=measures.marginals,
        cost=1.0,
        note="Personas are drawn near each worker's income, so that marginals are met only if incomes are.",
    ),
    # ---- elections ---------------------------------------------------------------------------------------------------
    _claim(
        "voting over a planner",
        "Among personas with opinions, electing who sets the rates gives higher welfare, satisfaction counted, than a "
        "planner who seeks welfare.",
        "abstract",
        {"planner": PERSONAS, "elected": f"{PERSONAS} --planner elected"},
        ("elected", "planner"),
        HIGHER,
        n=20,
        primary=True,
        cost=1.5,
        note="The opposite was expected: winners choose what serves them.",
    ),
]
