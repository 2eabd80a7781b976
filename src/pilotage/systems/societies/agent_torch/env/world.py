"""Constants of an episode, and isolation on a day."""

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
    """Population, pathogen, and the agents of this shard."""

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
        """Return the ids of the agents of this shard, int32."""
        return torch.arange(self.begin, self.end, dtype=torch.int32)

    def by_borough(self, agents: Tensor) -> Tensor:
        """Return how many of these agents live in each borough, [boroughs] int64."""
        where = self.population.borough.index_select(0, agents)
        return torch.bincount(where, minlength=len(self.population.boroughs))

    def isolating(self, agents: Tensor, state: State, action: Action, noise: Noise) -> Tensor:
        """Draw whether each of these agents of the shard isolates today, by decision or in quarantine, [agents] bool.

        Args:
            agents: ids [agents] int32.
            state: the state.
            action: holds the probability of each group.
            noise: noise of the day.
        """
        decision = noise.at(noise.step // self.disease.decision_days).random_bits("isolate", agents)
        group = self.group.index_select(0, agents)
        isolates = decision < thresholds(action["isolation"]).index_select(0, group.to(torch.int32))
        if "quarantined_until" in state:
            isolates |= state["quarantined_until"].index_select(0, agents - self.begin) > noise.step
        return isolates
