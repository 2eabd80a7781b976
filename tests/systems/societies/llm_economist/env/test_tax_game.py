import itertools

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import Schedule, federal_schedule
from pilotage.systems.societies.llm_economist.env.population import (
    ADVERSARIAL,
    ALTRUISTIC,
    EGOTISTICAL,
    GB2,
    WorkerPopulation,
    population_of,
)
from pilotage.systems.societies.llm_economist.env.tax_game import FLAT, THREE, TaxGame, check_revenue, welfare_weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def people(count=100, seed=0):
    return population_of(GB2().sample(count, generator(seed)))


def of_kinds(skills, kinds, cost=0.02):
    skill = torch.tensor(skills, dtype=torch.float64)
    return WorkerPopulation(skill, torch.full_like(skill, cost), torch.tensor(kinds))


def utilities(game, rates, choice):
    """By hand, worker by worker."""
    schedule = Schedule(game.edges, torch.as_tensor(rates, dtype=torch.float64))
    hours = [float(game.hours[c]) for c in choice]
    incomes = [float(v) * h for v, h in zip(game.population.skill, hours, strict=True)]
    taxes = [float(schedule.tax(torch.tensor(z, dtype=torch.float64))) for z in incomes]
    rebate = sum(taxes) / len(taxes)
    return [
        z - t + rebate - float(c) * h**game.delta
        for z, t, c, h in zip(incomes, taxes, game.population.cost, hours, strict=True)
    ]


def test_a_year_is_what_the_equations_say():
    game = TaxGame(people(7), THREE)
    choice = torch.tensor([0, 1, 2, 4, 6, 8, 10])
    year = game.play([30, 40, 60], choice)
    assert year.utility.tolist() == pytest.approx(utilities(game, [30, 40, 60], choice.tolist()))
    assert year.hours.tolist() == [0, 10, 20, 40, 60, 80, 100]
    assert year.tax.sum().item() == pytest.approx(7 * year.rebate.item(), rel=1e-9)


def test_batched_schedules_equal_single_ones():
    game = TaxGame(people(30), federal_schedule().edges)
    rates = 100 * torch.rand(2, 3, 7, generator=generator(), dtype=torch.float64)
    many = game.play(rates)
    assert many.utility.shape == (2, 3, 30)
    for i, j in itertools.product(range(2), range(3)):
        one = game.play(rates[i, j])
        assert one.choice.equal(many.choice[i, j])
        assert torch.allclose(one.utility, many.utility[i, j])
        assert torch.allclose(one.welfare, many.welfare[i, j])


def test_blocks_of_workers_change_nothing(monkeypatch):
    game = TaxGame(people(30), THREE)
    rates = torch.tensor([[50.0, 50, 50], [0, 90, 20]]).double()
    whole = game.best_response(rates)
    monkeypatch.setattr("pilotage.systems.societies.llm_economist.env.tax_game.CELLS", 50)
    assert len(game._blocks(2)) > 10
    assert game.best_response(rates).equal(whole)


@pytest.mark.parametrize("kinds", [(0, 0), (0, 1), (1, 2), (2, 0)])
def test_two_workers_play_the_equilibrium_of_backward_induction(kinds):
    game = TaxGame(of_kinds([500.0, 2500.0], list(kinds)), THREE)
    rates = [40, 60, 30]
    grid = range(len(game.hours))
    payoff = {}
    for pair in itertools.product(grid, grid):
        own = utilities(game, rates, pair)
        welfare = sum(g * u for g, u in zip(game.weights.tolist(), own, strict=True))
        wanted = {EGOTISTICAL: own, ALTRUISTIC: [welfare] * 2, ADVERSARIAL: [-welfare] * 2}
        payoff[pair] = [wanted[kind][i] for i, kind in enumerate(kinds)]
    found = tuple(game.best_response(rates).tolist())
    for other in grid:  # nobody gains by another choice, to a rounding error
        assert payoff[found][0] >= payoff[other, found[1]][0] - 1e-6
        assert payoff[found][1] >= payoff[found[0], other][1] - 1e-6


def test_the_median_worker_works_forty_hours_at_22_percent():
    game = TaxGame(people(101), FLAT, hours=[float(h) for h in range(101)])
    median = int(game.population.skill.argsort()[50])
    assert game.play([22]).hours[median] == 40


def test_elasticity_of_labour_is_one_over_delta_minus_one():
    game = TaxGame(people(2000), FLAT, hours=torch.linspace(0, 150, 1501).tolist())
    half, low = game.play([50]).hours, game.play([20]).hours
    assert (half / low).log().mean().item() == pytest.approx(0.4 * torch.tensor(0.5 / 0.8).log().item(), abs=0.003)


def test_altruists_work_more_for_a_rebate_and_adversaries_lower_welfare():
    base = people(200)
    game = TaxGame(base, FLAT)
    hours = game.play([70])
    mixed = TaxGame(base.with_kinds(0.1, 0.0, generator()), FLAT)
    worse = TaxGame(base.with_kinds(0.0, 0.1, generator()), FLAT)
    rich_altruists = (mixed.population.kind == ALTRUISTIC) & (base.skill > base.skill.median())
    assert (mixed.play([70]).hours - hours.hours)[rich_altruists].mean() > 5
    assert mixed.play([70]).welfare > hours.welfare > worse.play([70]).welfare


def test_welfare_per_head_does_not_depend_on_how_many_there_are():
    incomes = GB2().quantile((torch.arange(50, dtype=torch.float64) + 0.5) / 50)
    scores = [TaxGame(population_of(incomes.repeat(n)), THREE).score([50, 50, 50]).item() for n in (1, 20, 2000)]
    assert scores[1] == pytest.approx(scores[0], rel=0.02)
    assert scores[2] == pytest.approx(scores[1], rel=1e-3)  # a worker's own share of its tax, 1/N, vanishes


def test_a_hundred_thousand_workers_fit():
    game = TaxGame(people(100_000), federal_schedule().edges)
    year = game.play(federal_schedule().rates)
    assert 30 < year.hours.mean() < 50


def test_weights_are_fixed_floored_and_have_mean_one():
    weights = welfare_weights(torch.tensor([0.0, 5000.0, 10_000.0]))
    assert weights[0] == weights[1] == 2 * weights[2]
    assert weights.mean().item() == pytest.approx(1)
    game = TaxGame(people(50), THREE)
    forty = TaxGame(people(50), THREE, weights_from="forty_hours")
    assert not torch.allclose(game.weights, forty.weights)
    assert torch.allclose(forty.weights, welfare_weights(forty.population.skill * 40))
    with pytest.raises(UsageError, match="floor"):
        welfare_weights(torch.zeros(3), floor=0)


def test_defect_a_the_papers_welfare_rewards_mass_unemployment_and_fixed_weights_do_not():
    everything, half = [100.0, 100.0, 90.0], [50.0, 50.0, 50.0]
    incomes = people().skill * 40
    # In a large population the 1/N of a worker's own tax that returns to it does not count.
    many = people(100_000).skill * 40
    with pytest.warns(UserWarning, match="stops working"):
        papers_cost = TaxGame(population_of(many, cost=0.0005), THREE, swf="paper")
    with pytest.warns(UserWarning, match="stops working"):
        calibrated = TaxGame(population_of(incomes), THREE, swf="paper")
    assert papers_cost.score(everything) > 1000 * papers_cost.score(half)
    assert (papers_cost.play(everything).hours == 0).double().mean() > 0.5
    assert calibrated.score(everything) > 20 * calibrated.score(half)
    fixed = TaxGame(people(), THREE)
    assert fixed.score(everything) < fixed.score(half)


def test_defect_b_the_papers_cost_makes_hours_irrelevant_and_the_calibrated_one_does_not():
    skills = people().skill
    paper = TaxGame(population_of(skills * 40, cost=0.0005), THREE)
    at_cap = (paper.play([50, 50, 50]).hours == 100).sum()
    assert at_cap > 75
    calibrated = TaxGame(population_of(skills * 40), THREE)
    assert (calibrated.play([50, 50, 50]).hours == 100).sum() < 5
    low, high = [20] * 3, [70] * 3
    lost = [float(1 - game.play(high).hours.mean() / game.play(low).hours.mean()) for game in (paper, calibrated)]
    assert lost[0] < 0.5 * lost[1]


def test_revenue_that_is_not_returned_is_an_error():
    check_revenue(torch.tensor([10.0, 20.0]), torch.tensor(15.0))
    with pytest.raises(ArithmeticError, match="given back"):
        check_revenue(torch.tensor([10.0, 20.0]), torch.tensor(14.9))


def test_the_relaxed_score_approaches_the_exact_one_and_has_its_gradient():
    fine = TaxGame(people(40), THREE, hours=torch.linspace(0, 100, 201).tolist())
    rates = torch.tensor([60.0, 55.0, 50.0], dtype=torch.float64)
    assert fine.relaxed_score(rates, 0.01).item() == pytest.approx(fine.score(rates).item(), rel=1e-3)
    leaf = rates.clone().requires_grad_()
    game = TaxGame(people(40), THREE)
    game.relaxed_score(leaf, 2.0).backward()
    for j in range(3):
        step = 1e-4 * torch.eye(3, dtype=torch.float64)[j]
        numeric = (game.relaxed_score(rates + step, 2.0) - game.relaxed_score(rates - step, 2.0)) / 2e-4
        assert leaf.grad[j].item() == pytest.approx(numeric.item(), rel=1e-4)


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="each of 3 brackets"):
        TaxGame(people(3), THREE).play([10, 20])
    with pytest.raises(UsageError, match="0 to 100"):
        TaxGame(people(3), THREE).score([10, 20, 130])
    with pytest.raises(UsageError, match="expected choices"):
        TaxGame(people(3), THREE).play([0, 0, 0], torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UsageError, match="places 0 to 10"):
        TaxGame(people(3), THREE).play([0, 0, 0], torch.full((3,), 11))
    with pytest.raises(UsageError, match="δ"):
        TaxGame(people(3), THREE, delta=1.0)
    with pytest.raises(UsageError, match="grid of hours"):
        TaxGame(people(3), THREE, hours=[10, 0])
    with pytest.raises(UsageError, match="one of fixed"):
        TaxGame(people(3), THREE, swf="best")
    with pytest.warns(UserWarning, match="stops working"), pytest.raises(UsageError, match="depends on all others"):
        TaxGame(of_kinds([1.0, 2.0], [0, 1]), THREE, swf="paper")
    with pytest.warns(UserWarning, match="stops working"), pytest.raises(UsageError, match="relaxed"):
        TaxGame(people(3), THREE, swf="paper").relaxed_score(torch.zeros(3).double())
