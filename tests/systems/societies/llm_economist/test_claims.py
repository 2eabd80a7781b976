"""Every measure of LLM Economist's claims, tiny, against a direct computation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.registry import config_to_dict, configure, find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments import Wiring
from pilotage.experiments.jobs import parse_command
from pilotage.experiments.planning import JobPlan, check_claims
from pilotage.runs import Run
from pilotage.systems.societies.llm_economist import measures
from pilotage.systems.societies.llm_economist.claims import CLAIMS


@dataclass
class Context:
    """What a measure gets, without cells."""

    directory: Path
    command: str = "llm-economist --agents 20"
    quick: bool = True
    trained: list[str] = field(default_factory=list)

    def configuration(self) -> Any:
        return configure(find_system("llm-economist"), self.command.split()[1:])

    def train(self, command: str | None = None) -> Result:
        command = command or self.command
        self.trained.append(command)
        system = find_system("llm-economist")
        config = configure(system, command.split()[1:])
        folder = self.directory / f"run-{len(self.trained)}"
        with Run.create(folder, system="llm-economist", config=config_to_dict(config), seed=0) as run:
            return system.run(config, run)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("llm-economist") == CLAIMS
    check_claims(CLAIMS)
    plan = JobPlan(Wiring())
    # An upper bound: trainings that claims share are counted with each of them.
    core = sum(c.cost * c.n * len(c.arms) for c in CLAIMS if c.tier == "core" and not c.unmeasured)
    assert core < 45 * 60
    for claim in CLAIMS:
        for spec in claim.arms.values():
            parse_command(spec.command, plan.wiring)  # raises for a command that cannot work
    assert sum(claim.primary for claim in CLAIMS) == 3
    assert all(claim.unmeasured or claim.measure for claim in CLAIMS)
    # Paired by seed: the arms of a claim differ in nothing that draws the population, but for brackets.
    drawn = ("agents", "incomes", "cost_spread", "altruistic", "adversarial", "satisfaction", "workers")
    for claim in CLAIMS:
        kept = [config_to_dict(parse_command(spec.command, plan.wiring)[1]) for spec in claim.arms.values()]
        assert all({k: one[k] for k in drawn} == {k: kept[0][k] for k in drawn} for one in kept), claim.name


def test_a_quick_pass_is_short_and_a_real_one_is_the_arms_own(context: Context) -> None:
    numbers = measures.played("pattern", 0, context)
    assert numbers["years"] == 3
    assert "welfare/share_of_optimum" in numbers
    context.quick, context.command = False, "llm-economist --agents 20 --years 1 --tax-year 2"
    assert measures.played("pattern", 0, context)["years"] == 1
    assert context.trained[-1] is context.command


def test_the_same_people_change_only_what_they_want(context: Context) -> None:
    found = {arm: measures.kinds(arm, 3, context) for arm in ("selfish", "altruistic", "adversarial", "mixed")}
    assert found["altruistic"]["adversaries' hours"] == found["selfish"]["adversaries' hours"]
    assert found["mixed"]["altruists' hours"] > found["selfish"]["altruists' hours"]
    assert found["adversarial"]["welfare"] < found["selfish"]["welfare"] < found["altruistic"]["welfare"]


def test_two_workers_play_an_equilibrium_and_a_wrong_response_is_found_out(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measures.backward_induction("game", 1, context) == {"equilibrium": 1.0}
    from pilotage.systems.societies.llm_economist.env.tax_game import TaxGame

    right = TaxGame.best_response
    monkeypatch.setattr(TaxGame, "best_response", lambda self, rates: (right(self, rates) - 1).clamp(min=0))
    assert measures.backward_induction("game", 1, context) == {"equilibrium": 0.0}


def test_incomes_are_compared_with_a_half_of_the_survey_that_they_were_not_drawn_from(context: Context) -> None:
    fit, resampled = measures.incomes("gb2", 0, context), measures.incomes("resampled", 0, context)
    assert fit["follows the fit"] == 1
    assert fit["distance to fit"] < resampled["distance to fit"] + 0.05
    own, other, _ = measures._survey(0)
    assert len(other) == measures.HELD_OUT
    assert len(own) + len(other) == 10_000
    assert resampled["distance to primary"] > 0


def test_marginals_fit_when_personas_are_drawn_and_not_when_all_are_young(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measures.marginals("personas", 0, context)["fits"] == 1
    import pilotage.systems.societies.llm_economist.llm_workers as agents

    real = agents._persona
    from dataclasses import replace

    monkeypatch.setattr(agents, "_persona", lambda *given: replace(real(*given), age=20))
    assert measures.marginals("personas", 0, context)["fits"] == 0


def test_the_median_voters_rate_is_what_it_likes_best(context: Context) -> None:
    import torch

    from pilotage.random.streams import Streams
    from pilotage.systems.societies.llm_economist.scenario import make_world

    context.command += " --brackets flat --planner elected --workers rational"
    rate = measures.flat_rate("median", 0, context)["rate"]
    world = make_world(context.configuration(), Streams(0).torch)
    voter = int(world.game.population.skill.argsort()[9])
    own = [float(world.game.play(torch.tensor([float(r)]).double()).utility[voter]) for r in range(0, 101, 10)]
    assert rate == 10 * own.index(max(own))
    assert 0 <= measures.flat_rate("elected", 0, context)["rate"] <= 100


def test_scale_repeats_people_and_counts_seconds(context: Context) -> None:
    hundred, many = measures.scale("100", 0, context), measures.scale("10000", 0, context)
    assert many["welfare"] == pytest.approx(hundred["welfare"], rel=1e-9)
    assert many["log seconds per worker"] == pytest.approx(math.log(many["seconds"] / 10_000))
    assert many["gigabytes"] > 0
