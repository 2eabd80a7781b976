"""The pictures that the page of a tax game has beside its curves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.page_parser import Page

from pilotage.core.configuration import config_to_dict
from pilotage.report import write_report
from pilotage.report.page import run_panels
from pilotage.runs import Run
from pilotage.runs.reader import read_run
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.simulate import simulate

SMALL = TaxDesignConfig(agents=20, years=4, tax_year=12, result_years=2)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("game") / "run"
    with Run.create(folder, system="llm-economist", config=config_to_dict(SMALL), seed=0) as run:
        run.finish(simulate(SMALL, run).metrics)
    with (folder / "rollouts.jsonl").open("a") as lines:
        record = {"step": 3, "agent": "worker", "prompt": HOSTILE, "completion": HOSTILE, "model": HOSTILE}
        lines.write(json.dumps(record) + "\n")
    return folder


def test_the_page_shows_schedules_years_a_table_and_who_said_what(directory: Path) -> None:
    html = write_report(directory).read_text()
    page = Page(html)
    assert {"schedules", "years", "compared", "transcripts"} <= set(page.ids)
    assert "examples" not in page.ids
    assert {target[1:] for target in page.targets if target.startswith("#")} <= set(page.ids)
    for words in (
        "optimum",
        "Saez's formula",
        "US federal law",
        "10 / 12 / 22 / 24 / 32 / 35 / 37",
        "[scripted stand-in",
    ):
        assert words in page.text
    assert HOSTILE in page.text
    assert "<img" not in html
    assert "STATE {" not in page.text
    assert html.count('role="img" aria-label="') == html.count('<svg class="chart"')


def test_numbers_of_the_table_are_those_of_the_run(directory: Path) -> None:
    run = read_run(directory)
    table = next(panel for panel in run_panels(run) if panel.key == "compared")
    rows = {row[0]: row for row in table.rows}
    share = run.result["welfare/final"] / run.result["same_workers/optimum"]
    assert rows["planner, last years"][2] == f"{100 * share:.1f}%"
    assert rows["optimum"][2] == rows["optimum"][3] == "100.0%"
    assert rows["US federal law"][3] == f"{100 * run.result['welfare/federal'] / run.result['welfare/optimum']:.1f}%"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_run_that_has_just_begun_and_other_systems_have_pages_too(directory: Path, tmp_path: Path) -> None:
    with Run.create(tmp_path / "new", system="llm-economist", config=config_to_dict(SMALL), seed=0):
        pass
    assert run_panels(read_run(tmp_path / "new")) == ()
    assert "No metrics were logged" in write_report(tmp_path / "new").read_text()
    run = read_run(directory)
    assert run_panels(replace(run, about={**run.about, "system": "grpo"})) == ()
