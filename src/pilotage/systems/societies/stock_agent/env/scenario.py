"""Scenarios of firms, reports, rates, events and news, read from a YAML file; errors name the place in the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.systems.societies.stock_agent.env.companies import Company, Valuation
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, MILLION

DEFAULT = Path(__file__).with_name("scenario.yaml")


@dataclass(frozen=True)
class RateEvent:
    """Decision of the central bank, from whose day on new loans cost other rates."""

    day: int
    text: str
    rates: tuple[float, ...]
    """Yearly rates of loans of 22, 44 and 66 days."""

    def __post_init__(self) -> None:
        check_rates(self.rates)


@dataclass(frozen=True)
class News:
    """News of the whole economy."""

    day: int
    text: str
    sentiment: float
    """Tone from −1 (bad) to 1 (good), which scripted traders read."""

    def __post_init__(self) -> None:
        if not -1 <= self.sentiment <= 1:
            raise UsageError(f"the sentiment of news lies in [−1, 1], got {self.sentiment} on day {self.day}")


def check_rates(rates: Sequence[float]) -> None:
    """Check rates. Raises UsageError unless there is one in [0, 1) per type of loan."""
    if len(rates) != len(LOAN_DAYS) or any(not 0 <= rate < 1 for rate in rates):
        raise UsageError(f"expected {len(LOAN_DAYS)} rates in [0, 1), such as 0.027, got {list(rates)}")


def rates_on(day: int, opening: Sequence[float], events: Sequence[RateEvent]) -> tuple[int, ...]:
    """Return the rates in millionths that are in force on a day: those of the last event so far."""
    current = max((event for event in events if event.day <= day), key=lambda event: event.day, default=None)
    return tuple(round(rate * MILLION) for rate in (opening if current is None else current.rates))


def sentiment_on(day: int, news: Sequence[News], half_life: float = 5.0) -> float:
    """Return the sum in [−1, 1] of all news so far, each of which counts half as much after `half_life` days."""
    total = sum(item.sentiment * 0.5 ** ((day - item.day) / half_life) for item in news if item.day <= day)
    return max(-1.0, min(1.0, total))


@dataclass(frozen=True)
class Scenario:
    """All that is given to a market from outside."""

    rates: tuple[float, ...]
    """Yearly rates of loans of 22, 44 and 66 days at the beginning."""
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
        """Return the start prices in cents, [stock]."""
        return [round(100 * company.start_price) for company in self.companies]

    def known(self, day: int) -> int:
        """Return the number of reports that are out on a day."""
        return sum(report <= day for report in self.report_days)

    def value(self, stock: int, known: int, rate: int) -> float:
        """Return the valuation in dollars a share.

        Args:
            stock: number of the stock.
            known: number of reports that are out.
            rate: yearly rate of the shortest loan in millionths.
        """
        risk_free = self.valuation.risk_free + rate / MILLION - self.rates[0]
        return self.companies[stock].value(known, self.valuation, risk_free)

    def ideal(self, day: int) -> list[float]:
        """Return valuations on a day in dollars, [stock], from all reports that are out and the rates in force."""
        rate = rates_on(day, self.rates, self.rate_events)[0]
        return [self.value(stock, self.known(day), rate) for stock in range(len(self.companies))]

    def surprised(self, stock: int, day: int, surprise: float) -> Scenario:
        """Return the scenario with a profit (1 + surprise) times as high in one report.

        Args:
            stock: number of the stock.
            day: day of the report.
            surprise: relative change of the profit.

        Raises:
            UsageError: when the firm does not report on that day.
        """
        if stock not in range(len(self.companies)) or day not in self.report_days:
            raise UsageError(
                f"stock {stock} reports on no day {day}; there are stocks 0 to {len(self.companies) - 1} and report "
                f"days {list(self.report_days)}"
            )
        company = self.companies[stock].surprised(self.report_days.index(day), surprise, self.valuation.tax)
        return replace(self, companies=(*self.companies[:stock], company, *self.companies[stock + 1 :]))

    def swapped(self) -> Scenario:
        """Return the scenario in which firms change places and names stay: the first firm becomes the last."""
        names = [company.name for company in self.companies]
        moved = self.companies[::-1]
        return replace(
            self, companies=tuple(replace(company, name=name) for name, company in zip(names, moved, strict=True))
        )


def load_scenario(path: Path | str | None = None) -> Scenario:
    """Return the scenario in a YAML file, or the package's (a chemical firm A and a technology firm B).

    Raises UsageError, which names the file and the place, for a file that is missing or no YAML, and for unknown,
    missing and ill-typed fields.
    """
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
    """Convert a YAML value to a type: dataclasses from mappings, tuples from lists, numbers, text."""
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
