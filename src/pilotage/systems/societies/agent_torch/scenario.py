"""The city, its reported series, and the questions that decide its behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.llm import Provider, Service
from pilotage.systems.societies.agent_torch.archetypes import Archetypes, Ask, ByCases, Conversation, Template
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.data.epidemic_series import (
    BOROUGHS,
    change_against_month,
    kept_series,
    read_populations,
    read_weekly,
)
from pilotage.systems.societies.agent_torch.data.nyc_people import nyc_people
from pilotage.systems.societies.agent_torch.env import (
    Outcome,
    Parameters,
    Population,
    city,
    sample_counts,
    simulate,
    tiny_city,
    weekly,
)
from pilotage.systems.societies.agent_torch.scripted import AGE_WORDS, ISOLATION_PROMPT, read_citizen
from pilotage.systems.societies.agent_torch.yes_no import Poll, poll, scripted_yes_no
from pilotage.training.llm_service import open_service

LogPoll = Callable[[str, str, Poll], None]
"""Called with (who, prompt, poll) for some questions."""
STAND_IN = "citizens"
PLANTED_SCALE = 0.2
LOGGED_QUESTIONS = 3
"""About this many questions of a week are kept for the report."""


@dataclass(frozen=True)
class Scenario:
    """A city and the cases that were reported in it."""

    population: Population
    people: Tensor
    """Persons by borough, not agents, [boroughs] float32."""
    labels: tuple[str, ...]
    """Labels of the weeks."""
    reported: Tensor
    """Reported cases, [weeks, boroughs] float32."""
    planted: Mapping[str, Tensor] | None = None
    """Values behind an invented series: transmission [weeks] and isolation [weeks, groups]."""

    def __len__(self) -> int:
        return len(self.labels)


def series_path(config: EpidemicConfig) -> Path:
    """Return the file of the series of a configuration that names one."""
    assert config.series is not None
    return kept_series() if str(config.series) == "nyc" else config.series


def build_scenario(config: EpidemicConfig) -> Scenario:
    """Build the city of a configuration. Raises UsageError for data that does not fit."""
    if config.series is None:
        return _planted(config)
    series = read_weekly(series_path(config)).between(config.start_week, config.end_week)
    if config.populations is not None:
        counts = read_populations(config.populations, series.boroughs)
    elif series.boroughs == tuple(BOROUGHS.values()):
        counts = nyc_people()
    else:
        raise UsageError(
            f"{series_path(config)} has the places {', '.join(series.boroughs[:5])}; give --populations FILE with "
            "their people (place, age_group, people), since only New York City's are built in"
        )
    total = int(counts.sum())
    agents = min(config.agents, total)
    population = city(
        counts if agents == total else sample_counts(counts, agents),
        boroughs=series.boroughs,
        weight=total / agents,
    )
    labels = tuple(str(week) for week in series.weeks)
    return Scenario(population, counts.sum(1).float(), labels, series.cases)


def num_observed_weeks(config: EpidemicConfig, scenario: Scenario) -> int:
    """Return the number of observed weeks. Raises UsageError where the series has no room for the horizon."""
    observed = config.observed_weeks or len(scenario) - config.horizon
    if observed < 2 or observed + config.horizon > len(scenario):
        raise UsageError(
            f"{observed} observed weeks and a horizon of {config.horizon} were asked for; the series has "
            f"{len(scenario)} weeks"
        )
    return observed


def _planted(config: EpidemicConfig) -> Scenario:
    """Simulate an invented city in which the scripted formula isolates people, and R rises and falls."""
    population = tiny_city(config.agents)
    people = population.counts().sum(1).float() * population.weight
    time = torch.linspace(0, 1, config.weeks)
    transmission = 3.6 + 0.8 * torch.sin(6.3 * time)
    template = Template(ISOLATION_PROMPT, attributes(population))
    groups = template.groups(columns(population), len(population))
    place = {label: index for index, label in enumerate(population.boroughs)}
    shares = torch.zeros(config.weeks, len(template.archetypes()))

    def isolation(week: int, history: Outcome) -> Tensor:
        before = weekly(history.cases)[:week] if week else torch.zeros(0, len(people))
        for index, archetype in enumerate(template.archetypes()):
            text = template.render(archetype, prompt_context(before, week, people, place[archetype["borough"]]))
            # A fifth of those who say that they would isolate do: with all of them the invented epidemic would end at
            # once, and with fewer a calibration has something to find.
            shares[week, index] = PLANTED_SCALE * (read_citizen(text) or 0.0)
        return shares[week]

    outcome = simulate(
        population,
        Parameters(transmission, isolation, torch.tensor(0.008), reporting=torch.tensor(config.reporting)),
        days=7 * config.weeks,
        seed=config.planted_seed,
        groups=groups,
    )
    labels = tuple(f"week {week + 1}" for week in range(config.weeks))
    planted = {"transmission": transmission, "isolation": shares}
    return Scenario(population, people, labels, weekly(outcome.cases), planted)


# ---- what a prompt says ----------------------------------------------------------------------------------------------


def attributes(population: Population) -> dict[str, Sequence[str]]:
    """Return the labels of each attribute that a prompt may name ("age", "borough")."""
    ages = AGE_WORDS if len(population.ages) == len(AGE_WORDS) else population.ages
    return {"age": ages, "borough": population.boroughs}


def columns(population: Population) -> dict[str, Tensor]:
    """Return one tensor [num_agents] per attribute ("age", "borough")."""
    return {"age": population.age, "borough": population.borough}


def prompt_context(before: Tensor, week: int, people: Tensor, place: int | None) -> dict[str, object]:
    """Return the variables of a prompt: cases per 10,000 in the last week, their change, and the week.

    Numbers are rounded, so that equal situations give equal prompts.

    Args:
        before: cases [weeks so far, boroughs].
        week: number of the week, from 0.
        people: persons [boroughs].
        place: index of the borough; None: the whole city.
    """
    counts, total = (before.sum(1), people.sum()) if place is None else (before[:, place], people[place])
    if not len(counts):
        return {"cases": "0.0", "change": 0, "week": week}
    change = float(change_against_month(counts[:, None])[-1])
    return {"cases": f"{1e4 * float(counts[-1] / total):.1f}", "change": 10 * round(10 * change), "week": week}


class LLMBehaviour:
    """Behaviour of a city from answers of a language model: partition into archetypes, facts of prompts, and service.

    Prompts of the observed weeks state reported cases; prompts of later weeks state those that a simulation reports.
    The rule and no behaviour at all are built here too.

    Args:
        config: behaviour, prompt and sampling.
        scenario: the city.
        observed_weeks: number of weeks whose reported cases may be stated.
        service: answers the questions; None for behaviour without questions.
    """

    def __init__(
        self, config: EpidemicConfig, scenario: Scenario, observed_weeks: int, service: Service | None
    ) -> None:
        self.config, self.scenario, self.observed_weeks, self.service = config, scenario, observed_weeks, service
        text = ISOLATION_PROMPT if config.prompt is None else config.prompt.read_text(encoding="utf-8").strip()
        labels = attributes(scenario.population)
        self.template = Template(text, labels)
        if unknown := sorted(set(self.template.dynamic) - {"cases", "change", "week"}):
            raise UsageError(f"the prompt has {{{unknown[0]}}}; it may use age, borough, cases, change, week")
        agents = len(scenario.population)
        if config.behaviour == "agents":
            self.groups = torch.arange(agents)
            self.sets = scenario.population.age.long()
        else:
            self.groups = self.template.groups(columns(scenario.population), agents)
            ages, kinds = list(labels["age"]), self.template.archetypes()
            self.sets = torch.tensor([ages.index(kind["age"]) if "age" in kind else 0 for kind in kinds])
        self._place = {label: index for index, label in enumerate(scenario.population.boroughs)}

    def build(
        self, log_poll: LogPoll | None = None, *, received: Callable[[Tensor], Tensor] | None = None
    ) -> Archetypes | ByCases | None:
        """Build a behaviour that has asked nothing yet and gives stated probabilities; None: no agent isolates.

        log_poll: called for the first questions, about LOGGED_QUESTIONS of each week. received: from simulated cases
        of later weeks [weeks, boroughs] to those that agents hear of; None: the same.
        """
        config = self.config
        if config.behaviour == "none":
            return None
        if config.behaviour == "rule":
            kinds = int(self.groups.max()) + 1
            return ByCases(partial(self._rate, received), kinds, threshold=config.threshold, cautious=config.cautious)
        facts = partial(self._facts, received)
        if config.behaviour == "agents":
            return _EachAgent(self.template, self._ask(log_poll), facts, self._labels(), config.history_length)
        present = torch.bincount(self.groups, minlength=len(self.template.archetypes())) > 0
        return Archetypes(
            self.template, self._ask(log_poll), facts, history_length=config.history_length, present=present
        )

    def cases_before(self, week: int, history: Any, received: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the cases of the weeks before `week` [week, boroughs]: reported, then received from the simulation."""
        reported = self.scenario.reported[: min(week, self.observed_weeks)]
        if week <= self.observed_weeks:
            return reported
        later = weekly(history.cases)[self.observed_weeks : week].detach()
        return torch.cat([reported, later if received is None else received(later)])

    def _facts(
        self, received: Callable[[Tensor], Tensor] | None, week: int, history: Any, archetype: Mapping[str, str]
    ) -> Mapping[str, object]:
        place = self._place[archetype["borough"]] if "borough" in archetype else None
        return prompt_context(self.cases_before(week, history, received), week, self.scenario.people, place)

    def _rate(self, received: Callable[[Tensor], Tensor] | None, week: int, history: Any) -> float:
        before = self.cases_before(week, history, received)
        return 1e4 * float(before[-1].sum() / self.scenario.people.sum()) if week else 0.0

    def _labels(self) -> list[dict[str, str]]:
        """Return the labels of every agent."""
        population, labels = self.scenario.population, attributes(self.scenario.population)
        return [
            {
                name: labels[name][int(value)]
                for name, value in (("age", a), ("borough", b))
                if name in self.template.of_agents
            }
            for a, b in zip(population.age, population.borough, strict=True)
        ]

    def _ask(self, log_poll: LogPoll | None) -> Ask:
        service, config = self.service, self.config
        if service is None:
            raise UsageError("this behaviour asks questions and needs a service")

        def ask(questions: Sequence[Conversation]) -> Sequence[Poll]:
            polls = poll(
                service,
                questions,
                draws=config.draws,
                first_token=config.first_token,
                temperature=config.temperature,
                max_tokens=config.max_tokens,
            )
            if log_poll is not None:
                for place in range(0, len(polls), max(1, len(polls) // LOGGED_QUESTIONS)):
                    log_poll(f"kind {place + 1} of {len(polls)}", questions[place][-1][1], polls[place])
            return polls

        return ask


class _EachAgent(Archetypes):
    """Behaviour with a question per agent: equal prompts are told apart by the agent's number."""

    def __init__(
        self, template: Template, ask: Ask, facts: Any, labels: list[dict[str, str]], history_length: int
    ) -> None:
        numbered = replace(template, system=f"{template.system} Answer for one single person.".strip())
        super().__init__(numbered, ask, facts)
        self.archetypes, self.history_length = labels, history_length
        self.present = torch.ones(len(labels), dtype=torch.bool)
        self._exchanges = [[] for _ in labels]

    def _prompt(self, place: int, week: int, history: Any) -> str:
        return f"{super()._prompt(place, week, history)} (Person {place + 1}.)"


# ---- the service ---------------------------------------------------------------------------------------------------


def scripted_provider(seed: int) -> Provider:
    """Return the provider that answers unless a model is named: the scripted formula."""
    return scripted_yes_no(read_citizen, STAND_IN, seed=seed)


def open_behaviour_service(
    config: EpidemicConfig, directory: Path | None, seed: int, stack: ExitStack
) -> Service | None:
    """Open the service that answers, closed by `stack`; None where no question is asked.

    Args:
        config: provider, model and budget.
        directory: directory of the run, which keeps the answers; None: answers are not kept.
        seed: seed of the scripted answers.
        stack: closes the service.
    """
    if not config.asks_a_model:
        return None
    return stack.enter_context(open_service(config, lambda: scripted_provider(seed), directory))
