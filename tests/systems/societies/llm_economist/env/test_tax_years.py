import json

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.planning.box_search import enumerate_grid
from pilotage.systems.societies.llm_economist.env.election import ElectedPlanner
from pilotage.systems.societies.llm_economist.env.planner_state import ReplayMemory
from pilotage.systems.societies.llm_economist.env.population import GB2, population_of
from pilotage.systems.societies.llm_economist.env.tax_game import THREE, TaxGame
from pilotage.systems.societies.llm_economist.env.tax_years import TaxYears, run_tax_years
from pilotage.systems.societies.llm_economist.env.workers import (
    AdaptiveWorkers,
    PersonaWorkers,
    RationalWorkers,
    Satisfaction,
)
from pilotage.systems.societies.llm_economist.scripted_planners import (
    ConstantPlanner,
    PatternPlanner,
    RandomPlanner,
    read_state,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def game(count=50):
    return TaxGame(population_of(GB2().quantile((torch.arange(count).double() + 0.5) / count)), THREE)


class Says:
    """Answers in turn, then with the last; keeps what it was told."""

    scripted = False

    def __init__(self, *answers):
        self.answers, self.told = list(answers), []

    def reply(self, state):
        self.told.append(state)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_rates_change_once_per_tax_year_by_what_the_planner_said():
    planner = Says('{"DELTA": [10, -20, 0]}', '{"DELTA": [0, 0, 20]}')
    found = run_tax_years(game(), RationalWorkers(), planner, generator(), years=3, tax_year=4)
    assert found.rates.tolist() == [[50, 50, 50], [60, 30, 50], [60, 30, 70]]
    assert len(planner.told) == 2
    assert found.step_welfare.shape == (12,)
    assert not found.scripted
    welfare = game().score(found.rates)
    assert torch.allclose(found.welfare, welfare)
    assert torch.allclose(found.step_welfare, welfare.repeat_interleave(4))


def test_what_the_planner_reads_is_what_happened():
    world, planner = game(), Says('{"DELTA": [20, 0, 0]}')
    run_tax_years(world, RationalWorkers(), planner, generator(), years=3, tax_year=2)
    state, year = read_state(planner.told[1]), world.play([70, 50, 50])
    assert state["rates"] == [70, 50, 50]
    assert state["welfare"] == pytest.approx(year.welfare.item(), abs=1e-3)
    assert state["income"]["mean"] == pytest.approx(year.income.mean().item(), abs=0.01)
    assert sum(state["income"]["people_by_bracket"]) == sum(state["utility"]["people_by_bin"]) == 50
    assert state["income"]["people_by_bracket"][0] == (year.income < 90_000).sum()
    assert [entry[0] for entry in state["history"]] == [[50, 50, 50], [70, 50, 50]]
    assert len(state["advice"]) == 1
    assert state["advice"][0] in planner.told[1].partition("STATE")[0]


def test_a_bad_answer_is_asked_again_with_the_reason_and_then_rates_stay():
    planner = Says('{"DELTA": ["10%", 0, 0]}', '{"DELTA": [10, 0, 0]}')
    found = run_tax_years(game(), RationalWorkers(), planner, generator(), years=2, tax_year=1)
    assert found.rates[1].tolist() == [60, 50, 50]
    assert "refused" in planner.told[1]
    assert "10%" in planner.told[1]
    assert found.counts == {"refused/no_number": 1, "accepted": 1, "clipped": 0, "rounded": 0, "truncated": 0}
    silent = run_tax_years(game(), RationalWorkers(), Says("no idea"), generator(), years=3, tax_year=1, attempts=2)
    assert silent.rates.unique().tolist() == [50]
    assert silent.counts["kept"] == 2
    assert silent.counts["refused/no_json"] == 4


def test_rates_that_would_leave_the_range_are_cut():
    found = run_tax_years(game(), RationalWorkers(), Says('{"DELTA": [20, -20, 0]}'), generator(), years=5, tax_year=1)
    assert found.rates[-1].tolist() == [100, 0, 50]
    assert found.counts["truncated"] == 2


def test_memory_holds_the_last_and_the_best_and_draws_lessons():
    memory = ReplayMemory(history=2, best=2)
    tensor = torch.tensor
    for rates, welfare in (([50.0, 50], 1.0), ([70.0, 50], 3.0), ([70.0, 30], 2.0), ([50.0, 50], 2.0)):
        memory.add(tensor(rates), welfare)
    assert [trial.welfare for trial in memory.last()] == [2, 2]
    assert [(trial.rates, trial.welfare) for trial in memory.ranked()] == [((70, 50), 3), ((70, 30), 2)]
    assert len(memory.advice()) == 2
    assert "other rates moved" in memory.advice()[0]
    one = ReplayMemory()
    lessons = []
    for rate, welfare in ((50.0, 1.0), (70.0, 2.0), (60.0, 3.0), (40.0, 1.0), (60.0, 0.5)):
        one.add(tensor([rate]), welfare)
        lessons += one.advice()
    assert ["low" in lesson for lesson in lessons] == [True, False, True, False]
    assert ReplayMemory(advice=False).advice() == []
    assert ReplayMemory(history=0, best=0).last() == []
    with pytest.raises(UsageError, match="0 years or more"):
        ReplayMemory(history=-1)


def test_the_pattern_planner_reaches_the_optimum_against_workers_who_compute():
    world = game()
    optimum = enumerate_grid(world.score, range(0, 101, 10), 3)
    found = run_tax_years(world, RationalWorkers(), PatternPlanner(), generator(), years=40, tax_year=1)
    assert found.scripted
    assert found.welfare[-4:].mean().item() > 0.99 * optimum.value
    assert found.rates[-1].equal(found.rates[-2])
    assert found.counts["accepted"] == 39
    assert found.counts["clipped"] == found.counts["rounded"] == 0


def test_it_beats_random_changes_against_workers_who_learn():
    world = game()
    best = enumerate_grid(world.score, range(0, 101, 10), 3).value

    def final(planner):
        workers = AdaptiveWorkers(world, generator(1))
        found = run_tax_years(world, workers, planner, generator(2), years=25, tax_year=25, settled=0.4)
        return found.welfare[-3:].mean().item() / best

    searched = final(PatternPlanner())
    assert searched > 0.9
    assert searched > final(RandomPlanner(generator(3)))


def test_it_follows_the_advice_in_the_text():
    told = {"rates": [50.0, 50.0], "welfare": 1.0, "history": [[[50.0, 50.0], 1.0]], "best": []}
    for word, expected in (("high", [0, -20]), ("low", [0, 20])):
        state = told | {"advice": [f"Raising the rate of bracket 2 did something to welfare: it may be too {word}."]}
        assert json.loads(PatternPlanner().reply("STATE " + json.dumps(state)))["DELTA"] == expected
    # From 70 % the neighbour at 30 % is two years away: another bracket is tried on the way back.
    hurt = told | {
        "rates": [70.0, 50.0],
        "welfare": 0.5,
        "advice": ["Raising the rate of bracket 1 hurt: it may be too high."],
    }
    assert json.loads(PatternPlanner().reply("STATE " + json.dumps(hurt)))["DELTA"] == [-20, 20]
    settle = told | {"phase": "settle", "best": [[[80.0, 40.0], 9.0]]}
    assert json.loads(PatternPlanner().reply("STATE " + json.dumps(settle)))["DELTA"] == [20, -10]
    with pytest.raises(UsageError, match="STATE"):
        PatternPlanner().reply("hello")


def test_discontent_halves_welfare_and_is_reported():
    world = game()
    unhappy = Satisfaction(world, torch.zeros(50).double(), tolerated=-1e6)
    options = {"years": 1, "tax_year": 2}
    found = run_tax_years(world, PersonaWorkers(), ConstantPlanner(), generator(), satisfaction=unhappy, **options)
    plain = run_tax_years(world, PersonaWorkers(), ConstantPlanner(), generator(), **options)
    assert torch.allclose(found.welfare, plain.welfare / 2)
    assert found.content.tolist() == [0, 0]
    assert plain.content.tolist() == [1, 1]


def test_elections_raise_welfare_over_the_law_where_the_median_earns_less_than_the_mean():
    world = game()
    found = run_tax_years(
        world,
        RationalWorkers(),
        ElectedPlanner(world, generator(), candidates=5),
        generator(),
        years=12,
        tax_year=1,
        start=20.0,
    )
    assert found.scripted
    assert found.welfare[-4:].mean() > found.welfare[0]


def test_the_same_seed_gives_the_same_years_whatever_others_draw():
    world, runs = game(20), []
    content = Satisfaction(game(20), torch.zeros(20).double())
    for seed in range(2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        workers, planner = AdaptiveWorkers(world, generator(1)), RandomPlanner(generator(2))
        runs.append(run_tax_years(world, workers, planner, generator(3), years=3, tax_year=5, satisfaction=content))
        assert torch.get_rng_state().equal(before)
    assert runs[0].step_welfare.equal(runs[1].step_welfare)
    assert runs[0].rates.equal(runs[1].rates)


def test_lengths_of_nothing_are_refused():
    for wrong in ({"years": 0}, {"tax_year": 0}, {"settled": 0.0}, {"attempts": 0}):
        with pytest.raises(UsageError, match="1 or more"):
            run_tax_years(game(3), RationalWorkers(), ConstantPlanner(), generator(), **wrong)


@pytest.mark.parametrize("kind", [AdaptiveWorkers, PersonaWorkers, RationalWorkers])
def test_a_simulation_put_away_between_years_goes_on_as_if_nothing_had_happened(kind, tmp_path):
    world, content = game(20), Satisfaction(game(20), torch.zeros(20).double())

    def begin():
        sources = [generator(1), generator(2)]
        workers = kind(world, sources[0]) if kind is AdaptiveWorkers else kind()
        options = {"years": 6, "tax_year": 3, "satisfaction": content}
        return TaxYears(world, workers, PatternPlanner(), sources[1], **options), sources

    undisturbed, _ = begin()
    for _ in range(6):
        undisturbed.advance()
    first, sources = begin()
    for _ in range(3):
        first.advance()
    torch.save({"years": first.state_dict(), "sources": [s.get_state() for s in sources]}, tmp_path / "state.pt")
    first.advance()  # what happens after saving must not reach what was saved
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second, sources = begin()
    second.load_state_dict(saved["years"])
    for source, state in zip(sources, saved["sources"], strict=True):
        source.set_state(state)
    for _ in range(3):
        second.advance()
    expected, found = undisturbed.result(), second.result()
    for name in ("rates", "welfare", "step_welfare", "hours", "gini", "content"):
        assert getattr(found, name).equal(getattr(expected, name)), name
    assert found.counts == expected.counts
    with pytest.raises(UsageError, match="are over"):
        second.advance()
    with pytest.raises(UsageError, match="nothing has happened"):
        begin()[0].result()
