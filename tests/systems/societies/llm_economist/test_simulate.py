"""A run of the tax game: what it writes, what it is measured against, budgets, bad input, and its actions."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.llm.endpoint import Endpoint
from tests.llm.models import TEMPLATE

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import federal_schedule
from pilotage.random.streams import Streams
from pilotage.runs import Run
from pilotage.systems.societies.llm_economist import SYSTEM
from pilotage.systems.societies.llm_economist.actions import counterfactual, estimate_cost, optimum
from pilotage.systems.societies.llm_economist.builders import climb, evaluate_schedule, make_planner
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.scenario import (
    best_schedule,
    make_world,
    named_schedule,
    reference_schedules,
)
from pilotage.systems.societies.llm_economist.simulate import first_rates, simulate

SMALL = TaxDesignConfig(agents=30, years=7, tax_year=14, result_years=3)


def played(folder: Path, config: TaxDesignConfig, seed: int = 0) -> Run:
    with Run.create(folder, system="llm-economist", config=config_to_dict(config), seed=seed) as run:
        result = simulate(config, run)
        assert run.undescribed == []
        run.finish(result.metrics)
    return run


def lines(run: Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.directory / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return played(tmp_path_factory.mktemp("game") / "run", SMALL)


# ---- what a run says -------------------------------------------------------------------------------------------------


def test_the_result_is_the_mean_of_the_last_years_and_not_the_best(run: Run) -> None:
    years = lines(run, "metrics")
    result = dict(run.result or {})
    assert [line["step"] for line in years] == [1, 2, 3, 4, 5, 6, 7]
    welfare = [line["welfare"] for line in years]
    assert result["welfare/final"] == pytest.approx(sum(welfare[-3:]) / 3)
    assert result["welfare/final"] < max(welfare)
    best = result["welfare/optimum"]
    assert result["welfare/share_of_optimum"] == pytest.approx(result["welfare/final"] / best)
    for line in years:
        assert line["welfare/share_of_optimum"] == pytest.approx(line["welfare"] / best)
        assert line["regret"] == pytest.approx(1 - line["welfare"] / best)
    assert result["regret/mean"] == pytest.approx(sum(line["regret"] for line in years) / 7)
    assert result["gain_over/saez"] == pytest.approx(result["welfare/final"] / result["same_workers/saez"] - 1)
    assert (result["complete"], result["years"]) == (1, 7)


def test_what_is_measured_against_is_the_exact_optimum_and_the_law_in_its_own_brackets(run: Run) -> None:
    world = make_world(SMALL, Streams(0).torch)
    kept = json.loads((run.directory / "schedules.json").read_text())
    by_name = {one["name"]: one for one in kept["schedules"]}
    grid = torch.cartesian_prod(*[torch.arange(0, 101, 10).double()] * 3)
    assert by_name["optimum"]["welfare"] == pytest.approx(float(world.game.score(grid).max()))
    law = federal_schedule(2024)
    assert by_name["federal"]["rates"] == law.rates.tolist()
    assert by_name["federal"]["edges"] == law.edges.tolist()
    year = world.with_edges(law.edges, SMALL).game.play(law.rates)
    assert by_name["federal"]["welfare"] == pytest.approx(float((world.game.weights * year.utility).mean()))
    assert by_name["federal"]["welfare"] < by_name["saez"]["welfare"] <= by_name["optimum"]["welfare"] * 1.02
    assert kept["final"]["rates"] == [lines(run, "metrics")[-1][f"rate/{b}"] for b in (1, 2, 3)]


def test_the_planners_exchanges_are_kept_and_say_that_they_are_scripted(run: Run) -> None:
    said = lines(run, "rollouts")
    assert [line["step"] for line in said] == [1, 2, 3, 4, 5, 6]  # none after the last year
    assert all(line["completion"].startswith("[scripted stand-in pattern] {") for line in said)
    assert "STATE {" in said[0]["prompt"]
    about = json.loads((run.directory / "run.json").read_text())
    assert len(about["scripted_components"]) == 2


def test_the_population_depends_on_the_seed_alone_so_that_planners_meet_the_same_people(
    tmp_path: Path, run: Run
) -> None:
    other = played(tmp_path / "other", replace(SMALL, planner="random", years=2))
    assert (other.result or {})["welfare/optimum"] == (run.result or {})["welfare/optimum"]
    assert lines(other, "metrics")[0] == lines(run, "metrics")[0]  # the first year has the same rates and draws
    third = played(tmp_path / "third", replace(SMALL, years=2), seed=1)
    assert (third.result or {})["welfare/optimum"] != (run.result or {})["welfare/optimum"]


def test_workers_who_compute_reach_the_landreferences_and_explorers_fall_short() -> None:
    world = make_world(SMALL, Streams(0).torch)
    references = reference_schedules(SMALL, world, Streams(0).torch("optimum"))
    rates, best = references["optimum"].rates, references["optimum"].welfare
    computed = evaluate_schedule(replace(SMALL, workers="rational"), world, rates, 0)
    assert computed["welfare"] == pytest.approx(best)
    assert computed["hours"] == pytest.approx(references["optimum"].hours)
    long = replace(SMALL, tax_year=25)
    assert 0.8 * best < evaluate_schedule(long, world, rates, 0)["welfare"] < best
    assert evaluate_schedule(long, world, rates, 0) == evaluate_schedule(long, world, rates, 0)
    assert evaluate_schedule(long, world, rates, 0) != evaluate_schedule(long, world, rates, 1)


@pytest.mark.parametrize("planner", ["hill-climb", "gradient", "elected", "random", "constant", "saez", "optimum"])
def test_every_planner_plays(planner: Any, tmp_path: Path) -> None:
    config = replace(SMALL, planner=planner, workers="rational", tax_year=1, settled=1.0, years=4)
    result = dict(played(tmp_path, config).result or {})
    assert result["years"] == 4
    if planner == "optimum":
        assert result["welfare/share_of_optimum"] == pytest.approx(1)
    if planner == "saez":
        assert result["welfare/final"] == pytest.approx(result["welfare/saez"])
        assert result["gain_over/saez"] == pytest.approx(0)


def test_the_planner_that_knows_the_model_comes_near_the_optimum() -> None:
    for seed in (3, 4):
        world = make_world(replace(SMALL, agents=60), Streams(seed).torch)
        rates = climb(world, torch.full((3,), 50.0, dtype=torch.float64))
        assert (rates % 10 == 0).all()
        assert float(world.score(rates)) > 0.97 * best_schedule(world, Streams(0).torch("x")).value


def test_seven_brackets_are_searched_and_the_search_is_no_worse_than_any_flat_rate() -> None:
    config = replace(SMALL, brackets="federal")
    world = make_world(config, Streams(0).torch)
    found = best_schedule(world, Streams(0).torch("optimum"))
    flat = torch.arange(0, 101, 5).double()[:, None].expand(-1, 7)
    assert found.value >= float(world.score(flat).max())
    assert found.value >= float(world.score(federal_schedule(2024).rates))


def test_personas_are_evaluated_with_satisfaction(tmp_path: Path) -> None:
    config = replace(SMALL, workers="persona", satisfaction=True, cost_spread=0.4, years=3, tax_year=4)
    result = dict(played(tmp_path, config).result or {})
    assert 0 < result["content/final"] < 1
    world = make_world(config, Streams(0).torch)
    plain = make_world(replace(config, satisfaction=False), Streams(0).torch)
    rates = torch.tensor([50.0, 50.0, 50.0], dtype=torch.float64)
    assert float(world.score(rates)) < float(plain.score(rates))
    assert world.game.population.cost.std() > 0


# ---- a language model ------------------------------------------------------------------------------------------------


def planner_endpoint() -> Endpoint:
    return Endpoint(lambda _: '{"DELTA": [10, 0, -10]}')


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Endpoint, TaxDesignConfig]]:
    pytest.importorskip("openai", reason="endpoints need pilotage[llm]")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoint = planner_endpoint()
    with endpoint.listening() as url:
        config = replace(SMALL, workers="rational", tax_year=1, settled=1.0, years=5)
        yield endpoint, replace(config, planner="llm", provider="endpoint", model="tiny", base_url=url)


def test_a_budget_stops_the_run_cleanly_and_a_larger_one_pays_only_for_the_rest(
    model: tuple[Endpoint, TaxDesignConfig], tmp_path: Path
) -> None:
    endpoint, config = model
    first = played(tmp_path / "first", replace(config, budget_calls=2))
    result = dict(first.result or {})
    assert (result["complete"], result["years"]) == (0, 3)
    assert [event["kind"] for event in lines(first, "events")] == ["budget", "language model"]
    assert len(endpoint.bodies) == 2
    kept = tmp_path / "first" / "answers.sqlite"
    second = played(tmp_path / "second", replace(config, budget_calls=2, reply_cache=kept))
    assert (second.result or {})["complete"] == 1
    assert len(endpoint.bodies) == 4  # one for each of four years but the last
    assert lines(second, "metrics")[:3] == lines(first, "metrics")
    assert [line["step"] for line in lines(first, "metrics")] == [1, 2, 3]
    assert (second.result or {})["rate/1"] == pytest.approx(80)
    about = json.loads((second.directory / "run.json").read_text())
    assert not any("planner" in text for text in about["scripted_components"])


def test_a_budget_of_nothing_ends_where_the_planner_would_be_asked(
    model: tuple[Endpoint, TaxDesignConfig], tmp_path: Path
) -> None:
    endpoint, config = model
    result = dict(played(tmp_path, replace(config, budget_calls=0)).result or {})
    assert (result["complete"], result["years"], len(endpoint.bodies)) == (0, 1, 0)


def test_when_even_the_first_step_costs_too_much_there_is_a_result_without_years(tmp_path: Path) -> None:
    pytest.importorskip("pydantic", reason="workers played by a model need pilotage[llm]")
    result = dict(played(tmp_path, replace(SMALL, workers="llm", budget_calls=3)).result or {})
    assert (result["complete"], result["years"]) == (0, 0)
    assert "welfare/final" not in result


def test_bad_answers_are_asked_again_counted_and_leave_rates_alone(
    model: tuple[Endpoint, TaxDesignConfig], tmp_path: Path
) -> None:
    endpoint, config = model
    endpoint.reply = lambda _: '{"DELTA": ["10%", 0, 0]}'
    run = played(tmp_path, replace(config, attempts=3, years=3))
    last = lines(run, "metrics")[-1]
    assert (last["replies/kept"], last["replies/refused"]) == (2, 6)
    assert [last[f"rate/{b}"] for b in (1, 2, 3)] == [50, 50, 50]
    assert len(endpoint.bodies) == 6  # a second and a third try are calls of their own, not the kept answer
    assert "refused" in endpoint.prompts[1]


def test_a_local_model_is_asked_in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pilotage.policies.language.embedded import tiny_policy

    policy = tiny_policy("0.4M", string.printable[:95] + "\n", 0, context=4096)
    policy.tokenizer.chat_template = TEMPLATE
    monkeypatch.setattr("pilotage.training.llm_service.LanguagePolicy.from_pretrained", lambda _: policy)
    config = replace(SMALL, agents=10, years=2, tax_year=1, settled=1.0, attempts=2, max_tokens=4, history=2, best=1)
    run = played(tmp_path, replace(config, workers="rational", planner="llm", provider="local", model="tiny"))
    last = lines(run, "metrics")[-1]
    assert (last["replies/kept"], last["replies/refused"]) == (1, 2)  # an untrained model writes no JSON
    assert (run.result or {})["complete"] == 1
    said = lines(run, "rollouts")
    assert said[0]["source"] == "model"
    assert "scripted" not in said[0]["completion"]


def test_workers_whom_a_model_plays_cost_calls_by_archetype_and_not_by_head(tmp_path: Path) -> None:
    pytest.importorskip("pydantic", reason="workers played by a model need pilotage[llm]")
    config = replace(SMALL, workers="llm", planner="elected-llm", satisfaction=True, tax_year=2, years=3, transcripts=2)
    config = replace(config, skill_bins=3, personas=2, draws=2, candidates=2)
    calls = {}
    for agents in (30, 300):
        run = played(tmp_path / str(agents), replace(config, agents=agents))
        text = next(event["text"] for event in lines(run, "events") if event["kind"] == "language model")
        calls[agents] = text.partition("spent_calls ")[2]
        said = lines(run, "rollouts")
        assert {line["agent"] for line in said if line["step"] == 1} >= {"planner", "worker", "voter"}
        assert not [line for line in said if line["agent"] == "worker" and line["step"] == 2]  # every second year
        assert all("scripted" in line["completion"] for line in said)
    assert calls[30] == calls[300]
    assert estimate_cost(replace(config, agents=300))["calls of the scripted stand-in, without repairs"] >= int(
        calls[300]
    )


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agents": 1}, "--agents"),
        ({"years": 0}, "years"),
        ({"hours_step": 0}, "--hours-step"),
        ({"hours_step": 60}, "--hours-step"),
        ({"federal_start": True}, "--brackets federal"),
        ({"provider": "endpoint", "planner": "llm"}, "--model"),
        ({"swf": "paper", "altruistic": 0.1}, "egotistical"),
        ({"draws": 0}, "draws"),
    ],
)
def test_configurations_that_cannot_work_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": (50.0, 40.0)}, "2 rates"),
        ({"start": (120.0,)}, "0 to 100"),
        ({"edges": (0.0, 90_000.0, 50_000.0)}, "rise"),
        ({"brackets": "federal", "year": 1990}, "2013 to 2026"),
        ({"incomes": "cps-primary", "tax_units": Path("nowhere.csv")}, "nowhere.csv"),
        ({"elasticity": (0.4, 0.4)}, "elasticity"),
        ({"altruistic": 0.8, "adversarial": 0.3}, "at most 1"),
    ],
)
def test_what_is_only_seen_with_the_world_is_refused_too(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        played(tmp_path, replace(SMALL, **changes))


def test_the_papers_welfare_warns_in_the_run(tmp_path: Path) -> None:
    run = played(tmp_path, replace(SMALL, swf="paper", years=2, tax_year=2))
    assert [event["kind"] for event in lines(run, "events")] == ["paper welfare"]


def test_first_rates_are_one_for_all_one_each_or_the_laws() -> None:
    config = replace(SMALL, brackets="federal")
    references = reference_schedules(config, make_world(config, Streams(0).torch), Streams(0).torch("optimum"))
    assert first_rates(config, references).tolist() == [50.0] * 7
    assert first_rates(replace(config, federal_start=True), references).tolist() == [10, 12, 22, 24, 32, 35, 37]
    each = tuple(float(10 * b) for b in range(7))
    assert first_rates(replace(config, start=each), references).tolist() == list(each)


# ---- actions ---------------------------------------------------------------------------------------------------------


def test_the_optimum_is_named_beside_where_the_planner_ended(run: Run) -> None:
    rows = optimum(SMALL, run.directory)["schedules"]
    assert [row["schedule"] for row in rows] == ["optimum", "saez", "flat_50", "federal", "planner's last"]
    assert rows[0]["share of optimum"] == 1
    assert rows[-1]["share of optimum"] <= 1


def test_a_counterfactual_is_paired_so_that_nothing_differs_from_itself(run: Run) -> None:
    same = counterfactual(SMALL, run.directory, "federal", "federal", 2, 2)["differences"]
    assert all(row["difference"] == row["95 % from"] == row["to"] == 0 for row in same)
    found = counterfactual(SMALL, run.directory, "optimum", "federal", 3, 2)["differences"]
    by_name = {row["measure"]: row for row in found}
    assert by_name["social welfare per head"]["difference"] > 0
    assert by_name["Gini after tax and rebate"]["difference"] < 0 > by_name["weekly hours"]["difference"]
    row = by_name["social welfare per head"]
    assert row["optimum"] - row["federal"] == pytest.approx(row["difference"], abs=0.01)


def test_counterfactuals_that_mean_nothing_are_refused(run: Run) -> None:
    for text in ("best", "50,60", ""):
        with pytest.raises(UsageError, match="is no schedule"):
            counterfactual(SMALL, run.directory, text, "federal", 2, 1)
    with pytest.raises(UsageError, match="2 seeds"):
        counterfactual(SMALL, run.directory, "optimum", "federal", 1, 1)
    with pytest.raises(UsageError, match="language model"):
        counterfactual(replace(SMALL, workers="llm"), run.directory, "optimum", "federal", 2, 1)
    assert named_schedule("40", {}, 3).tolist() == [40, 40, 40]  # type: ignore[union-attr]


def test_an_estimate_counts_calls_before_they_are_paid_for() -> None:
    config = replace(SMALL, planner="llm", provider="endpoint", model="x", years=40)
    assert estimate_cost(config)["calls of the model, without repairs"] == 40
    assert estimate_cost(replace(SMALL, years=2, tax_year=3))["seconds"] > 0


def test_a_network_for_other_brackets_is_refused_and_the_card_has_its_page() -> None:
    from pilotage.systems.societies.llm_economist.model import RateNetwork

    world = make_world(SMALL, Streams(0).torch)
    config = replace(SMALL, planner="reinforce")
    planner = make_planner(config, world, Streams(0).torch, lambda: RateNetwork(7))
    state = {"rates": [50.0] * 3, "welfare": 1.0, "hours": 40, "year": 0, "years": 5}
    with pytest.raises(UsageError, match="7 brackets"):
        planner.reply("STATE " + json.dumps(state))
    assert "Stackelberg" in SYSTEM.card.notes
