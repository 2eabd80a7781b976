"""Weekly counts by borough: reading, whole weeks, growth of zero counts, populations."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.data import nyc_unemployment
from pilotage.systems.societies.agent_torch.data.epidemic_series import (
    change_against_month,
    features,
    growth,
    read_populations,
    read_weekly,
)
from pilotage.systems.societies.agent_torch.data.nyc_people import nyc_people
from pilotage.systems.societies.agent_torch.scenario import build_scenario

HEADER = "BX_cases,BX_hospitalized"
PUBLISHED = (
    "date_of_interest,CASE_COUNT,PROBABLE_CASE_COUNT,HOSPITALIZED_COUNT,DEATH_COUNT,CASE_COUNT_7DAY_AVG,BX_CASE_COUNT,"
    "BX_PROBABLE_CASE_COUNT,BX_HOSPITALIZED_COUNT,BX_DEATH_COUNT,BX_CASE_COUNT_7DAY_AVG,BX_ALL_CASE_COUNT_7DAY_AVG"
)
"""Header of trends/data-by-day.csv as New York City publishes it, of one borough."""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def daily(path: Path, days: int, begin: date = date(2020, 9, 3)) -> Path:
    rows = [f"{begin + timedelta(days=day)},{day},{10 * day}" for day in range(days)]
    return written(path, "\n".join([f"date,{HEADER}", *rows]) + "\n")


def test_days_become_weeks_that_end_on_saturday(tmp_path: Path) -> None:
    # Thursday 3 September: 6 September (day 3) is the first Sunday.
    series = read_weekly(daily(tmp_path / "daily.csv", 20), ["BX"])
    assert series.weeks == (date(2020, 9, 12), date(2020, 9, 19))
    assert series.boroughs == ("Bronx",)
    assert series.cases[:, 0].tolist() == [sum(range(3, 10)), sum(range(10, 17))]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"week_ending,{HEADER}\n2020-09-05,,1\n", "line 2: BX_cases"),
        (f"week_ending,{HEADER}\n2020-09-05,-3,0\n", "line 2: BX_cases"),
        (f"week_ending,{HEADER}\n2020-09-05,nan,0\n", "line 2: BX_cases"),
        (f"week_ending,{HEADER}\n2020-09-05,1,1\n2020-09-19,1,1\n", "line 3: week_ending is 2020-09-19"),
        (f"week_ending,{HEADER}\n5.9.2020,1,1\n", "line 2: week_ending"),
        ("week_ending,BX_hospitalized\n2020-09-05,1\n", "BX_CASE_COUNT"),
        (f"when,{HEADER}\n2020-09-05,1,1\n", "week_ending or date"),
        ("place,date\nA,2020-09-05\n", "no column cases"),
        ("date,place,cases\n2020-09-05,A,1\n2020-09-05,A,2\n", "line 3: A has two rows"),
        ("date,place,cases\n2020-09-05,A,1\n2020-09-06,A,2\n2020-09-05,B,2\n", "no row for 2020-09-06 and B"),
        ("date,place,cases\n2020-09-05,A,1\n2020-09-06,A,2\n2020-09-08,A,2\n", "no row for 2020-09-07 and A"),
        ("date,place,cases\n2020-09-05,A,1\n2020-09-08,A,2\n", "a row a day or a row a week"),
        ("date,place,cases\n", "no rows"),
        (f"week_ending,{HEADER}\n", "no rows"),
    ],
)
def test_bad_files_are_refused_with_line_and_field(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_weekly(written(tmp_path / "bad.csv", text), ["BX"])


def test_the_published_file_of_new_york_is_read_as_it_is(tmp_path: Path) -> None:
    begin = date(2020, 2, 29)
    rows = [f"{begin + timedelta(days=day):%m/%d/%Y},{6 * day},5,5,0,1,{10 * day},1,2,0,3,4" for day in range(16)]
    series = read_weekly(written(tmp_path / "data-by-day.csv", "\n".join([PUBLISHED, *rows]) + "\n"), ["BX"])
    assert series.weeks == (date(2020, 3, 7), date(2020, 3, 14))
    assert series.cases[:, 0].tolist() == [10 + 20 + 30 + 40 + 50 + 60 + 70, 80 + 90 + 100 + 110 + 120 + 130 + 140]


def test_a_plain_table_has_places_of_its_own_and_rows_in_any_order(tmp_path: Path) -> None:
    rows = [
        f"{date(2024, 1, 7) + timedelta(days=day)},{place},{day + n}"
        for n, place in enumerate("PQ")
        for day in range(14)
    ]
    series = read_weekly(
        written(tmp_path / "s.csv", "\n".join(["date,place,cases,note", *(f"{r}," for r in rows[::-1])]))
    )
    assert series.weeks == (date(2024, 1, 13), date(2024, 1, 20))
    assert series.boroughs == ("Q", "P")
    assert series.cases.tolist() == [[28, 21], [77, 70]]
    by_week = "date,place,cases\n2024-01-03,P,5\n2024-01-10,P,7\n"
    assert read_weekly(written(tmp_path / "w.csv", by_week)).weeks == (date(2024, 1, 3), date(2024, 1, 10))


def test_ages_of_a_plain_table_are_spread_over_the_years_of_a_group(tmp_path: Path) -> None:
    text = "place,age_group,people\nP,0-17,170\nP,18-64,470\nP,65+,100\nQ,0-64,65\nQ,65+,7\n"
    people = read_populations(written(tmp_path / "p.csv", text), ["Q", "P"])
    assert people.tolist() == [[20, 10, 10, 10, 15, 7], [190, 100, 100, 100, 150, 100]]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("place,people\nP,1\n", "age_group"),
        ("place,age_group,people\nP,0-17,x\n", "line 2: people"),
        ("place,age_group,people\nP,young,3\n", "'young'"),
        ("place,age_group,people\nP,0-17,3\nP,17+,3\n", "overlap or leave a gap"),
        ("place,age_group,people\nP,0-17,3\nP,20+,3\n", "overlap or leave a gap"),
        ("place,age_group,people\nP,0-17,3\nP,0-17,3\n", "line 3"),
        ("place,age_group,people\nQ,0+,3\n", "no row for P; it has Q"),
        ("place,age_group,people\n", "no rows"),
    ],
)
def test_bad_tables_of_people_are_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_populations(written(tmp_path / "p.csv", text), ["P"])


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


def test_a_city_of_ones_own_runs_from_two_tables(tmp_path: Path) -> None:
    begin, places = date(2024, 1, 6), ("Left bank", "Right bank")
    rows = [f"{begin + timedelta(weeks=week)},{place},{40 + 5 * week}" for week in range(8) for place in places]
    series = written(tmp_path / "cases.csv", "\n".join(["date,place,cases", *rows]))
    groups = ("0-17,900", "18-64,3000", "65+,800")
    ages = [f"{place},{group}" for place in places for group in groups]
    people = written(tmp_path / "people.csv", "\n".join(["place,age_group,people", *ages]))
    config = EpidemicConfig(
        series=series, populations=people, start_week="2024-01-06", end_week="2024-02-24", agents=600, behaviour="rule"
    )
    scenario = build_scenario(config)
    assert scenario.population.boroughs == places
    assert scenario.people.tolist() == [4700, 4700]
    assert scenario.reported[:, 0].tolist() == [40 + 5 * week for week in range(8)]
    with pytest.raises(UsageError, match="--populations"):
        build_scenario(replace(config, populations=None))
