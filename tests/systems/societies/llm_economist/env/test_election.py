import json

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import federal_schedule
from pilotage.systems.societies.llm_economist.env.election import (
    ABSTAIN,
    ElectedPlanner,
    hold_election,
    selfish_ballots,
    selfish_platform,
)
from pilotage.systems.societies.llm_economist.env.population import GB2, population_of
from pilotage.systems.societies.llm_economist.env.replies import apply_delta
from pilotage.systems.societies.llm_economist.env.tax_game import FLAT, THREE, TaxGame


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def game(edges=THREE, count=41):
    return TaxGame(population_of(GB2().quantile((torch.arange(count).double() + 0.5) / count)), edges)


def ballots(*values):
    return torch.tensor(values)


def test_most_votes_win_without_a_majority_and_every_vote_is_accounted_for():
    outcome = hold_election([0, 4, 5], ballots(4, 4, 0, 5, ABSTAIN, 1, 77), generator())
    assert outcome.leader == 4
    assert outcome.votes == {0: 1, 4: 2, 5: 1}
    assert (outcome.abstained, outcome.refused) == (1, 2)


def test_ties_are_broken_at_random_and_only_they_draw():
    chosen = [hold_election([0, 1], ballots(0, 1), generator(s)).leader for s in range(200)]
    assert 60 < sum(chosen) < 140
    source = generator()
    before = source.get_state()
    hold_election([0, 1], ballots(0, 0, 1), source)
    assert source.get_state().equal(before)


def test_when_all_abstain_or_vote_for_nobody_who_stands_the_leader_stays():
    assert hold_election([1], ballots(ABSTAIN, ABSTAIN), generator(), leader=0).leader == 0
    assert hold_election([1], ballots(0, 0), generator(), leader=0).refused == 2
    assert hold_election([1], ballots(0, 0), generator(), leader=0).leader == 0
    assert hold_election([], ballots(0), generator()).leader is None


def test_candidates_are_workers_named_once():
    for wrong in ([1, 1], [5], [-1]):
        with pytest.raises(UsageError, match="different workers"):
            hold_election(wrong, ballots(0, 0), generator())


def test_a_platform_is_the_best_of_all_changes_for_its_candidate():
    world, rates = game(), torch.tensor([50.0, 50.0, 50.0], dtype=torch.float64)
    for worker in (0, 20, 40):
        own = world.play(apply_delta(rates, selfish_platform(world, rates, worker))).utility[worker]
        for delta in ([20, 20, 20], [-20, -20, -20], [0, 0, 0], [10, -10, 20], [-20, 20, 20]):
            assert own >= world.play(apply_delta(rates, torch.tensor(delta).double())).utility[worker] - 1e-9


def test_poor_and_rich_disagree_and_the_poor_outvote_the_rich():
    world, rates = game(FLAT), torch.tensor([40.0], dtype=torch.float64)
    poor, rich = selfish_platform(world, rates, 0), selfish_platform(world, rates, 40)
    assert poor.item() > 0 > rich.item()
    votes = selfish_ballots(world, rates, {0: poor, 40: rich})
    assert votes[0] == 0
    assert votes[40] == 40
    assert (votes == 0).sum() > (votes == 40).sum()


def test_equal_platforms_leave_voters_cold_and_no_candidate_no_vote():
    world, rates = game(), torch.tensor([50.0, 50.0, 50.0], dtype=torch.float64)
    same = torch.zeros(3, dtype=torch.float64)
    assert (selfish_ballots(world, rates, {1: same, 2: same}) == ABSTAIN).all()
    assert (selfish_ballots(world, rates, {}) == ABSTAIN).all()
    assert (selfish_ballots(world, rates, {1: same}) == 1).all()


@pytest.mark.parametrize("edges", [THREE, federal_schedule().edges])
def test_an_elected_planner_answers_with_the_winners_platform(edges):
    world = game(edges)
    rates = [50.0] * len(edges)
    planner = ElectedPlanner(world, generator(), candidates=3)
    delta = json.loads(planner.reply("Rates are high.\nSTATE " + json.dumps({"rates": rates})))["DELTA"]
    assert planner.leader is not None
    assert delta == selfish_platform(world, torch.tensor(rates, dtype=torch.float64), planner.leader).tolist()
    assert planner.scripted
    silent = ElectedPlanner(world, generator(), candidates=0)
    assert json.loads(silent.reply("STATE " + json.dumps({"rates": rates})))["DELTA"] == [0] * len(edges)
