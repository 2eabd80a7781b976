"""Contacts of a day, made for the given agents and never stored; all are mutual.

A contact is found from either side: `a` meets `b` exactly when `b` meets `a`, as often on the same layer and draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pilotage.systems.societies.agent_torch.env.disease import Disease
from pilotage.systems.societies.agent_torch.env.groups import Groups
from pilotage.systems.societies.agent_torch.env.noise import Noise
from pilotage.systems.societies.agent_torch.env.people import Population


@dataclass(frozen=True)
class Contacts:
    """Contacts of one kind."""

    layer: str
    index: int
    """Index of the draw within the layer."""
    source: Tensor
    """[E] int32."""
    target: Tensor
    """[E] int32."""
    weight: Tensor | None = None
    """[E] float32: factor of the layer's B; None: 1."""


def contacts(population: Population, disease: Disease, agents: Tensor, noise: Noise) -> Iterator[Contacts]:
    """Return all contacts of these agents [agents] int32 on the day of the noise, layer by layer."""
    if disease.layer_weight("household"):
        yield Contacts("household", 0, *population.households.others(agents))
    if population.workplaces is not None and disease.layer_weight("workplace"):
        for draw in range(disease.workplace_contacts // 2):
            yield Contacts("workplace", draw, *_colleagues(population.workplaces, agents, noise, draw))
    if disease.layer_weight("community"):
        for draw in range(disease.community_contacts // 2):
            yield Contacts("community", draw, *_strangers(population, agents, noise, draw))
    for name, network in population.networks.items():
        if disease.layer_weight(name):
            yield Contacts(name, 0, *network.edges(agents))


def _colleagues(groups: Groups, agents: Tensor, noise: Noise, draw: int) -> tuple[Tensor, Tensor]:
    """Return the two colleagues `offset` places before and behind; the offset is drawn per workplace and day."""
    group = groups.of.index_select(0, agents)
    begin = groups.start.index_select(0, group.clamp(min=0))
    size = groups.start.index_select(0, group.clamp(min=0) + 1) - begin
    inside = (group >= 0) & (size > 1)
    agents, group, begin, size = agents[inside], group[inside], begin[inside], size[inside]
    offset = 1 + noise.random_bits("workplace", group, index=draw) % (size - 1)
    rank = groups.rank.index_select(0, agents).to(torch.int32)
    ahead, behind = (rank + offset) % size, (rank - offset + size) % size
    # Halfway round both are the same colleague, met once.
    other = ahead != behind
    target = torch.cat([begin + ahead, (begin + behind)[other]])
    return torch.cat([agents, agents[other]]), groups.members.index_select(0, target)


def _strangers(population: Population, agents: Tensor, noise: Noise, draw: int) -> tuple[Tensor, Tensor]:
    """Return the two people of the borough at a·x + c and a⁻¹(x − c) modulo its size, a and c drawn per day.

    A plain shift would send a household to a household; the factor scatters it. No agent meets itself.
    """
    starts = population.borough_starts
    sizes = [end - begin for begin, end in pairwise(starts)]
    rows = []
    for index, (begin, size) in enumerate(zip(starts, sizes, strict=False)):
        factor, shift = _affine(noise, draw * len(sizes) + index, size) if size > 1 else (0, 0)
        rows.append((begin, max(size, 1), factor, shift, pow(factor, -1, size) if size > 1 else 0))
    borough = population.borough.index_select(0, agents).to(torch.int32)
    begin, size, factor, shift, inverse = torch.tensor(rows).T.contiguous().index_select(1, borough)
    place = agents - begin
    ahead = (place * factor + shift) % size
    behind = ((place - shift) * inverse) % size
    here, there = ahead != place, (behind != place) & (behind != ahead)
    # In a borough of one agent all terms are 0 and no contact is left.
    source = torch.cat([agents[here], agents[there]])
    return source, torch.cat([(ahead + begin)[here], (behind + begin)[there]]).to(torch.int32)


def _affine(noise: Noise, index: int, size: int) -> tuple[int, int]:
    """Return (a, c) with a coprime to the size, so that x → a·x + c is a permutation."""
    factor = 1 + noise.integer("community factor", index) % (size - 1)
    while math.gcd(factor, size) != 1:
        factor = factor % (size - 1) + 1
    return factor, noise.integer("community shift", index) % size
