"""The configuration of a city in an epidemic, calibrated to a series. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pilotage.core.configuration import INPUT_FILE
from pilotage.core.errors import UsageError
from pilotage.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, Share
from pilotage.llm.options import ServiceOptions

BehaviourName = Literal["none", "rule", "agents", "archetypes", "aligned"]
MAX_ASKED_AGENTS = 5000
"""Largest number of agents with `--behaviour agents`, where every agent is asked for itself."""


@dataclass(frozen=True)
class EpidemicConfig(ServiceOptions):
    """A city of agents in an epidemic, its behaviour, and the series it is calibrated to"""

    series: Annotated[Path | None, INPUT_FILE] = None
    """Daily or weekly cases of any city, a table with the columns date, place, cases, or New York City's
    data-by-day.csv as it is published; nyc: the file in $PILOTAGE_HOME/nyc-covid; none: an invented city whose series
    is simulated with planted values, which the result then compares with the recovered ones."""
    populations: Annotated[Path | None, INPUT_FILE] = None
    """Table of the people of the series, with the columns place, age_group (0-17, 65+), people; none: those of New York
    City, built in."""
    start_week: str = "2020-09-05"
    """Last day of the first week of the series that is used."""
    end_week: str = "2021-03-27"
    """Last day of the last week of the series that is used."""
    weeks: PositiveInt = 10
    """Number of weeks of the planted series."""
    observed_weeks: NonNegativeInt = 0
    """Number of weeks that the calibration may see; 0: all but the last `horizon`."""
    horizon: PositiveInt = 3
    """Number of weeks after the observed ones that are forecast and scored, 1 or more."""
    agents: Annotated[int, Range("[100, inf)")] = 50_000
    """Number of agents (N); in a real city each stands for its share of the people."""
    behaviour: BehaviourName = "aligned"
    """Who decides to isolate. none: no agent isolates; rule: a share of people isolates in weeks after many cases;
    agents: every agent is asked for itself; archetypes: agents with the same attributes in the prompt are asked about
    once; aligned: as archetypes, with a scale and a shift per age group that are calibrated."""
    prompt: Annotated[Path | None, INPUT_FILE] = None
    """Text of the question, with {age} and {borough} where the answer is to depend on them, and {cases}, {change},
    {week}; none: the built-in question."""
    draws: PositiveInt = 5
    """Number of answers to each question (n_arch)."""
    max_tokens: PositiveInt = 60
    """Largest number of tokens of an answer; a model that reasons before it answers needs more, such as 2000."""
    first_token: bool = False
    """Whether one call replaces the draws, of which the probabilities of the first token are taken."""
    history_length: NonNegativeInt = 0
    """Number of earlier questions and answers that the prompt of an archetype repeats (k)."""
    threshold: NonNegativeFloat = 10.0
    """Weekly cases per 10,000 people from which the rule isolates."""
    cautious: Share = 0.4
    """Share of people who isolate by the rule, 0 to 1."""
    parameters: Literal["direct", "calibnn"] = "direct"
    """What is calibrated. direct: R of each week; calibnn: a network that predicts R from the observed weeks."""
    r_low: PositiveFloat = 1.4
    """Smallest R_w. R_w multiplies the chance of each contact; one person infects about half of R_w people here."""
    r_high: PositiveFloat = 4.5
    """Largest R_w."""
    reporting: Annotated[float, Range("(0, 1]")] = 0.25
    """Share of cases that are reported, above 0 to 1; not calibrated."""
    steps: NonNegativeInt = 60
    """Number of Adam updates; each takes one simulation."""
    lr: PositiveFloat = 0.1
    """Learning rate of Adam for direct parameters; the network takes a twentieth of it (paper: 5e-3)."""
    num_validation_weeks: NonNegativeInt = 0
    """Number of last observed weeks that are not fitted and choose the best step (paper: 5)."""
    forecast_seeds: PositiveInt = 20
    """Number of simulations (particles, with --particle-filter) from which medians and intervals are computed."""
    level_correction: bool = True
    """Whether the forecast weeks of each simulation are multiplied by reported over simulated cases of the last two
    observed weeks, by borough and by at most a factor of four."""
    particle_filter: bool = True
    """Whether the simulations are resampled after every observed week in favour of those near to the reported cases,
    each with its own R around the calibrated one. False: each runs from the first week with the calibrated R."""
    planted_seed: int = 0
    """Seed of the planted series."""
    checkpoint_every: PositiveInt = 10
    """Number of updates between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.series is None and self.populations is not None:
            raise UsageError("--populations are of the people of a series: give --series too")
        if self.behaviour == "agents" and self.agents > MAX_ASKED_AGENTS:
            raise UsageError(
                f"--behaviour agents asks about each of {self.agents} agents every week; it is for up to "
                f"{MAX_ASKED_AGENTS}. Take --behaviour archetypes"
            )
        if self.r_low >= self.r_high:
            raise UsageError(f"expected r_low below r_high, got {self.r_low} and {self.r_high}")

    @property
    def asks_a_model(self) -> bool:
        """Return whether a language model, or the scripted stand-in, answers for agents."""
        return self.behaviour in ("agents", "archetypes", "aligned")
