"""Configuration of a run of LLM Economist: a population, its tax schedule and the planner who changes it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pilotage.core.configuration import INPUT_FILE
from pilotage.core.errors import UsageError
from pilotage.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, Share
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
    """A population of workers, a planner, and the number of tax years"""

    agents: Annotated[int, Range("[2, inf)")] = 100
    """Number of workers, 2 or more (paper: 5 to 100, later a million)."""
    incomes: Incomes = "gb2"
    """Source of the incomes at 40 hours a week. gb2: the distribution that the paper fitted to the American Community
    Survey 2023; cps-primary, cps-unit, cps-earned: resampled from survey records, with wages of a unit's first earner,
    wages of the couple, or these and income from self-employment."""
    tax_units: Annotated[Path | None, INPUT_FILE] = None
    """A CSV file of survey records in place of the 10,000 that come with the package."""
    income_growth: PositiveFloat = 1.37
    """Factor on survey incomes, about 1.35 to 1.4 from 2013 to 2024; with `--incomes cps-…` only."""
    brackets: Literal["flat", "three", "federal"] = "three"
    """flat: one rate; three: from $0, $90,000 and $159,100; federal: the seven of `--year` and `--status`."""
    edges: tuple[float, ...] = ()
    """Lower edges of other brackets, in dollars, rising from 0; they replace `--brackets`."""
    year: int = 2024
    """Year of the federal schedule, 2013 to 2026."""
    status: str = "single"
    """Filing status of the federal schedule: single, mjoint, mseparate, headhh, widow."""
    hours_step: Annotated[float, Range("(0, 50]")] = 10.0
    """Distance between choices of weekly hours, which go from 0 to 100; above 0, at most 50."""
    cost: float | None = None
    """Factor c of the disutility of work c · hours^δ; none: calibrated so that the median worker chooses 40 hours at a
    rate of 22 % (with the paper's .0005 nearly all work 100 hours, whatever the tax)."""
    delta: Annotated[float, Range("(1, inf)")] = 3.5
    """Exponent δ of the disutility of work, above 1; the elasticity of labour is 1 / (δ − 1)."""
    swf: Literal["fixed", "sum", "paper"] = "fixed"
    """Social welfare per head. fixed: mean of g · u, g from incomes without taxes; sum: mean of u; paper: mean of
    u / max(income, 1), which rewards a planner for making people stop working; the run warns about it."""
    weights_from: Literal["no_tax", "forty_hours"] = "no_tax"
    """Incomes from which the fixed weights are computed: those chosen without taxes, or those of 40 hours."""
    floor: PositiveFloat = 5000.0
    """Lower bound of incomes in the fixed weights, in dollars, above 0."""
    altruistic: Share = 0.0
    """Share of workers who maximise social welfare."""
    adversarial: Share = 0.0
    """Share of workers who minimise social welfare."""
    cost_spread: NonNegativeFloat = 0.0
    """Standard deviation of the logarithm of c among workers; personas: .4."""
    satisfaction: bool = False
    """Whether the utility of workers who are not content with the policy counts half (r = .5). With `--workers llm` the
    workers are asked; otherwise a logistic rule of tax share and ideology draws."""
    workers: WorkersName = "adaptive"
    """rational: the computed best response; adaptive: each worker is an ε-greedy bandit over hours; persona: the best
    response with habits; llm: a language model, asked once per archetype."""
    epsilon: Share = 0.1
    """Probability ε with which adaptive workers explore, 0 to 1."""
    inertia: float = 0.01
    """Gain, as a share of full-time income, below which persona workers keep their hours."""
    planner: PlannerName = "pattern"
    """pattern, hill-climb, reinforce (a small trained network) and llm read the state and change rates; gradient
    follows the gradient of the known model; with elected and elected-llm voters choose who changes rates; random and
    constant are controls; saez and optimum keep the rates of Saez's formula, or the best rates found by search."""
    start: tuple[float, ...] = (50.0,)
    """Rates of the first year in percent, one for all brackets or one per bracket."""
    federal_start: bool = False
    """Whether the first rates are the federal rates of `--year`; with `--brackets federal`."""
    years: PositiveInt = 40
    """Number of tax years, 1 or more."""
    tax_year: PositiveInt = 25
    """Steps of a tax year (paper: 25, 128 in large runs)."""
    settled: Annotated[float, Range("(0, 1]")] = 0.5
    """Last part of a tax year over which its metrics are averaged, in (0, 1], so that exploration does not count."""
    final: Share = 0.1
    """Last part of the years, 0 to 1, in which the planner is told to choose the best rates it knows."""
    result_years: PositiveInt = 5
    """Number of last tax years whose mean is the result (not the best year)."""
    history: int = 50
    """Number of past tax years in the planner's prompt."""
    best: int = 5
    """Number of best schedules so far in the planner's prompt."""
    advice: bool = True
    """Whether the planner's prompt says in words what the last change did (the verbal gradient)."""
    attempts: int = 3
    """Number of times the planner is asked before the rates stay as they are (paper: 10)."""
    candidates: int = 5
    """Number of candidates of an election, drawn at random each year."""
    elasticity: tuple[float, ...] = (0.4,)
    """Elasticity e of Saez's formula, one or one per bracket; the paper's for three brackets: .18,.11,.57."""
    updates: PositiveInt = 150
    """Number of gradient steps of the training of `--planner reinforce`; the network is kept as an artifact."""
    temperature: NonNegativeFloat | None = 0.7
    """Sampling temperature of the language model, 0 or more; at 0 all draws are the same; none: that of the endpoint,
    to which no temperature is sent, or 1 for a local model."""
    max_tokens: PositiveInt = 300
    """Largest number of tokens of an answer."""
    skill_bins: PositiveInt = 5
    """Number of bins of skill; together with the personas they make the archetypes of a language model."""
    personas: PositiveInt = 2
    """Number of personas per bin; bins × personas archetypes are asked, however many workers there are."""
    draws: PositiveInt = 4
    """Number of answers per archetype and step, spread over its workers."""
    transcripts: NonNegativeInt = 5
    """Tax years between the years whose first exchange with each worker archetype is kept; 0: none is kept. All
    exchanges with the planner are."""
    checkpoint_every: PositiveInt = 5
    """Number of tax years between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.federal_start and (self.brackets != "federal" or self.edges):
            raise UsageError("federal_start needs the law's brackets: --brackets federal, without --edges")
        if self.swf == "paper" and (self.altruistic or self.adversarial):
            raise UsageError("--swf paper goes with egotistical workers only: the others' choices would depend on all")

    @property
    def asks_a_model(self) -> bool:
        """Return whether workers or the planner are played by a language model or its scripted stand-in."""
        return self.workers == "llm" or self.planner in ("llm", "elected-llm")
