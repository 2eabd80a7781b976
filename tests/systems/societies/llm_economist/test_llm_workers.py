"""Workers and planners of a tax game whom a language model plays, with scripts in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

pytest.importorskip("pydantic", reason="workers played by a model need pilotage[llm]")

from pilotage.core.errors import UsageError
from pilotage.llm import ChatRequest, Scripted, Service
from pilotage.systems.societies.llm_economist import prompts
from pilotage.systems.societies.llm_economist.env.archetypes import WorkerArchetypes, make_archetypes
from pilotage.systems.societies.llm_economist.env.population import GB2, population_of, read_tax_units
from pilotage.systems.societies.llm_economist.env.tax_game import THREE, TaxGame
from pilotage.systems.societies.llm_economist.env.tax_years import run_tax_years
from pilotage.systems.societies.llm_economist.env.workers import RationalWorkers, WorkerObservation
from pilotage.systems.societies.llm_economist.llm_planners import ElectedByService, ServicePlanner, scripted_reply
from pilotage.systems.societies.llm_economist.llm_workers import (
    ServiceWorkers,
    scripted_worker_reply,
)

RATES = torch.tensor([50.0, 50.0, 50.0], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def game(count: int = 40) -> TaxGame:
    return TaxGame(population_of(GB2().quantile((torch.arange(count).double() + 0.5) / count)), THREE)


def archetypes(world: TaxGame, bins: int = 4, personas: int = 2) -> WorkerArchetypes:
    units = read_tax_units().working()
    return make_archetypes(world.population.skill, units, generator(), growth=1.37, bins=bins, personas=personas)


class Says:
    """A script that answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = answers, list[ChatRequest]()

    def __call__(self, request: ChatRequest, seed: int) -> Any:  # noqa: ARG002 - a script's
        self.asked.append(request)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def service(script: Any) -> Service:
    return Service(Scripted(script, "test"), concurrency=1)


def view(world: TaxGame, new: bool = True) -> WorkerObservation:
    return WorkerObservation(world, RATES, 0, new, None)


def test_archetypes_are_bins_of_skill_with_personas_of_that_income() -> None:
    world = game(400)
    made = archetypes(world, bins=5, personas=3)
    assert len(made) == 15
    assert sum(made.size()) == 400
    assert max(made.size()) - min(made.size()) <= 2
    for one in range(len(made)):
        own = world.population.skill[made.of_worker == one]
        assert float(own.mean()) == pytest.approx(float(made.skill[one]))
        assert made.personas[one].income == pytest.approx(40 * float(own.mean()))
    assert made.skill[0] < made.skill[-1] / 5
    assert (
        archetypes(game(3), bins=5, personas=2).of_worker.tolist() != []
    )  # empty bins leave no archetype without people
    assert 0 not in archetypes(game(3), bins=5, personas=2).size()


def test_a_step_asks_each_archetype_a_few_times_however_many_people_there_are() -> None:
    for count in (40, 4000):
        world, script = game(count), Says({"hours": 30, "satisfied": False})
        workers = ServiceWorkers(world, archetypes(world), service(script), generator(), draws=3)
        assert (world.hours[workers.choose(view(world))] == 30).all()
        assert len(script.asked) == 8 * 3
        assert len({(r.messages, r.draw) for r in script.asked}) == 24
        assert (workers.draw(world.play(RATES), generator()) == 0.5).all()
        assert workers.scripted


def test_hours_off_the_grid_go_to_the_nearest_and_what_cannot_be_read_changes_nothing() -> None:
    world = game()
    script = Says({"hours": 44, "satisfied": True})
    workers = ServiceWorkers(world, archetypes(world), service(script), generator(), draws=1)
    assert (world.hours[workers.choose(view(world))] == 40).all()
    assert workers.counts["workers/rounded"] == 8
    for bad in ("forty", {"hours": -5, "satisfied": True}, {"hours": "many", "satisfied": 1}, {"hours": 30}):
        workers.service.provider.script = Says(bad)  # type: ignore[attr-defined]
        before = workers.place.clone()
        assert workers.choose(view(world, new=False)).equal(before)
        assert (workers.content == 1).all()
    assert workers.counts["workers/fallback"] == 32


def test_an_archetype_is_told_what_its_hours_brought_under_these_rates_only() -> None:
    world, script = game(), Says({"hours": 20, "satisfied": True}, *[{"hours": 60, "satisfied": True}] * 99)
    made = archetypes(world, bins=1, personas=1)
    workers = ServiceWorkers(world, made, service(script), generator(), draws=1)
    for step in range(3):
        year = world.play(RATES, workers.choose(view(world, new=step == 0)))
        workers.learn(year, torch.ones(len(world)))
    told = json.loads(script.asked[2].messages[1].content.rpartition("STATE ")[2])
    assert set(told["tried"]) == {"20", "60"}
    assert told["tried"]["60"] == round(float(year.utility.mean()))
    assert "20 hours: " in script.asked[2].messages[1].content
    workers.choose(view(world))  # new rates
    assert json.loads(script.asked[3].messages[1].content.rpartition("STATE ")[2])["tried"] == {}
    with pytest.raises(UsageError, match="archetype for each"):
        ServiceWorkers(game(3), made, service(script), generator())


def test_the_stand_in_for_workers_finds_better_hours_than_it_began_with() -> None:
    world = game()
    workers = ServiceWorkers(world, archetypes(world), service(scripted_worker_reply), generator(), draws=4)
    welfare = []
    for step in range(25):
        year = world.play(RATES, workers.choose(view(world, new=step == 0)))
        workers.learn(year, torch.ones(len(world)))
        welfare.append(float(year.welfare))
    assert sum(welfare[-5:]) / 5 > 0.9 * float(world.score(RATES))


# ---- planners --------------------------------------------------------------------------------------------------------


def test_a_planner_that_is_asked_again_gives_another_draw() -> None:
    world, script = game(), Says("no", "no", '{"DELTA": [10, 0, 0]}', '{"DELTA": [0, 0, 0]}')
    found = run_tax_years(world, RationalWorkers(), ServicePlanner(service(script)), generator(), years=3, tax_year=1)
    assert found.rates[1].tolist() == [60, 50, 50]
    assert [request.draw for request in script.asked] == [0, 0, 1, 0]
    assert script.asked[1].messages == script.asked[2].messages
    assert "refused" in script.asked[1].messages[1].content


def test_the_stand_in_of_a_planner_reads_what_a_model_would() -> None:
    world = game()
    found = run_tax_years(
        world, RationalWorkers(), ServicePlanner(service(scripted_reply)), generator(), years=25, tax_year=1
    )
    assert found.scripted
    assert found.welfare[-1] > 1.02 * found.welfare[0]


def state(rates: Any = (50.0, 50.0, 50.0)) -> str:
    return "Rates.\nSTATE " + json.dumps({"rates": list(rates)})


def elect(script: Any, world: TaxGame, **options: Any) -> ElectedByService:
    return ElectedByService(archetypes(world), service(script), generator(), **options)


def test_the_most_voted_candidates_change_is_made() -> None:
    world, said = game(), []

    def script(request: ChatRequest, seed: int) -> Any:
        if request.messages[0].content == prompts.CANDIDATE:
            return {"DELTA": [20 if seed % 2 else -20, 10, 0]}
        ballot = json.loads(request.messages[1].content.rpartition("BALLOT ")[2])
        return {"LEADER": int(min(ballot))}

    planner = elect(script, world, candidates=3, log=said.append)
    delta = json.loads(planner.reply(state()))["DELTA"]
    assert planner.leader == int(min(line["agent"].split()[1] for line in said if line["agent"].startswith("cand")))
    assert delta[1:] == [10, 0]
    assert {line["agent"].split()[0] for line in said} == {"candidate", "voter"}


def test_votes_for_nobody_who_stands_and_answers_in_words_abstain_and_are_counted() -> None:
    world = game()
    votes = iter([*[{"LEADER": 999}] * 4, *["the tall one"] * 4, *[{"LEADER": None}] * 99])

    def script(request: ChatRequest, seed: int) -> Any:
        del seed
        return next(votes) if request.messages[0].content == prompts.VOTER else {"DELTA": ["+10%", 0, 0]}

    planner = elect(script, world, candidates=2, draws=1)
    assert json.loads(planner.reply(state()))["DELTA"] == [0, 0, 0]
    assert planner.leader is None
    assert planner.counts["votes/refused/no_candidate"] == planner.counts["votes/refused/no_json"] == 4
    assert planner.counts["platforms/refused/no_number"] == 2
    planner.leader = 7  # somebody had been elected before: stays, and is asked what it would change
    json.loads(planner.reply(state()))
    assert planner.leader == 7
    copy = elect(script, world)
    copy.load_state_dict(planner.state_dict())
    assert (copy.leader, copy.counts) == (7, planner.counts)
