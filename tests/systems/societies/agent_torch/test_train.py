"""The epidemic's run: resumed exactly, scored on what nothing saw, its ladder, its actions, its page."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import ROOT

from pilotage.cli.actions import options_of
from pilotage.core.configuration import configure, read_options
from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.experiments.launch import launch
from pilotage.report import write_report
from pilotage.systems.societies.agent_torch import SYSTEM, actions
from pilotage.systems.societies.agent_torch import train as module
from pilotage.systems.societies.agent_torch.calibration import Calibrator
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.env import Outcome
from pilotage.systems.societies.agent_torch.forecast import drift_std, level_correction, particle_filter, simulations
from pilotage.systems.societies.agent_torch.model import extrapolate_r
from pilotage.systems.societies.agent_torch.scenario import build_scenario

TINY = EpidemicConfig(
    agents=1000, weeks=4, horizon=1, steps=4, forecast_seeds=2, draws=2, checkpoint_every=2, reporting=1.0
)
COMPARED = ("metrics.jsonl", "result.json", "curves.json", module.VALUES, "rollouts.jsonl")


def ran(directory: Path, config: EpidemicConfig = TINY, seed: int = 0) -> Result:
    return launch(SYSTEM, config, seed=seed, directory=directory)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("epidemic") / "run"
    ran(directory)
    return directory


@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_interrupted_and_resumed_it_equals_an_undisturbed_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_after: int
) -> None:
    step = Calibrator.step

    def stops(self: Calibrator) -> Any:
        if self.steps == interrupted_after:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Calibrator, "step", stops)
        with pytest.raises(KeyboardInterrupt):
            ran(tmp_path / "run")
    ran(tmp_path / "run")
    for name in COMPARED:
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name


def test_another_seed_calibrates_under_other_noise(finished: Path, tmp_path: Path) -> None:
    ran(tmp_path / "run", seed=1)
    losses = [
        [json.loads(line).get("calibration/loss") for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (finished, tmp_path / "run")
    ]
    assert losses[0] != losses[1]


def test_weeks_after_the_known_ones_play_no_part_in_what_is_calibrated(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_future(config: EpidemicConfig) -> Any:
        world = build_scenario(config)
        changed = world.reported.clone()
        changed[-config.horizon :] += 1000
        return replace(world, reported=changed)

    monkeypatch.setattr(module, "build_scenario", other_future)
    result = ran(tmp_path / "run")
    for name in ("metrics.jsonl", module.VALUES, "rollouts.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name
    before, after = (json.loads((folder / "curves.json").read_text()) for folder in (finished, tmp_path / "run"))
    assert before["simulated"] == after["simulated"]
    assert result.metrics["forecast/mae"] > 500


def test_scores_are_those_of_the_curves_it_wrote(finished: Path) -> None:
    curves = json.loads((finished / "curves.json").read_text())
    result = json.loads((finished / "result.json").read_text())["metrics"]
    observed, median = np.array(curves["reported"]), np.array(curves["simulated"]["median"])
    observed_weeks = curves["observed_weeks"]
    assert observed_weeks == TINY.weeks - TINY.horizon
    assert result["forecast/mae"] == pytest.approx(np.abs(median[observed_weeks:] - observed[observed_weeks:]).mean())
    loss = ((median - observed)[:observed_weeks] ** 2).mean() / (observed[:observed_weeks] ** 2).mean()
    assert result["calibration/loss"] == pytest.approx(loss, rel=1e-4)


def archetypes_present(config: EpidemicConfig) -> torch.Tensor:
    population = build_scenario(config).population
    return torch.unique(population.age.long() * 100 + population.borough)


@pytest.mark.parametrize("behaviour", ["none", "rule", "agents", "archetypes"])
def test_every_rung_of_the_ladder_runs(tmp_path: Path, behaviour: str) -> None:
    few = replace(TINY, behaviour=behaviour, agents=200, draws=1, steps=1)  # type: ignore[arg-type]
    result = ran(tmp_path / "run", few)
    assert result.metrics["forecast/wis"] >= 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # Once a week; the 30 kinds of people include one that nobody of so few belongs to.
    asked = {"agents": 200 * 3, "archetypes": len(archetypes_present(few)) * 3}
    assert lines[0].get("llm/asked", 0) == asked.get(behaviour, 0)
    assert ("isolation" in lines[-1]) is (behaviour != "none")


def test_a_network_calibrates_too_and_its_weights_follow_the_seed(tmp_path: Path) -> None:
    with_network = replace(TINY, parameters="calibnn", steps=2, behaviour="none", num_validation_weeks=1)
    ran(tmp_path / "a", with_network)
    torch.manual_seed(99)
    ran(tmp_path / "b", with_network)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    assert "calibration/validation_loss" in (tmp_path / "a" / "metrics.jsonl").read_text()


def test_a_budget_of_nothing_stops_before_the_first_question(tmp_path: Path) -> None:
    from pilotage.llm import BudgetReached

    with pytest.raises(BudgetReached, match="0 calls"):
        ran(tmp_path / "run", replace(TINY, budget_calls=0))


def test_answers_of_another_run_are_not_paid_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilotage.llm import BudgetReached, Scripted
    from pilotage.systems.societies.agent_torch import scenario as epidemic_world

    class Endpoint(Scripted):
        """A stand-in whose answers are kept, as an endpoint's are."""

        kept = True

    def stand_in(seed: int) -> Endpoint:
        return Endpoint(lambda request, _: "Yes." if "65" in request.messages[-1].content else "No.", "kept", seed)

    monkeypatch.setattr(epidemic_world, "scripted_provider", stand_in)
    small = replace(TINY, behaviour="archetypes", agents=200, draws=1, steps=0, forecast_seeds=1)
    with pytest.raises(BudgetReached):
        ran(tmp_path / "a", replace(small, budget_calls=20))
    kept = tmp_path / "a" / "answers.sqlite"
    # Three known weeks and the one to come; twenty questions are answered already.
    rest = len(archetypes_present(small)) * 4 - 20
    with pytest.raises(BudgetReached):
        ran(tmp_path / "b", replace(small, budget_calls=rest))
    ran(tmp_path / "c", replace(small, budget_calls=rest, reply_cache=kept))


def test_a_forecast_of_cost_says_who_is_asked_how_often_at_most(finished: Path) -> None:
    expected = actions.estimate_cost(TINY)
    assert set(expected) == {"steps", "agents", "weeks", "calls of the scripted stand-in, without repairs", "seconds"}
    made = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])["llm/asked"]
    assert 0 < made <= expected["calls of the scripted stand-in, without repairs"]
    assert set(actions.estimate_cost(replace(TINY, behaviour="none"))) == {"steps", "agents", "weeks", "seconds"}


def test_counterfactuals_are_paired_and_say_what_they_changed(finished: Path) -> None:
    table = actions.counterfactual(TINY, finished, change="no_isolation", seeds=5)
    cases, deaths = table["reported cases and deaths in the observed weeks"]
    assert cases["of"] == "cases"
    assert cases["changed"] > cases["unchanged"]
    assert cases["effect"] == pytest.approx(cases["changed"] - cases["unchanged"])
    same = actions.counterfactual(TINY, finished, change="transmission", by=1.0, seeds=2)
    for row in same["reported cases and deaths in the observed weeks"]:
        assert row["effect"] == row["low_95"] == row["high_95"] == 0
    fatal = actions.counterfactual(TINY, finished, change="pathogen", by=1000.0, seeds=2)
    assert fatal["reported cases and deaths in the observed weeks"][1]["changed"] > deaths["unchanged"]
    for bad in ({"change": "earlier", "by": 9.0}, {"change": "transmission", "by": 0.0}, {"seeds": 1}):
        with pytest.raises(UsageError):
            actions.counterfactual(TINY, finished, **bad)


def test_behaviour_moved_earlier_is_that_of_later_weeks() -> None:
    done = torch.arange(8.0).view(4, 2) / 10
    moved = actions._changed({}, done, "earlier", 2.0)[1]
    assert torch.equal(moved, torch.stack([done[2], done[3], done[3], done[3]]))
    frozen = actions._changed({}, done, "frozen", 2.0)[1]
    assert torch.equal(frozen[0], done.mean(0))


def test_forecasts_go_on_after_the_known_weeks_and_end_in_order(finished: Path) -> None:
    table = actions.forecast(TINY, finished, weeks=2, seeds=3)
    rows = table["weekly reported cases after the last observed week"]
    assert len(rows) == 2 * 6
    for row in rows:
        assert row["low_95"] <= row["low_50"] <= row["median"] <= row["high_50"] <= row["high_95"]


def test_other_methods_are_judged_beside_the_run(finished: Path) -> None:
    (rows,) = actions.calibrate(TINY, finished, method="abc", simulations=20).values()
    assert [row["values_of"] for row in rows] == ["the run", "abc"]
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_actions_need_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="let the run finish first"):
        actions.forecast(TINY, tmp_path)


def test_the_page_shows_city_and_boroughs_and_says_that_answers_were_scripted(finished: Path, tmp_path: Path) -> None:
    html = write_report(finished, tmp_path / "report.html").read_text()
    assert "Scripted stand-in." in html
    section = html.partition('<section id="epidemic">')[2].partition("</section>")[0]
    assert section.count('<svg class="chart"') == 1 + 5
    assert "Weeks up to week 3 were observed" in section
    for borough in build_scenario(TINY).population.boroughs:
        assert f"weekly cases, {borough}" in section
    assert "[scripted stand-in]" in html


def test_weeks_to_come_are_brought_to_the_level_of_the_last_known_weeks() -> None:
    simulated = torch.arange(1.0, 9.0).view(4, 2)
    reported = 3 * simulated + 2
    last = simulated[2:].sum(0)
    assert torch.allclose(level_correction(simulated, reported), (3 * last + 5) / (last + 1))
    assert level_correction(simulated, 1000 * reported).tolist() == [4, 4]
    assert level_correction(0 * simulated, 0 * reported).tolist() == [1, 1]


def test_steps_of_r_are_those_that_growth_speaks_for() -> None:
    generator = torch.Generator().manual_seed(0)
    growth = (0.12 * torch.randn(400, generator=generator)).cumsum(0) * 0.3
    cases = (20 + (growth - growth.mean()).cumsum(0) / 50).exp()
    grown = torch.log1p(cases).diff().diff().std()
    assert drift_std(cases[:, None]) == pytest.approx(max(0.03, float(grown) * 5.5 / 7), rel=0.3)
    assert drift_std(torch.full((10, 2), 50.0)) == pytest.approx(0.03)
    assert drift_std(torch.ones(4, 2)) == 0.1


def test_filtered_simulations_are_nearer_to_the_known_weeks_and_differ_in_r() -> None:
    config = replace(TINY, agents=3000, weeks=6, horizon=1, behaviour="none", r_low=1.0, r_high=3.0)
    with module.open_epidemic(config, None, 0) as (epidemic, _):
        values, stated = epidemic.model().detach(), epidemic.ask()
        truth = np.log1p(epidemic.reported.sum(1).numpy())
        off = {}
        for filtered in (True, False):
            epidemic.config = replace(config, particle_filter=filtered)
            draws = simulations(epidemic, values, stated, weeks=epidemic.observed_weeks + 1, seeds=range(6), base=3)
            off[filtered] = np.abs(np.log1p(draws.sum(2))[:, : epidemic.observed_weeks] - truth).mean()
        assert off[True] < 0.6 * off[False]
        assert (
            len({round(member.log_rate, 6) for member in particle_filter(epidemic, values, stated, count=8, base=3)})
            > 1
        )


def test_alignment_begins_where_the_epidemic_does_not_die(tmp_path: Path) -> None:
    with module.open_epidemic(replace(TINY, agents=4000, weeks=8), tmp_path, 0) as (epidemic, _):
        stated = epidemic.ask()
        first = epidemic.weekly_cases(epidemic.model().detach(), 0, stated)
        epidemic.initialise_alignment(stated, 0)
        then = epidemic.weekly_cases(epidemic.model().detach(), 0, stated)
        off = [float((torch.log1p(c) - torch.log1p(epidemic.reported)).square().mean()) for c in (first, then)]
        assert off[1] < 0.5 * off[0]
        assert epidemic.model.alignment is not None
        assert float(epidemic.model.alignment.scale().detach().max()) < 1


def test_people_hear_of_cases_at_the_reported_level() -> None:
    with module.open_epidemic(replace(TINY, behaviour="rule", threshold=50.0), None, 0) as (epidemic, _):
        cases = torch.full((7 * (epidemic.observed_weeks + 1), 5), 2.0)
        history = Outcome(cases, cases, cases)
        received = epidemic.behaviour.cases_before(epidemic.observed_weeks + 1, history, lambda later: 3 * later)
        assert torch.equal(received[: epidemic.observed_weeks], epidemic.reported)
        assert torch.equal(received[epidemic.observed_weeks :], torch.full((1, 5), 42.0))


def test_r_to_come_wanders_from_the_last_known_weeks() -> None:
    flat = extrapolate_r(torch.full((6,), 2.0), 4, 0)
    assert torch.allclose(flat, torch.full((4,), 2.0))
    rates = torch.tensor([3.0, 2.0, 3.0, 2.0, 2.0, 2.0])
    many = torch.stack([extrapolate_r(rates, 4, seed) for seed in range(300)])
    assert float(many[:, 0].log().mean()) == pytest.approx(float(torch.tensor(2.0).log()), abs=0.06)
    assert float(many[:, 3].log().std()) == pytest.approx(2 * float(many[:, 0].log().std()), rel=0.2)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--populations x.csv", "--series"),
        ("--agents 10", "--agents: given 10"),
        ("--behaviour agents", "archetypes"),
        ("--r-low 5", "r_low below r_high"),
        ("--provider endpoint", "--model"),
        ("--cautious 2", "--cautious: given 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(words: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        configure(SYSTEM, words.split())


def test_prompts_may_use_what_agents_have_and_nothing_else(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Somebody aged {age}: isolate? {cases} cases, {price} dollars")
    with pytest.raises(UsageError, match=r"\{price\}"):
        ran(tmp_path / "a", replace(TINY, prompt=prompt))
    prompt.write_text("There were {cases} cases. Does somebody isolate? Yes or No")
    ran(tmp_path / "b", replace(TINY, prompt=prompt, steps=1, behaviour="archetypes"))
    lines = (tmp_path / "b" / "rollouts.jsonl").read_text().splitlines()
    assert all(json.loads(line)["who"] == "kind 1 of 1" for line in lines)


def test_the_page_on_societies_says_what_works() -> None:
    page = (ROOT / "docs" / "societies.md").read_text(encoding="utf-8")
    lines = [line.partition(" #")[0] for line in page.splitlines() if line.startswith("pilotage ")]
    assert len(lines) >= 8
    for words in (shlex.split(line) for line in lines):
        if words[1] == "run":
            own = [word for word in words[3:] if word != "--dry-run"]
            place = own.index("--out") if "--out" in own else len(own)
            configure(SYSTEM, own[:place] + own[place + 2 :])
        if words[1] == "do":
            read_options(options_of(SYSTEM.load_action(words[3]), words[3]), words[6:], words[3])
    names: dict[str, Any] = {}
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, names)
    assert names["step"].best.endswith("Cases rise. Do you stay at home?")


def test_the_real_city_is_read_and_simulated(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "nyc-covid"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    config = EpidemicConfig(
        series=folder / "nyc_weekly_by_borough.csv",
        end_week="2020-10-10",
        agents=8000,
        behaviour="rule",
        steps=1,
        horizon=2,
        forecast_seeds=2,
    )
    world = build_scenario(config)
    assert world.population.weight == pytest.approx(8_336_817 / 8000)
    assert world.labels[0] == "2020-09-05"
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="data-by-day"):
        build_scenario(replace(config, series=Path("nyc")))
    (tmp_path / "nyc-covid").symlink_to(folder)
    assert torch.equal(build_scenario(replace(config, series=Path("nyc"))).reported, world.reported)
    result = ran(tmp_path / "run", config)
    assert np.isfinite(list(result.metrics.values())).all()
    with pytest.raises(UsageError, match="2025"):
        build_scenario(replace(config, end_week="2025-01-04"))
