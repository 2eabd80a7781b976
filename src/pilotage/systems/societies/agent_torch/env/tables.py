"""A population from the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.groups import Groups
from pilotage.systems.societies.agent_torch.env.networks import Network
from pilotage.systems.societies.agent_torch.env.people import AGES, Population

Edges = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor | None]
"""(first, second) ids [E], perhaps weights [E]."""


def population_from(
    columns: Mapping[str, Tensor],
    *,
    boroughs: Sequence[str],
    ages: Sequence[str] = AGES,
    networks: Mapping[str, Edges] | None = None,
    size: int | None = None,
    weight: float = 1.0,
) -> Population:
    """Build a population from columns in any order, sorted by borough, household and id.

    Args:
        columns: [N] whole numbers each: age and borough (numbers of the labels), and perhaps household, workplace
            (any number; below 0: none) and id (0 … N − 1, each once; otherwise the row). Others are left to the caller:
            `values[population.row]` is a column in the order of the agents.
        networks: stored contacts by name of the layer; ids are those of the column id.
        size: expected number of people; None: any.
        weight: persons that an agent stands for.

    Raises:
        UsageError: a column is missing, has another length, or holds a number without a label.
    """
    count = _checked(columns, size)
    age = _labelled("age", columns["age"], ages)
    borough = _labelled("borough", columns["borough"], boroughs)
    identity = columns.get("id", torch.arange(count))
    if not torch.equal(identity.sort().values, torch.arange(count)):
        raise UsageError(f"ids must be 0 … {count - 1}, each once; leave the column out to number rows")
    # Without a household every agent lives alone.
    household = columns.get("household", torch.full((count,), -1))
    order = identity.argsort()
    for key in (household, borough):
        order = order[key[order].argsort(stable=True)]
    place = torch.empty(count, dtype=torch.int64)
    place[identity[order]] = torch.arange(count)
    stored = {}
    for name, (first, second, *rest) in (networks or {}).items():
        given = rest[0] if rest else None
        _ids(name, count, first, second)
        stored[name] = Network.from_edges(count, place[first], place[second], given)
    workplaces = columns.get("workplace")
    return Population(
        age[order],
        borough[order],
        Groups.from_labels(household[order], "households"),
        None if workplaces is None else Groups.from_labels(workplaces[order], "workplaces"),
        stored,
        tuple(ages),
        tuple(boroughs),
        weight,
        order,
    )


def _checked(columns: Mapping[str, Tensor], size: int | None) -> int:
    if missing := [name for name in ("age", "borough") if name not in columns]:
        raise UsageError(f"a population needs the columns age and borough; {', '.join(missing)} is missing")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise UsageError(f"columns of a population have one length, got {lengths}")
    count = lengths["age"]
    if size is not None and count != size:
        raise UsageError(f"the table holds {count} people, {size} are configured")
    for name in ("age", "borough", "household", "workplace", "id"):
        if name in columns and columns[name].is_floating_point():
            raise UsageError(f"{name} must hold whole numbers, got {columns[name].dtype}")
    return count


def _labelled(name: str, values: Tensor, labels: Sequence[str]) -> Tensor:
    bad = ((values < 0) | (values >= len(labels))).nonzero()[:, 0]
    if len(bad):
        row = int(bad[0])
        raise UsageError(f"row {row}: {name} is {int(values[row])}; there are the labels 0 to {len(labels) - 1}")
    return values.to(torch.uint8)


def _ids(name: str, count: int, *columns: Tensor) -> None:
    for ids in columns:
        bad = ((ids < 0) | (ids >= count)).nonzero()[:, 0]
        if len(bad):
            row = int(bad[0])
            raise UsageError(f"{name}, edge {row}: there is no agent {int(ids[row])}; ids are 0 to {count - 1}")
