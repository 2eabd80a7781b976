import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.llm_economist.env.population import (
    ADVERSARIAL,
    ALTRUISTIC,
    GB2,
    WorkerPopulation,
    population_of,
)
from pilotage.systems.societies.llm_economist.env.tax_game import THREE, TaxGame
from pilotage.systems.societies.llm_economist.env.workers import (
    AdaptiveWorkers,
    PersonaWorkers,
    RationalWorkers,
    Satisfaction,
    WorkerObservation,
)

RATES = torch.tensor([40.0, 50.0, 60.0], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def game(count=60):
    return TaxGame(population_of(GB2().quantile((torch.arange(count).double() + 0.5) / count)), THREE)


def live(world, workers, steps, rates=RATES, first=0):
    """Years of the workers under constant rates."""
    years = []
    for step in range(steps):
        view = WorkerObservation(world, rates, first + step, step == 0, years[-1] if years else None)
        years.append(world.play(rates, workers.choose(view)))
        workers.learn(years[-1], torch.ones(len(world)))
    return years


def test_rational_workers_respond_best_and_are_scripted():
    world = game()
    assert live(world, RationalWorkers(), 1)[0].choice.equal(world.best_response(RATES))
    assert RationalWorkers.scripted and AdaptiveWorkers.scripted and PersonaWorkers.scripted  # noqa: PT018


def test_adaptive_workers_try_every_place_once_then_settle_near_the_best_response():
    world = game()
    workers = AdaptiveWorkers(world, generator())
    years = live(world, workers, 60)
    tried = torch.stack([year.choice for year in years[:11]])
    assert tried.sort(0).values.equal(torch.arange(11)[:, None].expand(11, 60))
    assert len(tried[:, :20].T.unique(dim=0)) > 15  # each in an order of its own
    best = world.best_response(RATES)
    late = torch.stack([year.choice for year in years[-20:]]).mode(0).values
    assert ((late - best).abs() <= 1).double().mean() >= 0.98
    assert years[-1].welfare > 0.9 * world.score(RATES)


def test_adaptive_workers_start_anew_under_new_rates_and_explore_as_often_as_told():
    world = game()
    workers = AdaptiveWorkers(world, generator(), epsilon=0.0)
    settled = live(world, workers, 40)
    assert settled[-1].choice.equal(settled[-2].choice)
    live(world, workers, 1)
    assert workers.count.sum() == 60
    lively = AdaptiveWorkers(world, generator(), epsilon=1.0)
    years = live(world, lively, 60)
    assert torch.bincount(years[11].choice, minlength=11).max() < 15  # all look around at the first step
    away = [(year.choice != years[-1].choice).double().mean().item() for year in years[12:]]
    assert sum(away[:10]) > sum(away[-11:-1]) > 0


def test_bandit_means_are_means_of_what_was_wanted():
    base = game(3).population
    world = TaxGame(WorkerPopulation(base.skill, base.cost, torch.tensor([0, ALTRUISTIC, ADVERSARIAL])), THREE)
    workers = AdaptiveWorkers(world, generator())
    view = WorkerObservation(world, RATES, 0, True, None)
    workers.choose(view)
    choice = torch.tensor([4, 4, 4])
    years = []
    for factor in (1.0, 0.5):
        year = world.play(RATES, choice)
        workers.learn(year, torch.full((3,), factor))
        years.append(year)
    own = 0.75 * (years[0].utility[0] - years[0].rebate).item()
    welfare = years[0].welfare.item()
    assert workers.mean[:, 4].tolist() == pytest.approx([own, welfare, -welfare])
    assert workers.count[:, 4].tolist() == [2, 2, 2]


def test_habits_hold_unless_the_gain_is_large():
    world = game()
    free, stuck = PersonaWorkers(inertia=0.0), PersonaWorkers(inertia=100.0)
    some = PersonaWorkers(inertia=0.02)
    assert live(world, stuck, 2)[-1].hours.tolist() == [40.0] * 60
    best = world.best_response(RATES)
    # Without inertia only those whose best is as good as their habit may differ.
    assert live(world, free, 2)[-1].choice.equal(best)
    moved = (live(world, some, 1)[0].hours != 40).sum()
    assert 0 < moved < (world.hours[best] != 40).sum()


def test_what_the_policy_takes_and_ideology_decide_who_is_content():
    world = game()
    low, high = world.play([10] * 3), world.play([60] * 3)
    rich = world.population.skill > world.population.skill.quantile(0.85)
    for ideology in (torch.zeros(60), torch.ones(60), -torch.ones(60)):
        rule = Satisfaction(world, ideology.double(), steepness=2.0)
        change = rule.probability(high) - rule.probability(low)
        assert (change[rich] < 0).all()
        assert (change[world.population.skill == world.population.skill.min()] > 0).all()  # the rebate outweighs it
    year = world.play([40, 40, 40])
    left, right = (Satisfaction(world, torch.full((60,), x).double()).probability(year) for x in (1.0, -1.0))
    assert (left >= right).all()
    assert (left > right)[rich].all()
    full = 40 * world.population.skill[30]
    share = float((0.4 * full - year.rebate) / full)
    rule = Satisfaction(world, torch.zeros(60).double(), tolerated=share)
    assert rule.probability(year)[30].item() == pytest.approx(0.5)
    drawn = torch.stack([rule.draw(year, generator(s)) for s in range(300)])
    assert set(drawn.unique().tolist()) == {0.5, 1.0}
    assert drawn[:, 30].mean().item() == pytest.approx(0.75, abs=0.05)
    assert torch.allclose(drawn.mean(0), rule.expected(year), atol=0.11)


def test_nobody_becomes_content_by_stopping_to_work():
    world = game()
    rule = Satisfaction(world, torch.zeros(60).double())
    idle = torch.zeros(60, dtype=torch.int64)
    busy, nobody = world.play([80.0] * 3), world.play([80.0] * 3, idle)
    assert (rule.probability(nobody) <= rule.probability(busy)).all()
    schedules = torch.tensor([[100.0, 30, 50], [70, 50, 50]], dtype=torch.float64)
    years = world.play(schedules)
    scores = world.welfare(rule.expected(years) * years.utility, years.income)
    assert scores[1] > scores[0]


def test_nonsense_is_refused():
    with pytest.raises(UsageError, match="probability"):
        AdaptiveWorkers(game(), generator(), epsilon=2)
    with pytest.raises(UsageError, match="inertia"):
        PersonaWorkers(inertia=-1)
    with pytest.raises(UsageError, match="ideologies"):
        Satisfaction(game(1), torch.tensor([2.0]))
    with pytest.raises(UsageError, match="expected ideologies"):
        Satisfaction(game(3), torch.zeros(2))
