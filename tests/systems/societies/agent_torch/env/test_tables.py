"""Populations from tables: the order of rows makes no difference, ids hold across networks."""

from __future__ import annotations

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env import Parameters, population_from, simulate, tiny_city

GENERATOR = torch.Generator().manual_seed(0)
TOWN = tiny_city(800, seed=4)
COLUMNS = {
    "age": TOWN.age.long(),
    "borough": TOWN.borough.long(),
    "household": TOWN.households.of.long() + 100,
    "workplace": TOWN.workplaces.of.long(),
    "id": torch.randperm(800, generator=GENERATOR),
}
FIRST, SECOND = torch.randint(0, 400, (200,), generator=GENERATOR), torch.randint(400, 800, (200,), generator=GENERATOR)
WEIGHT = torch.rand(200, generator=GENERATOR)
PARAMETERS = Parameters(torch.tensor(3.5), torch.full((6,), 0.1), torch.full((6,), 0.05))


def built(columns=COLUMNS, **options):
    options = {"networks": {"school": (FIRST, SECOND, WEIGHT)}} | options
    return population_from(columns, boroughs=TOWN.boroughs, **options)


def test_permuting_the_rows_permutes_what_happens_to_agents_and_changes_no_curve():
    order = torch.randperm(800, generator=GENERATOR)
    plain = built()
    moved = built({name: values[order] for name, values in COLUMNS.items()})
    one, other = (simulate(people, PARAMETERS, days=25, seed=7) for people in (plain, moved))
    assert one.exposed.sum() > 50
    assert torch.equal(one.exposed, other.exposed)
    assert torch.equal(one.deaths, other.deaths)
    stages = plain.to_rows(one.state["stage"])
    assert torch.equal(moved.to_rows(other.state["stage"]), stages[order])
    assert torch.equal(plain.to_rows(plain.age).long(), COLUMNS["age"])


def test_columns_households_and_networks_are_those_of_the_table():
    people = built()
    at = people.row
    assert torch.equal(people.age.long(), COLUMNS["age"][at])
    assert torch.equal(people.borough.long(), COLUMNS["borough"][at])
    same = people.households.of[:-1] == people.households.of[1:]
    assert torch.equal(same, COLUMNS["household"][at][:-1] == COLUMNS["household"][at][1:])
    ids = COLUMNS["id"][at]
    source, target, weight = people.networks["school"].edges(torch.arange(800, dtype=torch.int32))
    got = {(int(ids[a]), int(ids[b])): round(float(w), 5) for a, b, w in zip(source, target, weight, strict=True)}
    pairs = list(zip(FIRST.tolist(), SECOND.tolist(), WEIGHT.tolist(), strict=True))
    assert {pair: got[pair] for pair in got if pair[0] < pair[1]}.keys() == {(a, b) for a, b, _ in pairs}
    assert all(got[b, a] == got[a, b] for a, b in got)


def test_a_network_alone_carries_the_disease():
    from pilotage.systems.societies.agent_torch.env import Disease

    only = Disease(layers={"household": 0.0, "workplace": 0.0, "community": 0.0, "school": 3.0})
    with_it = simulate(built(), PARAMETERS, days=20, seed=0, disease=only).exposed.sum()
    without = simulate(built(networks={}), PARAMETERS, days=20, seed=0, disease=only).exposed.sum()
    assert with_it > 3
    assert without == 0


def test_people_without_household_live_alone():
    people = built({name: COLUMNS[name] for name in ("age", "borough")}, networks={})
    source, _ = people.households.others(torch.arange(800, dtype=torch.int32))
    assert len(source) == 0
    assert simulate(people, PARAMETERS, days=10, seed=0).exposed.sum() > 0


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"age": COLUMNS["age"] + 1}, {}, "age is 6; there are the labels 0 to 5"),
        ({"borough": -COLUMNS["borough"] - 1}, {}, "row 0: borough is -1"),
        ({"id": COLUMNS["id"] + 1}, {}, "ids must be 0 … 799"),
        ({"household": COLUMNS["household"].float()}, {}, "whole numbers"),
        ({"household": COLUMNS["household"][:7]}, {}, "one length"),
        ({}, {"size": 900}, "holds 800 people, 900 are configured"),
        ({}, {"networks": {"school": (FIRST, SECOND + 400)}}, "school, edge .*ids are 0 to 799"),
    ],
)
def test_wrong_tables_are_refused(change, options, message):
    with pytest.raises(UsageError, match=message):
        built(COLUMNS | change, **options)
    with pytest.raises(UsageError, match="borough is missing"):
        built({"age": COLUMNS["age"]})
