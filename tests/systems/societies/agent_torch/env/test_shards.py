"""Shards give the same numbers as one process, however many, with behaviour that answers, and on Ray."""

from __future__ import annotations

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env import Disease, Parameters, simulate, tiny_city
from pilotage.systems.societies.agent_torch.env.shards import RayShards, Shard, cut_evenly, simulate_in_shards
from pilotage.systems.societies.agent_torch.env.world import World

TOWN = tiny_city(2500, seed=3)
GROUPS = torch.arange(2500) % 4


def careful(week, history):
    return torch.full((4,), min(0.8, 0.02 * float(history.cases[-7:].sum()) ** 0.5 if week else 0.0))


PARAMETERS = Parameters(torch.tensor(3.5), careful, torch.full((6,), 0.03))


@pytest.mark.parametrize("home", [True, False])
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_equal_one_process_exactly(shards, home):
    """The cut goes through boroughs, households and workplaces."""
    settings = {"days": 21, "seed": 2, "disease": Disease(isolation_at_home=home), "groups": GROUPS}
    whole = simulate(TOWN, PARAMETERS, **settings)
    parts = simulate_in_shards(TOWN, PARAMETERS, shards=shards, **settings)
    assert whole.exposed.sum() > 100
    for name in ("exposed", "cases", "deaths"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))
    assert torch.equal(parts.state["stage"], whole.state["stage"])
    assert torch.equal(parts.state["infected_at"], whole.state["infected_at"])
    assert torch.equal(parts.state["active"].sort().values, whole.state["active"].sort().values)


def test_a_shard_keeps_only_the_state_of_its_own():
    cuts = cut_evenly(2500, 3)
    shard = Shard(World(TOWN, Disease(), GROUPS), cuts, ("progress",), 1)
    shard.start(torch.full((6,), 0.1), seed=0)
    assert len(shard.state()["stage"]) == cuts[2] - cuts[1]
    active = shard.state()["active"]
    assert int(active.min()) >= cuts[1]
    assert int(active.max()) < cuts[2]


def test_ray_equals_one_process():
    pytest.importorskip("ray", reason="shards over processes need Ray (extra `ray`)")
    settings = {"days": 14, "seed": 2, "groups": GROUPS}
    whole = simulate(TOWN, PARAMETERS, **settings)
    parts = simulate_in_shards(TOWN, PARAMETERS, shards=2, workers=RayShards, **settings)
    assert torch.equal(parts.cases, whole.cases)
    assert torch.equal(parts.state["stage"], whole.state["stage"])


def test_without_ray_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'pilotage\[ray\]'"):
        simulate_in_shards(TOWN, PARAMETERS, days=1, seed=0, shards=2, groups=GROUPS, workers=RayShards)


@pytest.mark.parametrize("shards", [0, 2501])
def test_shards_that_cannot_be_are_refused(shards):
    with pytest.raises(UsageError, match="give 1 to 2500"):
        simulate_in_shards(TOWN, PARAMETERS, days=1, seed=0, shards=shards, groups=GROUPS)
