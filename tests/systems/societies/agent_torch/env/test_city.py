"""Cities have exactly the people of the marginals, and households and workplaces like those asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env import city, sample_counts, tiny_city
from pilotage.systems.societies.agent_torch.env.city import HOUSEHOLD_SIZES

COUNTS = torch.tensor([[300, 200, 100], [0, 0, 0], [10, 900, 400]])


def built(counts=COUNTS, **settings):
    return city(counts, boroughs=("a", "b", "c"), ages=("young", "mid", "old"), working=(1,), **settings)


@given(counts=st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3))
def test_people_by_borough_and_age_are_those_of_the_marginals(counts):
    table = torch.tensor(counts)
    if not table.sum():
        return
    assert torch.equal(built(table).counts(), table)


def test_households_have_the_sizes_asked_for_and_stay_within_a_borough():
    people = tiny_city(30_000)
    sizes = torch.bincount(people.households.sizes().long(), minlength=7)[1:]
    assert torch.allclose(sizes / sizes.sum(), torch.tensor(HOUSEHOLD_SIZES), atol=0.015)
    home = people.households.of.long()
    lowest = torch.full((len(people.households),), 99).scatter_reduce(0, home, people.borough.long(), "amin")
    assert torch.equal(lowest[home], people.borough.long())


def test_no_child_lives_without_a_grown_up_while_there_are_enough():
    people = tiny_city(20_000)
    grown = torch.zeros(len(people.households), dtype=torch.bool)
    grown[people.households.of[people.age > 0].long()] = True
    assert grown.all()


def test_workers_and_only_they_have_workplaces_of_the_size_asked_for():
    people = built(workplace_size=10, commuters=0.0)
    assert torch.equal(people.workplaces.of >= 0, people.age == 1)
    sizes = people.workplaces.sizes()
    assert sizes.tolist() == [10] * 20 + [10] * 90
    assert built(workplace_size=0).workplaces is None


def test_commuters_work_with_people_of_other_boroughs_and_others_do_not():
    def mixed(share):
        people = built(workplace_size=10, commuters=share)
        of, borough = people.workplaces.of, people.borough
        return sum(len(borough[of == place].unique()) > 1 for place in range(len(people.workplaces)))

    assert mixed(0.0) == 0
    assert mixed(1.0) > 50


def test_a_seed_makes_the_city_again_and_another_makes_another():
    first, again, other = (tiny_city(2000, seed=s) for s in (5, 5, 6))
    assert torch.equal(first.age, again.age)
    assert torch.equal(first.workplaces.members, again.workplaces.members)
    assert not torch.equal(first.age, other.age)
    assert torch.equal(first.counts(), other.counts())


@given(agents=st.integers(1, 500), counts=st.lists(st.integers(1, 10**6), min_size=4, max_size=4))
def test_samples_have_the_size_asked_for_and_are_within_one_of_proportion(agents, counts):
    table = torch.tensor(counts).view(2, 2)
    sample = sample_counts(table, agents)
    assert int(sample.sum()) == agents
    assert ((sample - table * (agents / table.sum())).abs() < 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": torch.zeros(3, 3)}, "no people"),
        ({"counts": torch.tensor([[1.5, 0, 0]] * 3)}, "whole numbers"),
        ({"counts": -COUNTS}, "0 or more"),
        ({"counts": COUNTS[:2]}, r"\[3, 3\], got the shape \[2, 3\]"),
        ({"household_sizes": (0.5, 0.4)}, "sum to 1"),
        ({"commuters": 1.5}, "commuters"),
        ({"weight": 0.0}, "more than 0 persons"),
    ],
)
def test_marginals_that_cannot_be_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        built(**change)
