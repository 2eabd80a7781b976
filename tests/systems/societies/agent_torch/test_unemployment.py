"""Unemployment of a finished run: what was known, what is fitted, what is paired, and its panel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.experiments.launch import launch
from pilotage.report import write_report
from pilotage.systems.societies.agent_torch import SYSTEM
from pilotage.systems.societies.agent_torch import unemployment as module
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.data.epidemic_series import read_weekly
from pilotage.systems.societies.agent_torch.data.nyc_unemployment import MONTHS

CITY = "--agents 3000 --steps 0 --forecast-seeds 2 --draws 1 --horizon 1 --behaviour archetypes --end-week 2021-01-09"


@pytest.fixture(scope="module")
def series(shared_data: Path) -> Path:
    path = shared_data / "nyc-covid" / "nyc_weekly_by_borough.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture(scope="module")
def finished(series: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EpidemicConfig, Path]:
    config = configure(SYSTEM, [*CITY.split(), "--series", str(series)])
    directory = tmp_path_factory.mktemp("labour") / "run"
    launch(SYSTEM, config, seed=0, directory=directory)
    return config, directory


def test_cases_after_the_last_known_week_are_carried_and_not_seen(series: Path) -> None:
    read = read_weekly(series)
    weeks, cases = [str(week) for week in read.weeks], read.cases
    carried, known = module.month_cases(weeks, cases, "2021-01-02", reported=False)
    assert known == 5, "January 2021 was not over"
    later = weeks.index("2021-01-02") + 1
    mean = cases[later - 4 : later].mean(0)
    assert torch.allclose(carried[MONTHS.index("2021-02")], 4 * mean)
    other = cases.clone()
    other[later:] += 1000
    assert torch.equal(module.month_cases(weeks, other, "2021-01-02", reported=False)[0], carried)
    assert not torch.equal(module.month_cases(weeks, cases, "2021-01-02", reported=True)[0], carried)


def test_a_fit_knows_known_months_only_and_beats_a_constant_on_them(
    finished: tuple[EpidemicConfig, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, directory = finished
    made = module.unemployment(config, directory, seeds=2)
    kept = json.loads((directory / module.UNEMPLOYMENT).read_text())
    assert made["months"].startswith("2020-08 to 2020-12 fitted, 12 held out")
    rows = made["error in percentage points, mean over months and boroughs"]
    assert [row["input"] for row in rows] == ["behaviour", "constant", "last observed month"]
    assert rows[0]["fitted"] < rows[1]["fitted"]
    work = made["without the stimulus of Dec 2020 and Mar 2021, mean of these months"][0]
    assert work["changed"] > work["unchanged"], "the formula has the stimulus keep people at home"
    page = write_report(directory, tmp_path / "report.html").read_text()
    section = page.partition('<section id="unemployment">')[2].partition("</section>")[0]
    assert section.count('<svg class="chart"') == 5
    assert "not checked against BLS" in section

    true = module.unemployment_rates()
    true[5:] += 3
    monkeypatch.setattr(module, "unemployment_rates", lambda: true)
    module.unemployment(config, directory, seeds=2)
    assert json.loads((directory / module.UNEMPLOYMENT).read_text())["simulated"] == kept["simulated"]


def test_runs_it_cannot_be_asked_of_are_named(series: Path, tmp_path: Path) -> None:
    ask = module.unemployment
    with pytest.raises(UsageError, match="--series nyc"):
        ask(EpidemicConfig(), tmp_path)
    with pytest.raises(UsageError, match="--behaviour"):
        ask(EpidemicConfig(series=series, behaviour="rule"), tmp_path)
    with pytest.raises(UsageError, match="let the run finish"):
        ask(EpidemicConfig(series=series), tmp_path)
