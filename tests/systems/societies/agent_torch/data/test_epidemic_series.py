"""Weekly counts by borough: reading, whole weeks, growth of zero counts, populations."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.data import nyc_unemployment
from pilotage.systems.societies.agent_torch.data.epidemic_series import (
    change_against_month,
    features,
    growth,
    read_populations,
    read_weekly,
)
from pilotage.systems.societies.agent_torch.data.nyc_people import nyc_people

HEADER = "BX_cases,BX_hospitalized,BX_deaths"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def daily(path: Path, days: int, begin: date = date(2020, 9, 3)) -> Path:
    rows = [f"{begin + timedelta(days=day)},{day},{10 * day},1" for day in range(days)]
    return written(path, "\n".join([f"date,{HEADER}", *rows]) + "\n")


def test_days_become_weeks_that_end_on_saturday(tmp_path: Path) -> None:
    # Thursday 3 September: 6 September (day 3) is the first Sunday.
    series = read_weekly(daily(tmp_path / "daily.csv", 20), ["BX"])
    assert series.weeks == (date(2020, 9, 12), date(2020, 9, 19))
    assert series.boroughs == ("Bronx",)
    assert series.cases[:, 0].tolist() == [sum(range(3, 10)), sum(range(10, 17))]
    assert torch.equal(series.admissions, 10 * series.cases)
    assert series.deaths[:, 0].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"week_ending,{HEADER}\n2020-09-05,1,,0\n", "line 2: BX_hospitalized"),
        (f"week_ending,{HEADER}\n2020-09-05,1,-3,0\n", "line 2: BX_hospitalized"),
        (f"week_ending,{HEADER}\n2020-09-05,1,nan,0\n", "line 2: BX_hospitalized"),
        (f"week_ending,{HEADER}\n2020-09-05,1,1,0\n2020-09-19,1,1,0\n", "line 3: week_ending is 2020-09-19"),
        (f"week_ending,{HEADER}\n5.9.2020,1,1,0\n", "line 2: week_ending"),
        ("week_ending,BX_cases,BX_deaths\n2020-09-05,1,1\n", "BX_hospitalized"),
        (f"when,{HEADER}\n2020-09-05,1,1,1\n", "week_ending or date"),
        (f"week_ending,{HEADER}\n", "no rows"),
    ],
)
def test_bad_files_are_refused_with_line_and_field(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_weekly(written(tmp_path / "bad.csv", text), ["BX"])


def test_a_missing_file_names_the_original(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nychealth"):
        read_weekly(tmp_path / "none.csv")


def test_weeks_beyond_the_data_are_refused(tmp_path: Path) -> None:
    series = read_weekly(daily(tmp_path / "daily.csv", 40), ["BX"])
    assert series.between("2020-09-12", "2020-09-19").weeks == (date(2020, 9, 12), date(2020, 9, 19))
    for first, last in (("2020-08-01", "2020-09-19"), ("2020-09-12", "2021-03-27")):
        with pytest.raises(UsageError, match="2020-09-12"):
            series.between(first, last)


def test_growth_and_change_are_finite_where_counts_are_zero() -> None:
    counts = torch.tensor([[0.0], [0.0], [9.0], [0.0], [4.0]])
    assert growth(counts)[2, 0] == pytest.approx(torch.tensor(10.0).log().item())
    assert growth(counts)[3, 0] == pytest.approx(-torch.tensor(10.0).log().item())
    assert growth(counts)[0, 0] == 0
    change = change_against_month(counts)[:, 0].tolist()
    # Before week 2 the mean is 0 (counts as 1); before week 4 it is 9/4.
    assert change == pytest.approx([0, 0, 9, -1, (4 - 2.25) / 2.25])


def test_features_are_of_each_week_alone_and_finite() -> None:
    cases = torch.tensor([[0.0, 5.0], [3.0, 0.0], [8.0, 1.0]])
    made = features(cases, population=torch.tensor([1e4, 2e4]))
    assert made.shape == (3, 2 + 2)
    assert made.isfinite().all()
    later = features(torch.cat([cases[:2], 7 * cases[2:]]), population=torch.tensor([1e4, 2e4]))
    assert torch.equal(later[:2], features(cases, population=torch.tensor([1e4, 2e4]))[:2])


def test_the_real_series_and_its_daily_file_agree(shared_data: Path) -> None:
    folder = shared_data / "nyc-covid"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    weekly = read_weekly(folder / "nyc_weekly_by_borough.csv")
    summed = read_weekly(next(folder.glob("nyc_daily_by_borough_*.csv")))
    assert summed.between(str(weekly.weeks[0]), str(weekly.weeks[-1])).cases.equal(weekly.cases)
    winter = weekly.between("2020-09-05", "2021-03-27")
    assert len(winter) == 30
    # The second wave's peak was reported for the first full week of January 2021.
    assert winter.weeks[int(winter.cases.sum(1).argmax())] == date(2021, 1, 9)
    people = read_populations(folder / "implied_population_by_borough_age.csv")
    assert people.shape == (5, 6)
    assert int(people.sum()) == 8_336_817
    assert (people > 0).all()
    assert torch.equal(people, nyc_people())


def test_month_labels_of_unemployment_agree_only_as_given() -> None:
    rates = nyc_unemployment.unemployment_rates()
    assert rates.shape == (len(nyc_unemployment.MONTHS), 5)
    assert nyc_unemployment.MONTHS[0] == "2020-08"
    assert nyc_unemployment.MONTHS[-1] == "2021-12"
    assert rates[:, 0].max() == rates[0, 0] == pytest.approx(19.8)
    # Rates rise when seasonal work ends in January and when school ends in June, in every borough.
    rises = [
        month
        for month, change in zip(nyc_unemployment.MONTHS[1:], rates.diff(dim=0), strict=True)
        if change.gt(0).all()
    ]
    assert rises == ["2021-01", "2021-06"]
