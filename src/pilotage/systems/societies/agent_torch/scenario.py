"""The city, its series, and what is asked about it: all that a calibration of an epidemic begins from."""

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
from pilotage.llm.yes_no import poll, scripted_yes_no
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
from pilotage.training.llm_service import open_service

STAND_IN = "citizens"
PLANTED_SCALE = 0.2
NOTED = 3
"""Questions of a week that are kept for the report, about so many."""


@dataclass(frozen=True)
class World:
    """A city and what was reported in it."""

    population: Population
    people: Tensor
    """[boroughs] float32: persons, not agents."""
    labels: tuple[str, ...]
    """Of the weeks."""
    reported: Tensor
    """[weeks, boroughs] float32: cases."""
    planted: Mapping[str, Tensor] | None = None
    """transmission [weeks] and isolation [weeks, groups] behind an invented series."""

    def __len__(self) -> int:
        return len(self.labels)


def series_path(config: EpidemicConfig) -> Path:
    """Of a configuration with a series."""
    assert config.series is not None
    return kept_series() if str(config.series) == "nyc" else config.series


def make_world(config: EpidemicConfig) -> World:
    """The city of a configuration. Raises UsageError for data that does not fit."""
    if config.series is None:
        return _planted(config)
    series = read_weekly(series_path(config)).between(config.first, config.last)
    counts = nyc_people() if config.populations is None else read_populations(config.populations)
    total = int(counts.sum())
    agents = min(config.agents, total)
    population = city(
        counts if agents == total else sample_counts(counts, agents),
        boroughs=tuple(BOROUGHS.values()),
        weight=total / agents,
    )
    labels = tuple(str(week) for week in series.weeks)
    return World(population, counts.sum(1).float(), labels, series.cases)


def known_weeks(config: EpidemicConfig, world: World) -> int:
    """Weeks that are known. Raises UsageError where the series has no room for the horizon."""
    known = config.known or len(world) - config.horizon
    if known < 2 or known + config.horizon > len(world):
        raise UsageError(
            f"{known} known weeks and a horizon of {config.horizon} were asked for; the series has {len(world)} weeks"
        )
    return known


def _planted(config: EpidemicConfig) -> World:
    """An invented city in which the stand-ins' formula isolates people, and R rises and falls."""
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
            text = template.render(archetype, facts_of(before, week, people, place[archetype["borough"]]))
            # Of those who say that they would, a fifth does: with all of them the invented epidemic ends at once, and a
            # calibration has something to find.
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
    return World(population, people, labels, weekly(outcome.cases), planted)


# ---- what a prompt says ----------------------------------------------------------------------------------------------


def attributes(population: Population) -> dict[str, Sequence[str]]:
    """Labels of what agents have."""
    ages = AGE_WORDS if len(population.ages) == len(AGE_WORDS) else population.ages
    return {"age": ages, "borough": population.boroughs}


def columns(population: Population) -> dict[str, Tensor]:
    """[N] of each attribute."""
    return {"age": population.age, "borough": population.borough}


def facts_of(before: Tensor, week: int, people: Tensor, place: int | None) -> dict[str, object]:
    """Cases per 10,000 of the last week, and their change, in a borough or (None) the city; rounded, so that equal
    situations are equal prompts. before [weeks so far, boroughs]."""
    counts, total = (before.sum(1), people.sum()) if place is None else (before[:, place], people[place])
    if not len(counts):
        return {"cases": "0.0", "change": 0, "week": week}
    change = float(change_against_month(counts[:, None])[-1])
    return {"cases": f"{1e4 * float(counts[-1] / total):.1f}", "change": 10 * round(10 * change), "week": week}


class Asked:
    """Behaviour of a city by what is asked: partition, facts, and who answers.

    Facts of the known weeks are what was reported; of later ones, what a simulation reports."""

    def __init__(self, config: EpidemicConfig, world: World, known: int, service: Service | None) -> None:
        self.config, self.world, self.known, self.service = config, world, known, service
        text = ISOLATION_PROMPT if config.prompt is None else config.prompt.read_text(encoding="utf-8").strip()
        labels = attributes(world.population)
        self.template = Template(text, labels)
        if unknown := sorted(set(self.template.dynamic) - {"cases", "change", "week"}):
            raise UsageError(f"the prompt has {{{unknown[0]}}}; it may use age, borough, cases, change, week")
        agents = len(world.population)
        if config.behaviour == "agents":
            self.groups = torch.arange(agents)
            self.sets = world.population.age.long()
        else:
            self.groups = self.template.groups(columns(world.population), agents)
            ages = list(labels["age"])
            self.sets = torch.tensor([ages.index(kind["age"]) if "age" in kind else 0 for kind in self._kinds()])
        self._place = {label: index for index, label in enumerate(world.population.boroughs)}

    def _kinds(self) -> list[dict[str, str]]:
        return self.template.archetypes()

    def behaviour(
        self, note: Callable[[str, str, Any], None] | None = None, *, heard: Callable[[Tensor], Tensor] | None = None
    ) -> Archetypes | ByCases | None:
        """A fresh one, that has asked nothing; None: nobody isolates. It says what was answered, not aligned.

        note: told of the first questions (who, prompt, poll), at most NOTED of each week. heard: from the simulated
        cases of weeks to come [weeks, boroughs] to those that people hear of; None: the same."""
        if self.config.behaviour == "none":
            return None
        if self.config.behaviour == "rule":
            kinds = int(self.groups.max()) + 1
            return ByCases(
                partial(self._rate, heard), kinds, threshold=self.config.threshold, cautious=self.config.cautious
            )
        facts = partial(self._facts, heard)
        if self.config.behaviour == "agents":
            return _Each(self.template, self._ask(note), facts, self._labels(), memory=self.config.memory)
        present = torch.bincount(self.groups, minlength=len(self._kinds())) > 0
        return Archetypes(self.template, self._ask(note), facts, memory=self.config.memory, present=present)

    def before(self, week: int, history: Any, heard: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[week, boroughs] cases of the weeks before: reported where known, else what is heard of the simulated."""
        known = self.world.reported[: min(week, self.known)]
        if week <= self.known:
            return known
        later = weekly(history.cases)[self.known : week].detach()
        return torch.cat([known, later if heard is None else heard(later)])

    def _facts(
        self, heard: Callable[[Tensor], Tensor] | None, week: int, history: Any, archetype: Mapping[str, str]
    ) -> Mapping[str, object]:
        place = self._place[archetype["borough"]] if "borough" in archetype else None
        return facts_of(self.before(week, history, heard), week, self.world.people, place)

    def _rate(self, heard: Callable[[Tensor], Tensor] | None, week: int, history: Any) -> float:
        before = self.before(week, history, heard)
        return 1e4 * float(before[-1].sum() / self.world.people.sum()) if week else 0.0

    def _labels(self) -> list[dict[str, str]]:
        """Of every agent."""
        population, labels = self.world.population, attributes(self.world.population)
        return [
            {
                name: labels[name][int(value)]
                for name, value in (("age", a), ("borough", b))
                if name in self.template.of_agents
            }
            for a, b in zip(population.age, population.borough, strict=True)
        ]

    def _ask(self, note: Callable[[str, str, Any], None] | None) -> Ask:
        service, config = self.service, self.config
        if service is None:
            raise UsageError("nobody is there to be asked: this behaviour needs a service")

        def ask(questions: Sequence[Conversation]) -> Any:
            polls = poll(
                service, questions, draws=config.draws, first_token=config.first_token, temperature=config.temperature
            )
            if note is not None:
                for place in range(0, len(polls), max(1, len(polls) // NOTED)):
                    note(f"kind {place + 1} of {len(polls)}", questions[place][-1][1], polls[place])
            return polls

        return ask


class _Each(Archetypes):
    """Every agent is asked for itself: equal prompts are told apart by the agent's number, so that nobody shares."""

    def __init__(
        self, template: Template, ask: Ask, facts: Any, labels: list[dict[str, str]], *, memory: int = 0
    ) -> None:
        numbered = replace(template, system=f"{template.system} Answer for one single person.".strip())
        super().__init__(numbered, ask, facts, memory=0)
        self.archetypes, self.memory = labels, memory
        self.present = torch.ones(len(labels), dtype=torch.bool)
        self._exchanges = [[] for _ in labels]

    def _prompt(self, place: int, week: int, history: Any) -> str:
        return f"{super()._prompt(place, week, history)} (Person {place + 1}.)"


# ---- who answers -----------------------------------------------------------------------------------------------------


def stand_in(seed: int) -> Provider:
    """Who answers unless a model is named."""
    return scripted_yes_no(read_citizen, STAND_IN, seed=seed)


def asked_service(config: EpidemicConfig, directory: Path | None, seed: int, stack: ExitStack) -> Service | None:
    """A service that closes with the stack; None where nobody is asked. Answers are kept in the run."""
    if not config.asks_a_model:
        return None
    return stack.enter_context(open_service(config, lambda: stand_in(seed), directory))
