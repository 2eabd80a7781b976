"""The configuration of a city in an epidemic, calibrated to a series. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.llm.options import ServiceOptions

BehaviourName = Literal["none", "rule", "agents", "archetypes", "aligned"]
MOST_ASKED_AGENTS = 5000
"""Agents who are each asked for themselves."""


@dataclass(frozen=True)
class EpidemicConfig(ServiceOptions):
    """A city of agents in an epidemic, its behaviour, and the series it is calibrated to"""

    series: Path | None = None
    """Daily or weekly counts by borough, in the format of nychealth/coronavirus-data, such as its data-by-day.csv; nyc:
    the one in $PILOTAGE_HOME/nyc-covid; none: an invented city whose series was simulated with planted values, which
    the result then compares with what was recovered."""
    populations: Path | None = None
    """Table of people by borough and age group of the series; none: those of New York City, built in."""
    first: str = "2020-09-05"
    """Last day of the first week of the series that is used."""
    last: str = "2021-03-27"
    """Last day of the last one."""
    weeks: int = 10
    """Weeks of the planted series."""
    known: int = 0
    """Weeks that are known: calibrated to, and seen; 0: all but the last `horizon`."""
    horizon: int = 3
    """Weeks that are forecast from the last known one and scored, 1 or more."""
    agents: int = 50_000
    """Agents (N); of a real city each stands for its share of the people."""
    behaviour: BehaviourName = "aligned"
    """Who decides to isolate: none: nobody; rule: a share of people in weeks after many cases; agents: every agent is
    asked for itself; archetypes: agents alike in the prompt are asked about once; aligned: the same, and a scale and a
    shift for each age group are calibrated."""
    prompt: Path | None = None
    """Text of the question, with {age} and {borough} where it is to depend on them, and {cases}, {change}, {week};
    none: the built-in one."""
    draws: int = 5
    """Answers to each question (n_arch)."""
    first_token: bool = False
    """One call in their place, whose first token's probabilities are taken."""
    memory: int = 0
    """Earlier exchanges that an archetype is reminded of (k)."""
    threshold: float = 10.0
    """Weekly cases per 10,000 from which the rule acts."""
    cautious: float = 0.4
    """Share of people who then isolate, 0 to 1."""
    parameters: Literal["direct", "calibnn"] = "direct"
    """What is calibrated: direct: R of each week; calibnn: a network that gives it from the known weeks' features."""
    r_low: float = 1.4
    """Least R_w. It multiplies a contact's chance; infections of one person are about half of it here."""
    r_high: float = 4.5
    """Largest R_w."""
    reporting: float = 0.25
    """Share of cases that are reported, above 0 to 1; not calibrated."""
    steps: int = 60
    """Updates by Adam, a simulation each."""
    rate: float = 0.1
    """Learning rate of Adam for direct parameters; a twentieth of it for the network (paper: 5e-3)."""
    held_out: int = 0
    """Last known weeks that are not fitted and choose the best step (paper: 5)."""
    forecast_seeds: int = 20
    """Simulations of the calibrated city (particles, where they are steered), from which medians and bands are made."""
    anchored: bool = True
    """Whether each simulation's weeks to come are multiplied by what was reported over what it gave, borough by
    borough, in the last two known weeks (within a factor of four): a simulation that runs free from the first week has
    another level there."""
    steered: bool = True
    """Whether simulations that forecast are steered along the known weeks: after each, those near to what was reported
    go on in several copies, each with an R of its own around the calibrated one, which it keeps. False: they run free
    from the first week with the calibrated R, and end the known weeks anywhere."""
    planted_seed: int = 0
    """Of the planted series."""
    checkpoint_every: int = 10
    """Updates between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.series is None and self.populations is not None:
            raise UsageError("--populations are of the people of a series: give --series too")
        if self.agents < 100 or self.horizon < 1 or self.steps < 0 or self.forecast_seeds < 1 or self.draws < 1:
            raise UsageError(
                f"expected 100 agents or more and 1 or more of horizon, forecast_seeds and draws, got {self.agents}, "
                f"{self.horizon}, {self.forecast_seeds}, {self.draws}; steps are 0 or more ({self.steps})"
            )
        if self.behaviour == "agents" and self.agents > MOST_ASKED_AGENTS:
            raise UsageError(
                f"--behaviour agents asks about each of {self.agents} agents every week; it is for up to "
                f"{MOST_ASKED_AGENTS}. Take --behaviour archetypes"
            )
        if not 0 < self.r_low < self.r_high or not 0 < self.reporting <= 1:
            raise UsageError(
                "expected 0 < r_low < r_high and reporting in (0, 1], got "
                f"{self.r_low}, {self.r_high}, {self.reporting}"
            )
        if not 0 <= self.cautious <= 1:
            raise UsageError(f"cautious is a share, got {self.cautious}")

    @property
    def asks_a_model(self) -> bool:
        """Whether somebody is played by a language model, or by its stand-in."""
        return self.behaviour in ("agents", "archetypes", "aligned")


def run(config: EpidemicConfig, run: Any) -> Result:
    """Calibrate and forecast; the trainer is imported only now."""
    from pilotage.systems.societies.agent_torch.train import calibrate_and_forecast

    return calibrate_and_forecast(config, run)


def cost(config: EpidemicConfig) -> Mapping[str, Any]:
    """What a run will take: steps, most calls of the model, seconds from one timed step."""
    from pilotage.systems.societies.agent_torch.actions import cost as timed

    return timed(config)


def forecast(config: EpidemicConfig, run: Path, weeks: int = 4, seeds: int = 10) -> Any:
    """The weeks after the last one that the run knew, from its calibrated values: median, 50 % and 95 % intervals.

    weeks: to come. seeds: simulations."""
    from pilotage.systems.societies.agent_torch.actions import forecast as made

    return made(config, run, weeks, seeds)


def calibrate(
    config: EpidemicConfig, run: Path, method: Literal["adam", "cma", "abc"] = "cma", simulations: int = 60
) -> Any:
    """The known weeks once more by another method, beside the run's own loss, at so many simulations.

    method: adam, cma (CMA-ES) or abc (rejection). simulations: each method's."""
    from pilotage.systems.societies.agent_torch.actions import calibrate as again

    return again(config, run, method, simulations)


def counterfactual(
    config: EpidemicConfig,
    run: Path,
    change: Literal["frozen", "nobody", "earlier", "transmission", "pathogen"] = "earlier",
    by: float = 2.0,
    seeds: int = 10,
) -> Any:
    """What the calibrated weeks would have been with one thing changed: effects paired by seed, with 95 % intervals.

    change: frozen: behaviour at its mean over the weeks; nobody: nobody isolates; earlier: behaviour of `by` weeks
    later; transmission: R times `by`; pathogen: fatality times `by` as well as a flat R of its middle, behaviour as
    it was. by: see change. seeds: pairs; five or more for a verdict."""
    from pilotage.systems.societies.agent_torch.actions import counterfactual as changed

    return changed(config, run, change, by, seeds)


def unemployment(
    config: EpidemicConfig, run: Path, seeds: int = 5, cases: Literal["carried", "reported"] = "carried"
) -> Any:
    """Monthly unemployment by borough, 2020-08 to 2021-12: a regression of fifteen numbers on who goes to work, fitted
    on the months that a run of New York City knew, forecast after them, beside the same with behaviour held constant,
    and without the stimulus of December 2020 and March 2021. Kept for the report.

    seeds: pairs of simulations; five or more for a verdict. cases: in held-out months: carried: the last four known
    weeks' again; reported: the real ones, which no forecast of the future has."""
    from pilotage.systems.societies.agent_torch.unemployment import rates_of_run

    return rates_of_run(config, run, seeds=seeds, cases=cases)


ACTIONS: Mapping[str, Callable[..., Any]] = {
    "estimate_cost": cost,
    "calibrate": calibrate,
    "forecast": forecast,
    "counterfactual": counterfactual,
    "unemployment": unemployment,
}
