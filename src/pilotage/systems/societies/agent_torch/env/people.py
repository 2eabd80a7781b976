"""Population of a city: age, borough, household, workplace and networks, in compact columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.groups import Groups
from pilotage.systems.societies.agent_torch.env.networks import Network

AGES = ("U19", "20t29", "30t39", "40t49", "50t64", "65A")
"""Age groups: up to 19, 20 to 29, …, 65 and above."""
WORKING = (1, 2, 3, 4)
"""Age groups that go to work."""


@dataclass(frozen=True)
class Population:
    """Agents of a city, sorted by borough."""

    age: Tensor
    """[N] uint8: age group."""
    borough: Tensor
    """[N] uint8, not decreasing."""
    households: Groups
    """Members stand next to each other in populations built here."""
    workplaces: Groups | None = None
    networks: Mapping[str, Network] = field(default_factory=dict)
    """Further contacts as stored edges, by name of the layer."""
    ages: tuple[str, ...] = AGES
    boroughs: tuple[str, ...] = ("city",)
    weight: float = 1.0
    """Persons that an agent stands for."""
    row: Tensor | None = None
    """[N] int64: the row of each agent in the table that it came from; None: the same."""

    def __post_init__(self) -> None:
        count = len(self.age)
        if not count:
            raise UsageError("a population needs at least one agent")
        for name, column, names in (("age", self.age, self.ages), ("borough", self.borough, self.boroughs)):
            if column.shape != (count,) or column.dtype != torch.uint8:
                raise UsageError(f"{name} must be [{count}] uint8, got {list(column.shape)} {column.dtype}")
            if int(column.max()) >= len(names):
                raise UsageError(f"{name} holds {int(column.max())}, but there are {len(names)} labels: {names}")
        # Compared, not subtracted: differences of uint8 wrap around.
        if (self.borough[1:] < self.borough[:-1]).any():
            raise UsageError("agents must be sorted by borough; `population_from` sorts them")
        if len(self.households.of) != count or (self.workplaces is not None and len(self.workplaces.of) != count):
            raise UsageError(f"households and workplaces must be of the same {count} agents")
        if not self.weight > 0:
            raise UsageError(f"an agent stands for more than 0 persons, got {self.weight}")
        for name, network in self.networks.items():
            if network.agents != count:
                raise UsageError(f"the network {name!r} is of {network.agents} agents, the population has {count}")

    def __len__(self) -> int:
        return len(self.age)

    @cached_property
    def borough_starts(self) -> tuple[int, ...]:
        """First agent of each borough, then the number of agents."""
        edges = torch.arange(len(self.boroughs) + 1, dtype=torch.int16)
        return tuple(torch.searchsorted(self.borough.to(torch.int16), edges).tolist())

    def counts(self) -> Tensor:
        """Return the number of agents, [boroughs, ages] int64."""
        cell = self.borough.long() * len(self.ages) + self.age
        return torch.bincount(cell, minlength=len(self.boroughs) * len(self.ages)).view(len(self.boroughs), -1)

    def to_rows(self, values: Tensor) -> Tensor:
        """Return a value per agent [agents, …] in the order of the table that the population came from."""
        if self.row is None:
            return values
        out = torch.empty_like(values)
        out[self.row] = values
        return out
