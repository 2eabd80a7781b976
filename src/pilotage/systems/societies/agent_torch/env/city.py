"""Cities from marginals: people by age and borough, households by size, workplaces by random blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.groups import Groups
from pilotage.systems.societies.agent_torch.env.people import AGES, WORKING, Population

HOUSEHOLD_SIZES = (0.28, 0.31, 0.16, 0.14, 0.07, 0.04)
"""Share of households of 1 to 6 persons, about those of the United States."""
TINY_BOROUGHS = ("north", "east", "south", "west", "harbour")
_TINY = (
    (5, 3, 3, 2, 4, 3),
    (8, 5, 5, 4, 7, 5),
    (3, 4, 4, 3, 3, 3),
    (6, 4, 4, 4, 6, 5),
    (2, 1, 1, 1, 2, 1),
)
"""Boroughs × ages of an invented city, in units of people."""


def city(
    counts: Tensor,
    *,
    boroughs: Sequence[str],
    ages: Sequence[str] = AGES,
    household_sizes: Sequence[float] = HOUSEHOLD_SIZES,
    workplace_size: int = 20,
    commuters: float = 0.3,
    working: Sequence[int] = WORKING,
    children: Sequence[int] = (0,),
    weight: float = 1.0,
    seed: int = 0,
) -> Population:
    """Build a population with exactly these numbers of people.

    Args:
        counts: [boroughs, ages] whole numbers of agents.
        household_sizes: probability of 1, 2, … persons among households; a borough's last household may be smaller.
        workplace_size: people at a workplace; 0: no workplaces.
        commuters: share of workers whose workplace is anywhere in the city, the others work in their borough.
        working: age groups that work.
        children: age groups that never live alone: the first in a household is of another group while there are any.
        weight: persons that an agent stands for.
        seed: seed of households and workplaces.

    Raises:
        UsageError: the marginals are not possible.
    """
    counts = _checked(counts, boroughs, ages)
    sizes = torch.as_tensor(household_sizes, dtype=torch.float64)
    if not len(sizes) or not (sizes >= 0).all() or abs(float(sizes.sum()) - 1) > 1e-6:
        raise UsageError(f"household_sizes are probabilities that sum to 1, got {list(household_sizes)}")
    if workplace_size < 0 or not 0 <= commuters <= 1:
        raise UsageError(
            f"workplace_size is 0 or more and commuters a share, got {workplace_size} and {commuters}; 0 means none"
        )
    generator = torch.Generator().manual_seed(seed)
    totals = counts.sum(1)
    age = torch.empty(int(totals.sum()), dtype=torch.uint8)
    household = torch.empty(len(age), dtype=torch.int32)
    begin = homes = 0
    for people in counts:
        total = int(people.sum())
        if total:
            starts = _household_starts(total, sizes, generator)
            part = slice(begin, begin + total)
            age[part] = _place_ages(people, starts, children, generator)
            first = torch.zeros(total, dtype=torch.int32)
            first[starts] = 1
            household[part] = homes - 1 + first.cumsum(0, dtype=torch.int32)
            begin, homes = begin + total, homes + len(starts)
    borough = torch.repeat_interleave(torch.arange(len(totals), dtype=torch.uint8), totals)
    return Population(
        age,
        borough,
        Groups.from_labels(household, "households"),
        _workplaces(age, borough, workplace_size, commuters, working, generator) if workplace_size else None,
        ages=tuple(ages),
        boroughs=tuple(boroughs),
        weight=weight,
    )


def tiny_city(agents: int = 10_000, *, seed: int = 0, **settings: object) -> Population:
    """Build an invented city of five boroughs and six age groups; settings are those of `city`."""
    return city(sample_counts(torch.tensor(_TINY), agents), boroughs=TINY_BOROUGHS, seed=seed, **settings)  # type: ignore[arg-type]


def sample_counts(counts: Tensor, agents: int) -> Tensor:
    """Return whole numbers in proportion to `counts` [boroughs, ages] that sum to `agents`, by largest remainders.

    An agent of such a sample stands for counts.sum() / agents persons (`weight`).
    """
    total = float(counts.sum())
    if agents < 1 or not total > 0:
        raise UsageError(f"{agents} agents of {total:g} people were asked for; expected at least 1 of each")
    exact = counts.double() * (agents / total)
    whole = exact.floor()
    missing = agents - int(whole.sum())
    order = (exact - whole).flatten().argsort(descending=True, stable=True)
    whole.view(-1)[order[:missing]] += 1
    return whole.long()


def _checked(counts: Tensor, boroughs: Sequence[str], ages: Sequence[str]) -> Tensor:
    if counts.shape != (len(boroughs), len(ages)):
        raise UsageError(
            f"expected counts [boroughs, ages] = [{len(boroughs)}, {len(ages)}], got the shape {list(counts.shape)}"
        )
    if not (counts >= 0).all() or (counts.is_floating_point() and (counts != counts.round()).any()):
        raise UsageError("counts of people are whole numbers of 0 or more; `sample_counts` makes them from shares")
    if not counts.sum() > 0:
        raise UsageError("the counts hold no people")
    return counts.long()


def _household_starts(total: int, sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw household sizes for `total` people and return the first place of each household, [households] int64."""
    mean = float((sizes * torch.arange(1, len(sizes) + 1)).sum())
    drawn = torch.zeros(0, dtype=torch.int64)
    while int(drawn.sum()) < total:
        more = max(16, int(1.05 * (total - int(drawn.sum())) / mean))
        uniform = torch.rand(more, generator=generator)
        # The last edge is left out, so that rounding cannot draw a size beyond the largest.
        edges = sizes.cumsum(0)[:-1].float()
        drawn = torch.cat([drawn, 1 + torch.searchsorted(edges, uniform, right=True)])
    starts = drawn.cumsum(0) - drawn
    return starts[starts < total]


def _place_ages(people: Tensor, starts: Tensor, children: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return age groups [total] uint8 in the order of places; heads of households are adults while there are any."""
    ages = torch.repeat_interleave(torch.arange(len(people), dtype=torch.uint8), people)
    shuffled = ages[torch.randperm(len(ages), generator=generator)]
    is_child = torch.zeros(len(people), dtype=torch.bool)
    is_child[list(children)] = True
    below = is_child[shuffled.long()]
    grown, young = shuffled[~below], shuffled[below]
    heads = min(len(starts), len(grown))
    rest = torch.cat([grown[heads:], young])
    seats = torch.ones(len(ages), dtype=torch.bool)
    seats[starts[:heads]] = False
    out = torch.empty_like(ages)
    out[starts[:heads]] = grown[:heads]
    out[seats] = rest[torch.randperm(len(rest), generator=generator)]
    return out


def _workplaces(
    age: Tensor, borough: Tensor, size: int, commuters: float, working: Sequence[int], generator: torch.Generator
) -> Groups | None:
    """Draw workplaces: blocks of `size` workers from a borough or, for commuters, from the city."""
    works = torch.zeros(int(age.max()) + 1, dtype=torch.bool)
    works[[group for group in working if group < len(works)]] = True
    workers = works[age.long()].nonzero()[:, 0]
    if not len(workers):
        return None
    workers = workers[torch.randperm(len(workers), generator=generator)]
    pool = borough[workers].to(torch.int16) + 1
    pool[torch.rand(len(workers), generator=generator) < commuters] = 0
    order = pool.argsort(stable=True)
    workers, pool = workers[order], pool[order]
    counts = torch.bincount(pool.long())
    place = torch.arange(len(workers)) - (counts.cumsum(0) - counts)[pool.long()]
    block = place // size
    blocks = (counts + size - 1) // size
    label = block + (blocks.cumsum(0) - blocks)[pool.long()]
    of = torch.full((len(age),), -1, dtype=torch.int32)
    of[workers] = label.to(torch.int32)
    return Groups.from_labels(of, "workplaces")
