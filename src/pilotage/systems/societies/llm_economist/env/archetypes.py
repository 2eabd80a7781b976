"""Archetypes: groups of workers of similar skill with one persona, for whom a language model is asked once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pilotage.systems.societies.llm_economist.env.population import FULL_TIME, TaxUnits
from pilotage.systems.societies.llm_economist.prompts import Persona, describe


@dataclass(frozen=True)
class WorkerArchetypes:
    """Groups of workers of similar skill with one persona, who share an answer."""

    personas: tuple[Persona, ...]
    """One persona per archetype."""
    of_worker: Tensor
    """Archetype of each worker, int64 [worker]."""
    skill: Tensor
    """Mean dollars a year that one weekly hour brings, [archetype]."""

    def __len__(self) -> int:
        return len(self.personas)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Return the persona of each archetype in words."""
        return tuple(describe(persona) for persona in self.personas)

    def size(self) -> list[int]:
        """Return the number of workers of each archetype."""
        return torch.bincount(self.of_worker, minlength=len(self)).tolist()


def make_archetypes(
    skill: Tensor,
    units: TaxUnits,
    generator: torch.Generator,
    *,
    growth: float,
    bins: int = 5,
    personas: int = 2,
) -> WorkerArchetypes:
    """Group workers into archetypes: bins of equally many workers by skill, each with several personas.

    Personas are drawn from survey records of about the bin's income, with an ideology drawn for each.

    Args:
        skill: dollars a year that one weekly hour brings, [worker].
        units: survey records.
        generator: draws records and ideologies.
        growth: factor on survey incomes.
        bins: number of bins of skill.
        personas: number of personas per bin.
    """
    income = FULL_TIME * skill
    borders = income.quantile(torch.linspace(0, 1, bins + 1, dtype=income.dtype))
    which = torch.bucketize(income, borders[1:-1], right=True)
    earned = growth * units.columns["wages_primary"]
    people, means = list[Persona](), list[float]()
    of = torch.zeros(len(skill), dtype=torch.int64)
    for place in range(bins):
        members = (which == place).nonzero()[:, 0]
        order = members[torch.randperm(len(members), generator=generator)]
        middle = float(income[members].mean()) if len(members) else 0.0
        near = ((earned / max(middle, 1.0)).log().abs()).argsort()[:200]
        for group in order.tensor_split(personas):
            drawn = int(near[torch.randint(0, len(near), (1,), generator=generator)])
            ideology = float(2 * torch.rand(1, generator=generator) - 1)
            if not len(group):
                continue
            own = float(income[group].mean())
            of[group] = len(people)
            people.append(_persona(units, drawn, own, ideology))
            means.append(own / FULL_TIME)
    return WorkerArchetypes(tuple(people), of, torch.tensor(means, dtype=torch.float64))


def _persona(units: TaxUnits, row: int, income: float, ideology: float) -> Persona:
    column = {name: float(values[row]) for name, values in units.columns.items()}
    return Persona(
        age=max(16, int(column["age_head"])),
        status=units.status[row],
        children=int(column.get("children_u18", 0)),
        income=income,
        self_employed=column["self_employment"] > column["wages_primary"],
        ideology=ideology,
    )
