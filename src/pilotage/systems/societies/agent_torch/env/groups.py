"""Partitions of agents (households, workplaces) as index lists."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError

_LARGEST = 2**15 - 1


@dataclass(frozen=True)
class Groups:
    """Partition of (some of) the agents into groups; 12 bytes an agent."""

    of: Tensor
    """[N] int32: the group of each agent, -1 for none."""
    members: Tensor
    """[M] int32: agents sorted by group."""
    start: Tensor
    """[G + 1] int32: where each group begins in `members`."""
    rank: Tensor
    """[N] int16: place of an agent in its group, from 0; -1 for none."""

    @classmethod
    def from_labels(cls, of: Tensor, name: str = "groups") -> Groups:
        """Build a partition from a group number per agent [agents]; below 0 means none. Groups are renumbered from 0.

        Raises UsageError for a group of more than 32,767 agents.
        """
        inside = (of >= 0).nonzero()[:, 0]
        order = of[inside].argsort(stable=True)
        members = inside[order].to(torch.int32)
        sorted_labels = of[inside][order]
        _, dense, sizes = torch.unique_consecutive(sorted_labels, return_inverse=True, return_counts=True)
        if len(sizes) and int(sizes.max()) > _LARGEST:
            raise UsageError(f"{name}: a group has {int(sizes.max())} agents; at most {_LARGEST} are possible")
        start = torch.zeros(len(sizes) + 1, dtype=torch.int32)
        start[1:] = sizes.cumsum(0)
        rows = members.long()
        new = torch.full((len(of),), -1, dtype=torch.int32)
        new[rows] = dense.to(torch.int32)
        rank = torch.full((len(of),), -1, dtype=torch.int16)
        rank[rows] = (torch.arange(len(rows)) - start[:-1].long()[dense]).to(torch.int16)
        return cls(new, members, start, rank)

    def __len__(self) -> int:
        return len(self.start) - 1

    def sizes(self) -> Tensor:
        """Return the number of agents in each group, [groups] int32."""
        return self.start.diff()

    def others(self, agents: Tensor) -> tuple[Tensor, Tensor]:
        """Return every ordered pair (agent, other member of its group) of these agents, as two columns int32."""
        group = self.of.index_select(0, agents)
        inside = group >= 0
        agents, group = agents[inside], group[inside]
        begin = self.start.index_select(0, group)
        size = self.start.index_select(0, group + 1) - begin
        rank = self.rank.index_select(0, agents).to(torch.int32)
        count = size - 1
        total = int(count.sum())
        source = torch.repeat_interleave(agents, count, output_size=total)
        # The place of an edge among those of its agent: 1, …, size − 1.
        first = (count.cumsum(0) - count).to(torch.int32)
        step = torch.arange(1, total + 1, dtype=torch.int32) - torch.repeat_interleave(first, count, output_size=total)
        begin, size, rank = (torch.repeat_interleave(x, count, output_size=total) for x in (begin, size, rank))
        place = rank + step
        place -= size * (place >= size)
        return source, self.members.index_select(0, begin + place)
