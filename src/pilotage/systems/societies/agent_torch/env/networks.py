"""Stored contacts: an edge list as a neighbour list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class Network:
    """Daily contacts in both directions."""

    start: Tensor
    """[N + 1] int64: where the neighbours of each agent begin."""
    neighbour: Tensor
    """[E] int32."""
    weight: Tensor | None = None
    """[E] float32: B of each contact; None: 1."""

    @classmethod
    def from_edges(cls, agents: int, first: Tensor, second: Tensor, weight: Tensor | None = None) -> Network:
        """Build a network from pairs of ids in 0 … agents − 1, each pair once, in any order.

        Args:
            agents: number of agents.
            first: ids [edges].
            second: ids [edges].
            weight: B of each contact [edges]; None: 1.

        Raises:
            UsageError: an id is out of range, an agent meets itself, or a weight is negative or no number.
        """
        if first.shape != second.shape or first.dim() != 1 or (weight is not None and weight.shape != first.shape):
            raise UsageError(
                f"an edge list is two columns of ids and perhaps one of weights of one length, got {list(first.shape)}"
                f" and {list(second.shape)}"
            )
        for column in (first, second):
            bad = ((column < 0) | (column >= agents)).nonzero()[:, 0]
            if len(bad):
                row = int(bad[0])
                raise UsageError(
                    f"edge {row} names agent {int(column[row])}; ids are 0 to {agents - 1}. Is the population complete?"
                )
        loops = (first == second).nonzero()[:, 0]
        if len(loops):
            raise UsageError(f"edge {int(loops[0])} joins agent {int(first[loops[0]])} to itself; leave such rows out")
        if weight is not None and not (weight.isfinite() & (weight >= 0)).all():
            raise UsageError("weights of edges must be finite and 0 or more")
        source, target = torch.cat([first, second]).long(), torch.cat([second, first])
        order = source.argsort(stable=True)
        start = torch.zeros(agents + 1, dtype=torch.int64)
        start[1:] = torch.bincount(source, minlength=agents).cumsum(0)
        both = None if weight is None else torch.cat([weight, weight])[order].float()
        return cls(start, target[order].to(torch.int32), both)

    @property
    def agents(self) -> int:
        """Return the number of agents."""
        return len(self.start) - 1

    def edges(self, agents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (source, target, weight or None) of every contact of these agents [agents] int32."""
        begin = self.start.index_select(0, agents)
        count = self.start.index_select(0, agents + 1) - begin
        total = int(count.sum())
        source = torch.repeat_interleave(agents, count, output_size=total)
        shift = torch.repeat_interleave(begin - (count.cumsum(0) - count), count, output_size=total)
        place = torch.arange(total) + shift
        weight = None if self.weight is None else self.weight.index_select(0, place)
        return source, self.neighbour.index_select(0, place), weight
