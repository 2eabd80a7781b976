"""What an epidemic of agents must do that a curve alone does not show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env import Disease, Parameters, simulate, tiny_city, weekly
from pilotage.systems.societies.agent_torch.env.disease import DEAD, EXPOSED, INFECTED, RECOVERED, SUSCEPTIBLE
from pilotage.systems.societies.agent_torch.env.infection import NEVER
from pilotage.systems.societies.agent_torch.env.substeps import register

CITY = tiny_city(20_000, seed=1)
ONE_AGE = (1.0,) * 6
ONLY = {"household": 0.0, "workplace": 0.0, "community": 0.0}


def parameters(transmission=3.0, **given):
    return Parameters(torch.tensor(transmission), **({"initial": torch.tensor(0.01)} | given))


def curves(given, days=28, seed=0, **settings):
    return simulate(CITY, given, days=days, seed=seed, **settings)


def test_agents_are_conserved_and_counts_agree_with_the_stages():
    outcome = curves(parameters(), days=40)
    stage = outcome.state["stage"]
    started = curves(parameters(transmission=0.0), days=40)
    initially = int((started.state["stage"] != SUSCEPTIBLE).sum())
    assert int((stage != SUSCEPTIBLE).sum()) == initially + int(outcome.exposed.sum())
    assert int((stage == DEAD).sum()) == int(outcome.deaths.sum()) > 0
    ill = int((stage == EXPOSED).sum() + (stage == INFECTED).sum())
    assert ill == len(outcome.state["active"])
    assert outcome.cases[5:].sum() == outcome.exposed[:-5].sum()  # everybody exposed falls ill five days later
    assert started.exposed.sum() == 0


def test_stages_follow_the_days_since_exposure():
    state = curves(parameters(), days=30).state
    since, stage = 29 - state["infected_at"].long(), state["stage"]
    assert (stage[(since >= 0) & (since < 5)] == EXPOSED).all()
    assert (stage[(since >= 5) & (since < 10)] == INFECTED).all()
    assert ((stage[(since >= 10) & (since < 60)] == RECOVERED) | (stage[(since >= 10) & (since < 60)] == DEAD)).all()


def test_the_household_attack_rate_is_that_of_the_equation_and_far_above_that_of_the_community():
    """Reference trap: a mean-field curve passed off as agents has one attack rate."""
    disease = Disease(susceptibility=ONE_AGE, mean_contacts=ONE_AGE, fatality=(0.0,) * 6)
    pairs = tiny_city(40_000, household_sizes=(0.0, 1.0), workplace_size=0)
    given = parameters(2.0, initial=torch.tensor(0.005))
    start = simulate(pairs, replace(given, transmission=torch.tensor(0.0)), days=1, seed=3, disease=disease).state
    index = start["stage"] != SUSCEPTIBLE
    partner = torch.arange(40_000) ^ 1
    alone = index & ~index[partner]

    def attack(layer):
        only = replace(disease, layers={**ONLY, layer: 0.6})
        after = simulate(pairs, given, days=10, seed=3, disease=only).state["stage"] != SUSCEPTIBLE
        return after[partner[alone]].float().mean().item()

    day = -start["infected_at"][alone].long()
    profile = disease.profile
    left = torch.stack([profile[d:].sum() for d in day])  # from day 0 on, τ = −infected_at, …
    expected = (1 - torch.exp(-2.0 * 0.6 * left)).mean().item()
    error = math.sqrt(expected * (1 - expected) / int(alone.sum()))
    assert attack("household") == pytest.approx(expected, abs=4 * error)
    assert attack("community") < expected / 5


def test_the_first_days_infections_have_the_expected_number():
    """Community alone: each of the contagious meets two, who are infected with probability 1 − exp(−λ)."""
    disease = Disease(susceptibility=ONE_AGE, mean_contacts=ONE_AGE, layers={**ONLY, "community": 1.0})
    given = parameters(3.0, initial=torch.tensor(0.1))
    start = curves(replace(given, transmission=torch.tensor(0.0)), days=1, disease=disease).state
    carriers = -start["infected_at"][start["active"].long()].long()
    chance = 1 - torch.exp(-3.0 * disease.profile[carriers.clamp(max=9)])
    susceptible = (start["stage"] == SUSCEPTIBLE).float().mean()
    expected = float(2 * chance.sum() * susceptible)
    got = float(curves(given, days=1, disease=disease).exposed.sum())
    assert got == pytest.approx(expected, abs=4 * math.sqrt(expected) + 0.05 * expected)


def groups_of_the_initially_ill(seed=0):
    """0: susceptible on day 0, 1: ill on day 0."""
    state = curves(parameters(transmission=0.0), days=1, seed=seed).state
    return (state["stage"] != SUSCEPTIBLE).to(torch.uint8)


def test_isolation_of_the_infector_and_of_the_susceptible_both_cut_transmission():
    """Reference trap: only the exposure of the susceptible was cut."""
    groups = groups_of_the_initially_ill()
    free = curves(parameters(), groups=groups).exposed.sum()
    infectors = curves(parameters(isolation=torch.tensor([0.0, 1.0])), groups=groups)
    susceptible = curves(parameters(isolation=torch.tensor([1.0, 0.0])), groups=groups)
    assert free > 100
    assert infectors.exposed.sum() == 0
    assert susceptible.exposed.sum() == 0
    half = curves(parameters(isolation=torch.tensor([0.0, 0.5])), groups=groups).exposed[:1].sum()
    assert 0.3 < half / curves(parameters(), groups=groups).exposed[:1].sum() < 0.7


def test_isolation_away_from_home_leaves_the_household_exposed():
    groups = groups_of_the_initially_ill()
    given = parameters(isolation=torch.tensor([1.0, 1.0]))
    outcome = curves(given, groups=groups, days=9, disease=Disease(isolation_at_home=False))
    infected = (outcome.state["infected_at"] >= 0).nonzero()[:, 0]
    homes_with_a_case = CITY.households.of[groups.bool()].unique()
    assert len(infected) > 20
    first = infected[outcome.state["infected_at"][infected] == 0]
    assert torch.isin(CITY.households.of[first], homes_with_a_case).all()
    assert curves(given, groups=groups, days=9).exposed.sum() == 0


def test_more_transmission_infects_the_same_people_and_more_on_the_first_day():
    """Common random numbers: what both scenarios could do is decided by the same noise."""
    low, high = (curves(parameters(r), days=1).state["stage"] != SUSCEPTIBLE for r in (2.0, 3.0))
    assert (high | ~low).all()
    assert high.sum() > low.sum()


def test_elders_die_and_children_are_infected_less():
    state = curves(parameters(4.0), days=60).state
    infected = state["stage"] != SUSCEPTIBLE
    rate = [infected[age == CITY.age].float().mean() for age in range(6)]
    assert rate[0] < min(rate[1:])
    assert (CITY.age[state["stage"] == DEAD] == 5).float().mean() > 0.6


def test_going_on_from_a_state_equals_going_through():
    given = Parameters(
        torch.tensor([3.0, 2.0, 3.5, 2.0]), torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) / 5
    )
    whole = curves(given, days=28)
    first = curves(given, days=11)
    kept = {name: value.clone() for name, value in first.state.items()}
    second = curves(given, days=17, start=(11, first))
    assert torch.equal(torch.cat([first.cases, second.cases]), whole.cases)
    assert torch.equal(second.state["stage"], whole.state["stage"])
    assert all(torch.equal(first.state[name], kept[name]) for name in kept)  # the state was not written to


def test_going_on_with_behaviour_shows_it_what_was_before():
    def behaviour(_, history):
        return torch.full((6,), min(1.0, 0.002 * float(history.cases.sum())))

    given = parameters(isolation=behaviour)
    whole, first = curves(given, days=21), curves(given, days=14)
    second = curves(given, days=7, start=(14, first))
    assert torch.equal(first.then(second).exposed, whole.exposed)
    assert whole.exposed[14:].sum() < 0.5 * whole.exposed[:7].sum()
    with pytest.raises(UsageError, match="day 13 is none"):
        curves(given, days=7, start=(13, first))
    with pytest.raises(UsageError, match="no state"):
        curves(given, days=7, start=(14, replace(first, state=None)))


def test_seeds_decide_and_nothing_else_does():
    given = parameters()
    first = curves(given)
    torch.manual_seed(123)
    torch.rand(10)
    assert torch.equal(curves(given).exposed, first.exposed)
    assert not torch.equal(curves(given, seed=1).exposed, first.exposed)


def test_behaviour_is_asked_once_a_week_with_what_happened_so_far():
    asked = []

    def behaviour(week, history):
        asked.append((week, len(history.cases), float(history.cases.sum())))
        return torch.full((6,), 0.9 if week else 0.0)

    outcome = curves(parameters(isolation=behaviour), days=20)
    assert [(week, days) for week, days, _ in asked] == [(0, 0), (1, 7), (2, 14)]
    assert asked[2][2] == float(outcome.cases[:14].sum()) > 0
    assert outcome.exposed[7:14].sum() < outcome.exposed[:7].sum() / 4


def test_a_weekly_decision_is_kept_for_the_week_and_a_daily_one_is_not():
    groups = groups_of_the_initially_ill()
    given = parameters(isolation=torch.tensor([0.0, 0.5]))
    spread = {
        days: curves(given, groups=groups, days=7, disease=Disease(decision_days=days)).exposed.sum() for days in (1, 7)
    }
    assert spread[1] != spread[7]


def test_outputs_are_persons_and_reported_shares():
    given = parameters()
    heavy = simulate(replace(CITY, weight=50.0), given, days=14, seed=0)
    plain = curves(given, days=14)
    assert torch.equal(heavy.cases, 50 * plain.cases)
    reported = curves(parameters(reporting=torch.tensor([0.5, 0.1])), days=14)
    assert torch.allclose(reported.cases[:7], 0.5 * plain.cases[:7])
    assert torch.allclose(reported.cases[7:], 0.1 * plain.cases[7:])
    assert torch.equal(reported.exposed, plain.exposed)
    assert torch.equal(weekly(plain.cases)[1], plain.cases[7:14].sum(0))


def test_substeps_of_ones_own_take_part():
    seen = []

    def vaccinate(state, _, noise):
        seen.append(noise.step)
        if noise.step == 3:
            state["stage"][state["stage"] == SUSCEPTIBLE] = RECOVERED
        return state

    outcome = curves(parameters(), days=10, substeps=("progress", vaccinate, "infect"))
    assert seen == list(range(10))
    assert outcome.exposed[:3].sum() > 0
    assert outcome.exposed[3:].sum() == 0
    with pytest.raises(UsageError, match="there is no substep 'heal'; registered are"):
        curves(parameters(), substeps=("heal",))
    with pytest.raises(UsageError, match="already a substep named 'infect'"):
        register("infect")(lambda _: vaccinate)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"transmission": [2.0, 2.0]}, "at least 4 weeks"),
        ({"transmission": -1.0}, "0 or more"),
        ({"transmission": float("nan")}, "finite"),
        ({"isolation": torch.full((6,), 1.2)}, "probabilities"),
        ({"isolation": torch.zeros(3, 6)}, "covers 3 weeks; 4 are"),
        ({"isolation": torch.zeros(4, 2)}, "6 groups"),
        ({"isolation": lambda *_: torch.zeros(2)}, r"\[groups\] = \[6\], got \[2\]"),
        ({"initial": torch.zeros(4)}, r"initial must be \[6\]"),
        ({"initial": torch.tensor(2.0)}, "probabilities"),
        ({"fatality": torch.zeros(2)}, "fatality must be"),
        ({"reporting": torch.tensor(3.0)}, "probabilities"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        curves(parameters(**given))


def test_other_wrong_input_is_refused():
    with pytest.raises(UsageError, match="at least one day"):
        curves(parameters(), days=0)
    with pytest.raises(UsageError, match="groups must be"):
        curves(parameters(), groups=torch.zeros(4, dtype=torch.uint8))
    with pytest.raises(UsageError, match="one length"):
        Disease(fatality=(0.1,))
    with pytest.raises(UsageError, match="even number"):
        Disease(workplace_contacts=3)
    with pytest.raises(UsageError, match="tables of 6 age groups"):
        simulate(replace(CITY, ages=("a",) * 7), parameters(), days=1, seed=0)


def test_members_of_an_infected_persons_household_are_infected_more_often() -> None:
    city = tiny_city(5_000, seed=0)
    outcome = simulate(city, Parameters(torch.tensor(3.0), None, torch.tensor(0.005)), days=12, seed=0)
    assert outcome.state is not None
    day = outcome.state["infected_at"].long()
    ill, home = day != NEVER, city.households.of.long()
    first = ill & (day < 0)
    exposed_home = torch.zeros(len(city.households), dtype=torch.bool)
    exposed_home[home[first]] = True
    household, elsewhere = exposed_home[home] & ~first, ~exposed_home[home]
    assert float(ill[household].float().mean()) > 2 * float(ill[elsewhere].float().mean())
