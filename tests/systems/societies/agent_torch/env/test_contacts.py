"""Who meets whom: mutual, with the right number of people, in the right places, otherwise on another day."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env import Disease, tiny_city
from pilotage.systems.societies.agent_torch.env.contacts import contacts
from pilotage.systems.societies.agent_torch.env.groups import Groups
from pilotage.systems.societies.agent_torch.env.networks import Network
from pilotage.systems.societies.agent_torch.env.noise import Noise

CITY = tiny_city(600, seed=1)
EVERYBODY = torch.arange(len(CITY), dtype=torch.int32)


def pairs(agents=EVERYBODY, day=0, population=CITY, **settings):
    """(layer, index) -> list of (source, target)."""
    disease = Disease(workplace_contacts=4, community_contacts=4, **settings)
    met = contacts(population, disease, agents, Noise(0, day))
    return {(m.layer, m.index): list(zip(m.source.tolist(), m.target.tolist(), strict=True)) for m in met}


@given(labels=st.lists(st.integers(-1, 6), min_size=1, max_size=40), chosen=st.sets(st.integers(0, 39)))
def test_others_are_all_other_members_of_the_group(labels, chosen):
    groups = Groups.from_labels(torch.tensor(labels))
    agents = sorted(a for a in chosen if a < len(labels))
    source, target = groups.others(torch.tensor(agents, dtype=torch.int32))
    expected = {
        (a, b) for a in agents for b in range(len(labels)) if a != b and labels[a] == labels[b] and labels[a] >= 0
    }
    got = list(zip(source.tolist(), target.tolist(), strict=True))
    assert len(got) == len(expected)
    assert set(got) == expected


@pytest.mark.parametrize("day", [0, 1, 30])
def test_contacts_are_mutual_and_nobody_meets_themselves_or_anybody_twice_in_a_draw(day):
    for key, met in pairs(day=day).items():
        counted = Counter(met)
        assert max(counted.values()) == 1, key
        assert all((b, a) in counted for a, b in counted), key
        assert all(a != b for a, b in counted), key


def test_contacts_of_a_few_are_a_part_of_the_contacts_of_all():
    few = torch.tensor([5, 17, 400], dtype=torch.int32)
    everybody = pairs()
    for key, met in pairs(few).items():
        assert Counter(met) == Counter(p for p in everybody[key] if p[0] in few.tolist())


def test_everybody_has_the_declared_number_of_colleagues_and_strangers_in_the_right_places():
    met = pairs()
    strangers = Counter(a for draw in (0, 1) for a, _ in met["community", draw])
    assert sum(strangers.values()) / len(CITY) == pytest.approx(4, abs=0.1)
    assert all(CITY.borough[a] == CITY.borough[b] for draw in (0, 1) for a, b in met["community", draw])
    of = CITY.workplaces.of
    for a, b in met["workplace", 0] + met["workplace", 1]:
        assert of[a] == of[b] >= 0
    sizes = CITY.workplaces.sizes()[of[of >= 0].long()]
    colleagues = Counter(a for draw in (0, 1) for a, _ in met["workplace", draw])
    assert set(colleagues) == set(EVERYBODY[of >= 0][sizes > 1].tolist())


def test_strangers_change_from_day_to_day_and_scatter_households():
    today, tomorrow = set(pairs()["community", 0]), set(pairs(day=1)["community", 0])
    assert len(today & tomorrow) < len(today) / 20
    home = CITY.households.of.tolist()
    guest_of = {a: home[b] for a, b in pairs()["community", 0]}
    housemates = [(a, b) for a, b in pairs()["household", 0] if a < b]
    together = sum(guest_of.get(a) == guest_of.get(b) for a, b in housemates)
    assert together < len(housemates) / 20


def test_layers_of_weight_zero_are_left_out():
    assert {layer for layer, _ in pairs(layers={"household": 0.0, "workplace": 1.0, "community": 0.0})} == {"workplace"}


def test_a_stored_network_is_met_every_day_in_both_directions_with_its_weights():
    network = Network.from_edges(600, torch.tensor([3, 3, 9]), torch.tensor([9, 4, 500]), torch.tensor([1.0, 0.5, 2.0]))
    with_it = replace(CITY, networks={"school": network})
    for day in (0, 8):
        assert set(pairs(day=day, population=with_it)["school", 0]) == {
            (3, 9), (9, 3), (3, 4), (4, 3), (9, 500), (500, 9)
        }  # fmt: skip
    source, target, weight = network.edges(torch.tensor([9, 3], dtype=torch.int32))
    got = {(a, b): w for a, b, w in zip(source.tolist(), target.tolist(), weight.tolist(), strict=True)}
    assert got == {(9, 3): 1.0, (9, 500): 2.0, (3, 9): 1.0, (3, 4): 0.5}


@pytest.mark.parametrize(
    ("first", "second", "weight", "message"),
    [
        ([0, 7], [1, 2], None, "edge 1 names agent 7; ids are 0 to 4"),
        ([0, -1], [1, 2], None, "edge 1 names agent -1"),
        ([0, 2], [1, 2], None, "edge 1 joins agent 2 to itself"),
        ([0, 1], [1, 2], [1.0, float("nan")], "weights"),
        ([0, 1], [1], None, "two columns"),
    ],
)
def test_wrong_edges_are_refused(first, second, weight, message):
    with pytest.raises(UsageError, match=message):
        Network.from_edges(
            5, torch.tensor(first), torch.tensor(second), None if weight is None else torch.tensor(weight)
        )
