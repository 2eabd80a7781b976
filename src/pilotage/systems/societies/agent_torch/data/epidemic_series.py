"""Weekly counts of an epidemic by borough: cases, hospital admissions, deaths; and features for a calibration.

The format is that of New York City's health department: repository nychealth/coronavirus-data, file
trends/data-by-day.csv, and the same table as NYC Open Data set rc75-m7u3. A daily file has a column `date`, a weekly
one `week_ending` (Saturdays), and both BX_cases, BX_hospitalized, BX_deaths and so on for each borough. Nothing is
downloaded here: give a path.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
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
COLUMNS: Mapping[str, str] = {"cases": "cases", "admissions": "hospitalized", "deaths": "deaths"}
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class WeeklySeries:
    """Weekly series by borough."""

    weeks: tuple[date, ...]
    """Last day of each week, seven days apart."""
    boroughs: tuple[str, ...]
    """Names of the boroughs."""
    cases: Tensor
    """Cases in persons, [weeks, boroughs] float32."""
    admissions: Tensor
    """Hospital admissions, [weeks, boroughs] float32."""
    deaths: Tensor
    """Deaths, [weeks, boroughs] float32."""

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
                f"weeks from {first} to {last} were asked for; the data has those that end from {self.weeks[0]} to "
                f"{self.weeks[-1]}"
            )
        return self[inside[0] : inside[-1] + 1]

    def __getitem__(self, part: slice) -> WeeklySeries:
        return replace(
            self,
            weeks=self.weeks[part],
            cases=self.cases[part],
            admissions=self.admissions[part],
            deaths=self.deaths[part],
        )


def read_weekly(path: Path | str, boroughs: Sequence[str] = tuple(BOROUGHS)) -> WeeklySeries:
    """Read a series from a daily or weekly file; days are summed to whole weeks that end on Saturday.

    Raises:
        UsageError: a column is missing, a number is empty or negative, or dates are out of order or left out; the
            message names file, line and field.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}; the original is at {SOURCE}")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        header = list(reader.fieldnames or [])
        when = next((name for name in ("week_ending", "date", "date_of_interest") if name in header), None)
        wanted = [f"{code}_{column}" for code in boroughs for column in COLUMNS.values()]
        missing = [name for name in wanted if name not in header]
        if when is None or missing:
            lacks = ", ".join(missing) if when else "week_ending or date"
            raise UsageError(f"{path} has no column {lacks}; its columns are {', '.join(header[:8])} …")
        step = WEEK if when == "week_ending" else timedelta(days=1)
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
    table = torch.tensor(rows, dtype=torch.float64).unflatten(1, (len(boroughs), len(COLUMNS)))
    if step != WEEK:
        days, table = _whole_weeks(days, table, path)
    columns = {name: table[:, :, place].float() for place, name in enumerate(COLUMNS)}
    return WeeklySeries(tuple(days), tuple(BOROUGHS.get(code, code) for code in boroughs), **columns)


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


_AGE_SHARES: Mapping[str, tuple[float, ...]] = {
    "0-4": (1, 0, 0, 0, 0, 0),
    "5-12": (1, 0, 0, 0, 0, 0),
    "13-17": (1, 0, 0, 0, 0, 0),
    "18-24": (2 / 7, 5 / 7, 0, 0, 0, 0),
    "25-34": (0, 0.5, 0.5, 0, 0, 0),
    "35-44": (0, 0, 0.5, 0.5, 0, 0),
    "45-54": (0, 0, 0, 0.5, 0.5, 0),
    "55-64": (0, 0, 0, 0, 1, 0),
    "65-74": (0, 0, 0, 0, 0, 1),
    "75+": (0, 0, 0, 0, 0, 1),
}
"""Shares of the department's ten age groups in U19, 20–29, 30–39, 40–49, 50–64, 65+, as if evenly spread in each."""


def read_populations(path: Path | str, boroughs: Sequence[str] = tuple(BOROUGHS)) -> Tensor:
    """Read people by borough and age group, [boroughs, 6] whole numbers that sum to the boroughs of the file.

    Column implied_population, rows of group "Age" and "Boroughwide". Ages are rounded by largest remainders.

    Raises:
        UsageError: a column or group is missing, or ages do not sum to the borough within 1 %.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        needed = ("borough", "group", "subgroup", "implied_population")
        if missing := [name for name in needed if name not in (reader.fieldnames or [])]:
            raise UsageError(f"{path} has no column {', '.join(missing)}")
        people = {
            (row["borough"], row["subgroup"]): _count(
                row["implied_population"], path, reader.line_num, "implied_population"
            )
            for row in reader
            if row["subgroup"] in ("Boroughwide", *_AGE_SHARES)
        }
    out = []
    for code in boroughs:
        wanted = [(code, name) for name in ("Boroughwide", *_AGE_SHARES)]
        if absent := [key for key in wanted if key not in people]:
            raise UsageError(f"{path} has no row for {' '.join(absent[0])}")
        total = people[code, "Boroughwide"]
        ages = torch.tensor([people[code, name] for name in _AGE_SHARES], dtype=torch.float64)
        if abs(float(ages.sum()) - total) > 0.01 * total:
            raise UsageError(f"{path}: ages of {code} sum to {float(ages.sum()):.0f}, the borough has {total:.0f}")
        exact = ages @ torch.tensor(list(_AGE_SHARES.values()), dtype=torch.float64)
        exact = exact * (total / exact.sum())
        whole = exact.floor()
        rest = round(total - float(whole.sum()))
        whole[(exact - whole).argsort(descending=True, stable=True)[:rest]] += 1
        out.append(whole.long())
    return torch.stack(out)


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
