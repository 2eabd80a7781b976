"""Weekly cases of an epidemic by place, and people by place and age, from files.

Two forms of series are read: a plain table with the columns `date, place, cases`, one row per place and day or week;
and the tables of New York City's health department as they are published (repository nychealth/coronavirus-data, file
trends/data-by-day.csv: `date_of_interest, BX_CASE_COUNT, …`), or with short names (`date` or `week_ending`,
`BX_cases`). Nothing is downloaded here: give a path.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.paths import home

BOROUGHS: Mapping[str, str] = {
    "BX": "Bronx",
    "BK": "Brooklyn",
    "MN": "Manhattan",
    "QN": "Queens",
    "SI": "Staten Island",
}
SOURCE = "https://raw.githubusercontent.com/nychealth/coronavirus-data/master/trends/data-by-day.csv"
"""Source of the file. Attribution: NYC Health."""
_DATES = ("week_ending", "date", "date_of_interest")
_CASES = ("{}_cases", "{}_CASE_COUNT")
"""Column of a borough's confirmed cases: with a short name, and as published."""
WEEK, DAY = timedelta(days=7), timedelta(days=1)


@dataclass(frozen=True)
class WeeklySeries:
    """Weekly cases by place."""

    weeks: tuple[date, ...]
    """Last day of each week, seven days apart."""
    boroughs: tuple[str, ...]
    """Names of the places."""
    cases: Tensor
    """Cases in persons, [weeks, boroughs] float32."""

    def __len__(self) -> int:
        return len(self.weeks)

    def between(self, first: str, last: str) -> WeeklySeries:
        """Return the weeks that end from `first` to `last` (both included, YYYY-MM-DD).

        Raises UsageError beyond the data.
        """
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
        inside = [index for index, week in enumerate(self.weeks) if begin <= week <= end]
        if not inside or begin <= self.weeks[0] - WEEK or end >= self.weeks[-1] + WEEK:
            raise UsageError(
                f"weeks from {first} to {last} were asked for (--start-week, --end-week); the data has those that end "
                f"from {self.weeks[0]} to {self.weeks[-1]}"
            )
        return self[inside[0] : inside[-1] + 1]

    def __getitem__(self, part: slice) -> WeeklySeries:
        return replace(self, weeks=self.weeks[part], cases=self.cases[part])


def read_weekly(path: Path | str, boroughs: Sequence[str] = tuple(BOROUGHS)) -> WeeklySeries:
    """Read a series from a daily or weekly file; days are summed to whole weeks that end on Saturday.

    Args:
        path: a CSV file in one of the forms above.
        boroughs: the boroughs of a file of New York City; a plain table has the places that stand in it.

    Raises:
        UsageError: a column is missing, a number is empty or negative, or dates are out of order or left out; the
            message names file, line and field.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}; the original is at {SOURCE}")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        read = _plain_table if "place" in (reader.fieldnames or []) else _wide_table
        days, names, table, step = read(reader, path, boroughs)
    if step != WEEK:
        days, table = _whole_weeks(days, table, path)
    return WeeklySeries(tuple(days), tuple(names), table.float())


_Table = tuple[list[date], list[str], Tensor, timedelta]
"""Dates, names of places, cases [dates, places] float64, and the time from one date to the next."""


def _wide_table(reader: csv.DictReader[str], path: Path, boroughs: Sequence[str]) -> _Table:
    """Read one row per date with a column per borough."""
    header = list(reader.fieldnames or [])
    when = next((name for name in _DATES if name in header), None)
    columns = [[form.format(code) for form in _CASES] for code in boroughs]
    wanted = [next((name for name in names if name in header), names[-1]) for names in columns]
    missing = [name for name in wanted if name not in header]
    if when is None or missing:
        lacks = ", ".join(missing) if when else "week_ending or date"
        raise UsageError(
            f"{path} has no column {lacks}; its columns are {', '.join(header[:8])} …; expected date, place, cases, or "
            "the columns that New York City publishes"
        )
    step = WEEK if when == "week_ending" else DAY
    days: list[date] = []
    rows: list[list[float]] = []
    for row in reader:
        day = _day(row[when], path, reader.line_num, when)
        if days and day != days[-1] + step:
            raise UsageError(
                f"{path}, line {reader.line_num}: {when} is {day}, {days[-1] + step} was expected: rows are in "
                "order and none is left out"
            )
        days.append(day)
        rows.append([_count(row[name], path, reader.line_num, name) for name in wanted])
    if not days:
        raise UsageError(f"{path} holds no rows")
    return days, [BOROUGHS.get(code, code) for code in boroughs], torch.tensor(rows, dtype=torch.float64), step


def _plain_table(reader: csv.DictReader[str], path: Path, _: Sequence[str]) -> _Table:
    """Read one row per date and place, in any order; every place has every date."""
    found: dict[tuple[date, str], float] = {}
    for row in _rows(reader, path, ("date", "place", "cases")):
        line = reader.line_num
        key = _day(row["date"], path, line, "date"), row["place"]
        if key in found:
            raise UsageError(f"{path}, line {line}: {key[1]} has two rows for {key[0]}")
        found[key] = _count(row["cases"], path, line, "cases")
    days, places = sorted({day for day, _ in found}), list(dict.fromkeys(place for _, place in found))
    step = days[1] - days[0] if len(days) > 1 else WEEK
    if step not in (DAY, WEEK):
        raise UsageError(f"{path}: {days[0]} is followed by {days[1]}; expected a row a day or a row a week")
    for day in (days[0] + step * place for place in range((days[-1] - days[0]) // step + 1)):
        if absent := [place for place in places if (day, place) not in found]:
            raise UsageError(f"{path} has no row for {day} and {absent[0]}; every place needs every date")
    if len(days) != (days[-1] - days[0]) // step + 1:
        raise UsageError(f"{path}: dates are not all {step.days} days apart")
    table = torch.tensor([[found[day, place] for place in places] for day in days], dtype=torch.float64)
    return days, places, table, step


def _rows(reader: csv.DictReader[str], path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table. Raises UsageError when it lacks a column or holds no rows."""
    header = list(reader.fieldnames or [])
    if missing := [name for name in needed if name not in header]:
        raise UsageError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(header[:8])}")
    empty = True
    for row in reader:
        empty = False
        yield row
    if empty:
        raise UsageError(f"{path} holds no rows")


def _whole_weeks(days: list[date], table: Tensor, path: Path) -> tuple[list[date], Tensor]:
    """Return sums of Sunday to Saturday; days before the first Sunday and after the last Saturday are left out."""
    first = (6 - days[0].weekday()) % 7
    weeks = (len(days) - first) // 7
    if weeks < 1:
        raise UsageError(f"{path} holds no whole week from Sunday to Saturday")
    table = table[first : first + 7 * weeks].unflatten(0, (weeks, 7)).sum(1)
    return [days[first + 7 * week + 6] for week in range(weeks)], table


def kept_series() -> Path:
    """Return the first file of New York City's counts in $PILOTAGE_HOME/nyc-covid, weekly before daily.

    Raises UsageError that names the source where there is no file. Default: ~/.cache/pilotage/nyc-covid.
    """
    folder = home() / "nyc-covid"
    for pattern in ("nyc_weekly_by_borough*.csv", "nyc_daily_by_borough*.csv", "data-by-day*.csv"):
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise UsageError(f"there is no series in {folder}; put {SOURCE} there, or give a path")


def growth(counts: Tensor) -> Tensor:
    """Return log((count_t + 1) / (count_{t−1} + 1)) along the first axis, 0 for the first week. counts: [weeks, …]."""
    logs = torch.log1p(counts)
    return torch.cat([torch.zeros_like(logs[:1]), logs.diff(dim=0)])


def change_against_month(counts: Tensor) -> Tensor:
    """Return the change of each week's count against the mean of the (up to four) weeks before it.

    The change is a share of that mean, at most 10; 0 for the first week and where both are 0. counts: [weeks, …].
    """
    out = torch.zeros_like(counts)
    for week in range(1, len(counts)):
        before = counts[max(0, week - 4) : week].mean(0)
        # A mean below one person counts as one.
        out[week] = ((counts[week] - before) / before.clamp(min=1.0)).clamp(max=10.0)
    return out


def features(cases: Tensor, *, population: Tensor) -> Tensor:
    """Return the features of each week for a calibration network: log cases per 10,000, and growth of cases.

    cases: [weeks, boroughs]; population: [boroughs]. Returns [weeks, features].
    """
    return torch.cat([torch.log1p(cases * (1e4 / population)), growth(cases)], 1)


AGE_EDGES = (0, 20, 30, 40, 50, 65)
"""First year of life of the six age groups of a population (U19, 20–29, 30–39, 40–49, 50–64, 65 and older)."""
OLDEST = 85
"""Years up to which an open age group such as 60+ is spread."""


def read_populations(path: Path | str, places: Sequence[str] = tuple(BOROUGHS.values())) -> Tensor:
    """Read people by place and age group, [places, 6] whole numbers that sum to the places of the file.

    The table has the columns `place, age_group, people`, with age groups such as 0-17, 18-24, 65+; or it is the one of
    New York City's health department (totals/group-data-by-boro.csv with a column implied_population). Ages are spread
    evenly over the years of a group and rounded by largest remainders.

    Args:
        path: a CSV file.
        places: names of the places, as in the series.

    Raises:
        UsageError: a column, a place or an age is missing, or ages do not sum to the borough within 1 %.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        read = _city_groups if "subgroup" in (reader.fieldnames or []) else _age_groups
        groups = read(reader, path)
    people = []
    for place in places:
        if place not in groups:
            raise UsageError(f"{path} has no row for {place}; it has {', '.join(groups)}")
        exact = sum(count * torch.tensor(_age_shares(age, path)) for age, count in groups[place].items())
        assert isinstance(exact, Tensor)
        people.append(_rounded(exact, round(float(exact.sum()))))
    return torch.stack(people)


def _age_groups(reader: csv.DictReader[str], path: Path) -> dict[str, dict[str, float]]:
    """Read people by place and age group from a plain table; the groups of a place cover every age once."""
    groups: dict[str, dict[str, float]] = {}
    for row in _rows(reader, path, ("place", "age_group", "people")):
        of_place = groups.setdefault(row["place"], {})
        if row["age_group"] in of_place:
            raise UsageError(f"{path}, line {reader.line_num}: {row['place']} has age group {row['age_group']} twice")
        of_place[row["age_group"]] = _count(row["people"], path, reader.line_num, "people")
    for place, ages in groups.items():
        ends = sorted(_age_range(age, path) for age in ages)
        joined = [0, *(end for _, end in ends)]
        if [begin for begin, _ in ends] != joined[:-1]:
            raise UsageError(f"{path}: the age groups of {place} overlap or leave a gap: {', '.join(sorted(ages))}")
    return groups


def _city_groups(reader: csv.DictReader[str], path: Path) -> dict[str, dict[str, float]]:
    """Read the department's table: rows of ten age groups and "Boroughwide", in the column implied_population."""
    groups: dict[str, dict[str, float]] = {}
    totals: dict[str, float] = {}
    for row in _rows(reader, path, ("borough", "group", "subgroup", "implied_population")):
        place = BOROUGHS.get(row["borough"], row["borough"])
        if row["subgroup"] == "Boroughwide":
            totals[place] = _count(row["implied_population"], path, reader.line_num, "implied_population")
        elif row["subgroup"] in _CITY_AGES:
            people = _count(row["implied_population"], path, reader.line_num, "implied_population")
            groups.setdefault(place, {})[row["subgroup"]] = people
    for place, ages in groups.items():
        if absent := [age for age in _CITY_AGES if age not in ages] + ["Boroughwide"] * (place not in totals):
            raise UsageError(f"{path} has no row for {place} {absent[0]}")
        total, total_of_ages = totals[place], sum(ages.values())
        if abs(total_of_ages - total) > 0.01 * total:
            raise UsageError(f"{path}: ages of {place} sum to {total_of_ages:.0f}, the borough has {total:.0f}")
        groups[place] = {age: people * total / total_of_ages for age, people in ages.items()}
    return groups


_CITY_AGES = ("0-4", "5-12", "13-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65-74", "75+")


def _age_range(text: str, path: Path) -> tuple[int, int]:
    """Return first year and first year beyond of an age group such as 18-24 or 65+."""
    begin, dash, end = text.strip().removesuffix("+").partition("-")
    if begin.isdigit() and (end.isdigit() and not text.endswith("+") if dash else text.strip().endswith("+")):
        first, beyond = int(begin), int(end) + 1 if dash else max(OLDEST, int(begin) + 1)
        if first < beyond:
            return first, beyond
    raise UsageError(f"{path}: age_group is {text!r}; expected years such as 0-17, 18-64 or 65+")


def _age_shares(text: str, path: Path) -> list[float]:
    """Return the share of an age group's years in each of the six groups of a population."""
    first, beyond = _age_range(text, path)
    edges = [*AGE_EDGES, max(beyond, OLDEST)]
    years = [max(0, min(beyond, end) - max(first, begin)) for begin, end in pairwise(edges)]
    return [part / (beyond - first) for part in years]


def _rounded(exact: Tensor, total: int) -> Tensor:
    """Round people [ages] to whole numbers that sum to `total`, by largest remainders."""
    whole = exact.floor()
    rest = total - int(whole.sum())
    whole[(exact - whole).argsort(descending=True, stable=True)[:rest]] += 1
    return whole.long()


def _day(text: str, path: Path, line: int, field: str) -> date:
    for form in ("%Y-%m-%d", "%m/%d/%Y"):
        try:
            return datetime.strptime(text, form).date()
        except (TypeError, ValueError):
            continue
    raise UsageError(f"{path}, line {line}: {field} is {text!r}; expected a date such as 2020-12-05 or 12/05/2020")


def _count(text: str | None, path: Path, line: int, field: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise UsageError(f"{path}, line {line}: {field} is {text!r}; expected a number of 0 or more")
    return value
