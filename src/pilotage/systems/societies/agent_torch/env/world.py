"""What stays the same during an episode, and who is isolating on a day."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.disease import Diagnostics, Disease
from pilotage.systems.societies.agent_torch.env.noise import Noise, thresholds
from pilotage.systems.societies.agent_torch.env.people import Population
from pilotage.systems.societies.agent_torch.env.substeps import Action, State


@dataclass(frozen=True)
class World:
    """People, pathogen, and which agents this process answers for."""

    population: Population
    disease: Disease
    group: Tensor
    """[N] integer: the archetype of each agent, the column of `isolation`."""
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    begin: int = 0
    """First agent of this shard; states hold the agents begin … end − 1, ids are those of the whole population."""
    end: int = -1
    """One past the last agent; -1: all."""

    def __post_init__(self) -> None:
        count = len(self.population)
        if self.end == -1:
            object.__setattr__(self, "end", count)
        if not 0 <= self.begin < self.end <= count:
            raise UsageError(f"a shard is a part of 0 … {count}, got {self.begin} … {self.end}")
        if self.group.shape != (count,) or self.group.is_floating_point() or int(self.group.min()) < 0:
            raise UsageError(
                f"groups must be [{count}] integers from 0, got {list(self.group.shape)} {self.group.dtype}"
            )
        if len(self.disease.fatality) != len(self.population.ages):
            raise UsageError(
                f"the disease has tables of {len(self.disease.fatality)} age groups, the population "
                f"{len(self.population.ages)}: {self.population.ages}"
            )

    def __len__(self) -> int:
        return self.end - self.begin

    def owned(self) -> Tensor:
        """[len] int32: ids of the agents of this shard."""
        return torch.arange(self.begin, self.end, dtype=torch.int32)

    def by_borough(self, agents: Tensor) -> Tensor:
        """How many of these agents live in each borough. [A] int32 -> [boroughs] int64"""
        where = self.population.borough.index_select(0, agents)
        return torch.bincount(where, minlength=len(self.population.boroughs))

    def isolating(self, agents: Tensor, state: State, action: Action, noise: Noise) -> Tensor:
        """Whether each of these agents of the shard stays away from others today: by its own decision, drawn with its
        group's probability, or in quarantine. [A] int32 -> [A] bool"""
        decision = noise.at(noise.step // self.disease.decision_days).words("isolate", agents)
        group = self.group.index_select(0, agents)
        isolates = decision < thresholds(action["isolation"]).index_select(0, group.to(torch.int32))
        if "quarantined_until" in state:
            isolates |= state["quarantined_until"].index_select(0, agents - self.begin) > noise.step
        return isolates
