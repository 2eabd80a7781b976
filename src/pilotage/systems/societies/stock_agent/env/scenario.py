"""A scenario: firms, days, rates and events, read from a YAML file whose mistakes are named by where they stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.systems.societies.stock_agent.env.companies import Company, Valuation
from pilotage.systems.societies.stock_agent.env.events import News, RateEvent, check_rates, rates_on
from pilotage.systems.societies.stock_agent.env.ledger import MILLION

DEFAULT = Path(__file__).with_name("scenario.yaml")


@dataclass(frozen=True)
class Scenario:
    """Everything that is given from outside."""

    rates: tuple[float, ...]
    """A year, for loans of 22, 44 and 66 days, at the beginning."""
    report_days: tuple[int, ...]
    companies: tuple[Company, ...]
    rate_events: tuple[RateEvent, ...] = ()
    news: tuple[News, ...] = ()
    valuation: Valuation = dataclasses.field(default_factory=Valuation)

    def __post_init__(self) -> None:
        check_rates(self.rates)
        if not self.companies:
            raise UsageError("a scenario needs a company or more")
        if len({company.name for company in self.companies}) < len(self.companies):
            raise UsageError(f"companies need different names, got {[company.name for company in self.companies]}")
        if list(self.report_days) != sorted(set(self.report_days)) or any(day < 1 for day in self.report_days):
            raise UsageError(f"report_days are days from 1 on in rising order, got {list(self.report_days)}")
        for company in self.companies:
            if company.reports != len(self.report_days):
                raise UsageError(
                    f"{company.name} has {company.reports} outlooks for {len(self.report_days)} report_days"
                )

    @property
    def prices(self) -> list[int]:
        """[S] cents at the start."""
        return [round(100 * company.start_price) for company in self.companies]

    def known(self, day: int) -> int:
        """How many of the reports are out on a day."""
        return sum(report <= day for report in self.report_days)

    def value(self, stock: int, known: int, rate: int) -> float:
        """Dollars a share after `known` reports, when the shortest loan costs `rate` millionths a year."""
        risk_free = self.valuation.risk_free + rate / MILLION - self.rates[0]
        return self.companies[stock].value(known, self.valuation, risk_free)

    def ideal(self, day: int) -> list[float]:
        """[S] dollars: what valuations say on a day to somebody who reads all reports and knows the rates."""
        rate = rates_on(day, self.rates, self.rate_events)[0]
        return [self.value(stock, self.known(day), rate) for stock in range(len(self.companies))]

    def surprised(self, stock: int, day: int, surprise: float) -> Scenario:
        """With a profit that is (1 + surprise) times as high in the report of `day`. Raises UsageError where the firm
        does not report on that day."""
        if stock not in range(len(self.companies)) or day not in self.report_days:
            raise UsageError(
                f"stock {stock} reports on no day {day}; there are stocks 0 to {len(self.companies) - 1} and report "
                f"days {list(self.report_days)}"
            )
        company = self.companies[stock].surprised(self.report_days.index(day), surprise, self.valuation.tax)
        return replace(self, companies=(*self.companies[:stock], company, *self.companies[stock + 1 :]))

    def swapped(self) -> Scenario:
        """Names stay where they are and everything else changes places: what the first firm was, the last one is."""
        names = [company.name for company in self.companies]
        moved = self.companies[::-1]
        return replace(
            self, companies=tuple(replace(company, name=name) for name, company in zip(names, moved, strict=True))
        )

    def scaled(self, factor: float) -> Scenario:
        """All money of the firms times `factor`: prices, debts and figures. Relative figures stay."""
        money = ("start_price", "debt")
        columns = ("revenue", "operating_costs", "depreciation", "capital_expenditure", "working_capital", "interest")
        if factor <= 0:
            raise UsageError(f"a scale is above 0, got {factor}")

        def larger(company: Company) -> Company:
            changed: dict[str, Any] = {name: getattr(company, name) * factor for name in money}
            changed |= {name: tuple(value * factor for value in getattr(company, name)) for name in columns}
            return replace(company, **changed)

        return replace(self, companies=tuple(larger(company) for company in self.companies))


def load_scenario(path: Path | str | None = None) -> Scenario:
    """The scenario in a YAML file, or the one that comes with the package (a chemical firm A and a technology firm B).

    Raises UsageError, which names the file and the place, for a file that is not there or no YAML, and for unknown,
    missing and ill-typed fields."""
    import yaml

    path = DEFAULT if path is None else Path(path)
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"no scenario can be read from {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from None
    try:
        scenario: Scenario = _read(Scenario, given, "the scenario")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return scenario


def _read(kind: Any, given: Any, where: str) -> Any:
    """A value of a type out of what YAML gives: dataclasses from mappings, tuples from lists, numbers, text."""
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, given, where)
    if get_origin(kind) is tuple:
        if not isinstance(given, list):
            raise UsageError(f"{where} is a list, got {given!r}")
        return tuple(_read(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(given))
    accepted: Any = (int, float) if kind is float else kind
    if isinstance(given, bool) or not isinstance(given, accepted):
        word = {int: "a whole number", float: "a number", str: "text"}[kind]
        raise UsageError(f"{where} is {word}, got {given!r}")
    return kind(given)


def _read_fields(kind: Any, given: Any, where: str) -> Any:
    if not isinstance(given, Mapping):
        raise UsageError(f"{where} is a mapping of fields to values, got {given!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in given:
        if name not in fields:
            raise UsageError(
                f"{where} has no field {name!r}{nearest(str(name), fields)}; there are {', '.join(fields)}"
            )
    missing = [name for name, field in fields.items() if name not in given and _required(field)]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _read(hints[name], value, f"{where}.{name}") for name, value in given.items()})
    except UsageError as error:
        text = str(error)
        raise (error if text.startswith("the scenario") else UsageError(f"{where}: {text}")) from None


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
