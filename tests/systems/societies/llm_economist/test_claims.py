"""Every measure of LLM Economist's claims, tiny, against a direct computation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.registry import find_claims, find_system
from pilotage.core.system import Result
from pilotage.experiments import ModuleNames
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
            return system.load_run()(config, run)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("llm-economist") == CLAIMS
    check_claims(CLAIMS)
    plan = JobPlan(ModuleNames())
    # An upper bound: trainings that claims share are counted with each of them.
    assert sum(c.cost * c.n * len(c.arms) for c in CLAIMS) < 25 * 60
    assert len(CLAIMS) <= 10
    for claim in CLAIMS:
        for spec in claim.arms.values():
            parse_command(spec.command, plan.modules)  # raises for a command that cannot work
    assert sum(claim.primary for claim in CLAIMS) == 3
    assert all(claim.measure for claim in CLAIMS)
    # Paired by seed: the arms of a claim differ in nothing that draws the population, but for brackets.
    drawn = ("agents", "incomes", "cost_spread", "altruistic", "adversarial", "satisfaction", "workers")
    for claim in CLAIMS:
        kept = [config_to_dict(parse_command(spec.command, plan.modules)[1]) for spec in claim.arms.values()]
        assert all({k: one[k] for k in drawn} == {k: kept[0][k] for k in drawn} for one in kept), claim.name


def test_a_quick_pass_is_short_and_a_real_one_is_the_arms_own(context: Context) -> None:
    numbers = measures.played("pattern", 0, context)
    assert numbers["years"] == 3
    assert "welfare/share_of_optimum" in numbers
    context.quick, context.command = False, "llm-economist --agents 20 --years 1 --tax-year 2"
    assert measures.played("pattern", 0, context)["years"] == 1
    assert context.trained[-1] is context.command


def test_incomes_are_compared_with_the_fit_and_with_half_of_the_survey(context: Context) -> None:
    found = measures.incomes("gb2", 0, context)
    assert found["follows_the_fit"] == found["near_the_survey"] == 1
    assert 0 < found["distance_to_fit"] < found["distance_to_unit"]


def test_marginals_fit_when_personas_are_drawn_and_not_when_all_are_young(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measures.marginals("personas", 0, context)["fits"] == 1
    import pilotage.systems.societies.llm_economist.env.archetypes as agents

    real = agents._persona
    from dataclasses import replace

    monkeypatch.setattr(agents, "_persona", lambda *given: replace(real(*given), age=20))
    assert measures.marginals("personas", 0, context)["fits"] == 0
