"""The pictures that the page of a tax game has beside its curves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_page import Page

from pilotage.charts.panels import panels_of
from pilotage.charts.series_charts import Level, Line, series_chart, tile_chart
from pilotage.core.configuration import config_to_dict
from pilotage.report import write_report
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
    table = next(panel for panel in panels_of(run) if panel.key == "compared")
    rows = {row[0]: row for row in table.rows}
    share = run.result["welfare/final"] / run.result["same_workers/optimum"]
    assert rows["planner, last years"][2] == f"{100 * share:.1f}%"
    assert rows["optimum"][2] == rows["optimum"][3] == "100.0%"
    assert rows["US federal law"][3] == f"{100 * run.result['welfare/federal'] / run.result['welfare/optimum']:.1f}%"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_run_that_has_just_begun_and_other_systems_have_pages_too(directory: Path, tmp_path: Path) -> None:
    with Run.create(tmp_path / "new", system="llm-economist", config=config_to_dict(SMALL), seed=0):
        pass
    assert panels_of(read_run(tmp_path / "new")) == ()
    assert "No metrics were logged" in write_report(tmp_path / "new").read_text()
    run = read_run(directory)
    assert panels_of(replace(run, about={**run.about, "system": "grpo"})) == ()


def test_a_stepped_line_holds_to_the_end_of_the_axis_and_no_further() -> None:
    line = Line(0, "law", [0.0, 50.0, 400.0], [10.0, 20.0, 30.0], stepped=True)
    svg = series_chart(
        [line], x_label="x", y_label="y", x_range=(0, 100), y_range=(0, 40), levels=[Level(2, "best", 35)]
    )
    path = re.search(r'class="line arm0"[^>]* d="([^"]*)"', svg)
    assert path is not None
    points = [tuple(map(float, pair.split(","))) for pair in path[1].replace("M", "").replace(" L", " ").split()]
    assert len(points) == 4
    assert points[0][1] == points[1][1] > points[2][1] == points[3][1]
    assert points[-1][0] == 380 - 14
    assert "best at 35" in svg


def test_tiles_are_fuller_where_rates_are_higher_and_years_are_whole() -> None:
    svg = tile_chart(
        [[0.0, 50.0, 100.0], [20.0, 20.0, 20.0]], ["from $0", "from $9k"], x_label="tax year", label="rates"
    )
    assert [float(o) for o in re.findall(r'fill-opacity="([^"]*)"', svg)] == [0.04, 0.52, 1.0, 0.23, 0.23, 0.23]
    assert "from $9k, tax year 3: 20%" in svg
    assert (
        "2.5"
        not in series_chart([Line(0, "a", [1, 2, 3, 4], [1, 2, 3, 4])], x_label="x", y_label="y").split("<path")[0]
    )
