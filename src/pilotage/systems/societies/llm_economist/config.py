"""The configuration of a population that is taxed and reacts, and what can be done with its runs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.llm.options import ServiceOptions

Incomes = Literal["gb2", "cps-primary", "cps-unit", "cps-earned"]
WorkersName = Literal["rational", "adaptive", "persona", "llm"]
PlannerName = Literal[
    "pattern",
    "hill-climb",
    "reinforce",
    "gradient",
    "llm",
    "elected",
    "elected-llm",
    "random",
    "constant",
    "saez",
    "optimum",
]


@dataclass(frozen=True)
class TaxDesignConfig(ServiceOptions):
    """A population, a planner, and how many tax years they play"""

    agents: int = 100
    """Workers, 2 or more (paper: 5 to 100, later a million)."""
    incomes: Incomes = "gb2"
    """Where incomes at 40 hours come from: gb2: the distribution that the paper fitted to the American Community Survey
    2023; cps-primary, cps-unit, cps-earned: resampled from survey records: wages of a unit's first earner, of the
    couple, these and self-employment."""
    tax_units: Path | None = None
    """A CSV file of survey records in place of the 10,000 that come with the package."""
    income_growth: float = 1.37
    """By what survey incomes are multiplied: about 1.35 to 1.4 from 2013 to 2024. Of cps incomes only."""
    brackets: Literal["flat", "three", "federal"] = "three"
    """flat: one rate; three: from $0, $90,000 and $159,100; federal: the seven of `--year` and `--status`."""
    edges: tuple[float, ...] = ()
    """Lower edges of brackets of your own, in dollars, rising from 0; they replace `--brackets`."""
    year: int = 2024
    """Of the federal schedule, 2013 to 2026."""
    status: str = "single"
    """Filing status of the federal schedule: single, mjoint, mseparate, headhh, widow."""
    hours_step: float = 10.0
    """Steps of the grid of weekly hours from 0 to 100, above 0 to 50."""
    cost: float | None = None
    """c of the disutility c · hours^δ; none: calibrated so that the median worker chooses 40 hours at 22 % (the paper's
    .0005 makes hours irrelevant at annual incomes)."""
    delta: float = 3.5
    """δ, above 1: the elasticity of labour is 1 / (δ − 1)."""
    swf: Literal["fixed", "sum", "paper"] = "fixed"
    """Social welfare per head. fixed: mean of g · u, g from incomes without taxes; sum: mean of u; paper: mean of
    u / max(income, 1), which rewards a planner for making people stop working, so that the run warns."""
    weights_from: Literal["no_tax", "forty_hours"] = "no_tax"
    """Whose income the fixed weights are made of: chosen without taxes, or earned at 40 hours."""
    floor: float = 5000.0
    """Of incomes in the fixed weights, dollars, above 0."""
    altruistic: float = 0.0
    """Share of workers who want social welfare."""
    adversarial: float = 0.0
    """Share of workers who want less of it."""
    cost_spread: float = 0.0
    """Standard deviation of the logarithm of c among workers; personas: .4."""
    satisfaction: bool = False
    """Whether workers who are not content with the policy count half (r = .5). With `--workers llm` they are asked;
    otherwise a logistic rule of tax share and ideology draws."""
    workers: WorkersName = "adaptive"
    """rational: the best response, computed; adaptive: each an ε-greedy bandit over hours; persona: the best response
    with habits; llm: a language model, asked once per archetype."""
    epsilon: float = 0.1
    """ε of adaptive workers, 0 to 1."""
    inertia: float = 0.01
    """Gain, as a share of full-time income, below which persona workers stay with their hours."""
    planner: PlannerName = "pattern"
    """pattern, hill-climb, reinforce (a small trained network), llm: read the state and change rates; gradient: knows
    the model and follows its gradient; elected, elected-llm: voters choose who changes rates; random, constant:
    controls; saez, optimum: go to the formula's rates, or to the best found by search, and stay."""
    start: tuple[float, ...] = (50.0,)
    """First rates in percent, one for all or one per bracket."""
    federal_start: bool = False
    """Whether the first rates are the law's of `--year`; with `--brackets federal`."""
    years: int = 40
    """Tax years, 1 or more."""
    tax_year: int = 25
    """Steps of a tax year (paper: 25, 128 in large runs)."""
    settled: float = 0.5
    """Last part of a tax year by which it is judged, so that workers who still look around do not count."""
    final: float = 0.1
    """Last part of the years in which the planner is told to settle on the best."""
    judged_years: int = 5
    """Last tax years whose mean is the result: never the best year."""
    history: int = 50
    """Tax years that the planner is told of."""
    best: int = 5
    """Best schedules so far that it is told of."""
    advice: bool = True
    """Whether it is told in words what the last change did (the verbal gradient)."""
    attempts: int = 3
    """How often it is asked before rates stay as they are (paper: 10)."""
    candidates: int = 5
    """Of an election, drawn at random each year."""
    elasticity: tuple[float, ...] = (0.4,)
    """e of the Saez formula, one or one per bracket; the paper's for three brackets: .18,.11,.57."""
    updates: int = 150
    """Of `--planner reinforce`: gradient steps of its training, once per world and kept as an artifact."""
    temperature: float = 0.7
    """Of the model's answers."""
    max_tokens: int = 300
    """Most tokens of an answer."""
    skill_bins: int = 5
    """Bins of skill, for archetypes of `--workers llm`."""
    personas: int = 2
    """Personas per bin; bins × personas archetypes are asked, however many workers there are."""
    draws: int = 4
    """Answers per archetype and step, spread over its workers."""
    transcripts: int = 5
    """Every so many tax years the first exchange with each worker archetype is kept; 0: none. The planner's all are."""
    checkpoint_every: int = 5
    """Tax years between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.agents < 2 or self.years < 1 or self.tax_year < 1 or self.judged_years < 1 or self.checkpoint_every < 1:
            raise UsageError(
                "expected 2 or more agents and 1 or more years, steps, judged years and years between checkpoints, got "
                f"{self.agents}, {self.years}, {self.tax_year}, {self.judged_years} and {self.checkpoint_every}"
            )
        if not 0 < self.hours_step <= 50:
            raise UsageError(
                f"hours_step divides 0 to 100 weekly hours into two or more: above 0 to 50, got {self.hours_step}"
            )
        if self.federal_start and (self.brackets != "federal" or self.edges):
            raise UsageError("federal_start needs the law's brackets: --brackets federal, without --edges")
        if self.updates < 1 or self.transcripts < 0 or min(self.skill_bins, self.personas, self.draws) < 1:
            raise UsageError(
                "expected 1 or more updates, skill bins, personas and draws, and 0 or more transcripts, got "
                f"{self.updates}, {self.skill_bins}, {self.personas}, {self.draws} and {self.transcripts}"
            )
        if self.swf == "paper" and (self.altruistic or self.adversarial):
            raise UsageError("--swf paper goes with egotistical workers only: the others' choices would depend on all")

    @property
    def asks_a_model(self) -> bool:
        """Whether somebody is played by a language model, or by its stand-in."""
        return self.workers == "llm" or self.planner in ("llm", "elected-llm")


def run(config: TaxDesignConfig, run: Any) -> Result:
    """Play the tax years; the simulation is imported only now."""
    from pilotage.systems.societies.llm_economist.train import play

    return play(config, run)


def forecast(config: TaxDesignConfig) -> Mapping[str, Any]:
    """Steps, the most calls of a model, and seconds from a few timed steps."""
    from pilotage.systems.societies.llm_economist.actions import forecast as timed

    return timed(config)


def optimum(config: TaxDesignConfig, run: Path) -> Any:
    """The best schedule of a run's population beside Saez, the law, a flat 50 % and where the planner ended."""
    from pilotage.systems.societies.llm_economist.actions import optimum as found

    return found(config, run)


def counterfactual(
    config: TaxDesignConfig,
    run: Path,
    schedule: str = "optimum",
    against: str = "federal",
    seeds: int = 10,
    tax_years: int = 5,
) -> Any:
    """What another schedule would change for the same people, paired by seed, with 95 % intervals.

    schedule, against: federal, saez, optimum, final (where the planner ended), or rates in percent such as 70,60,40.
    seeds: populations and workers' draws, each met by both schedules. tax_years: how long each is in force; the first
    does not count."""
    from pilotage.systems.societies.llm_economist.actions import counterfactual as compared

    return compared(config, run, schedule, against, seeds, tax_years)


ACTIONS: Mapping[str, Callable[..., Any]] = {
    "estimate_cost": forecast,
    "optimum": optimum,
    "counterfactual": counterfactual,
}
