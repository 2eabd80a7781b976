"""A few sentences that tell somebody who they are: what a language model that plays a worker is given. No torch.

Made from survey facts by templates; no occupations, since no table of them with known origin is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilotage.core.errors import UsageError

if TYPE_CHECKING:
    from pilotage.systems.societies.llm_economist.env.population import TaxUnits

LEANINGS = ("taxes should be low", "neither high nor low taxes as such", "taxes should pay for more equality")
"""Attitudes to taxation from −1 to 1, in thirds."""


@dataclass(frozen=True)
class Persona:
    """Facts about one worker."""

    age: int
    """Years."""
    status: str
    """Filing status: single, mjoint, mseparate, headhh or widow."""
    children: int
    """Below 18, in the household."""
    income: float
    """Dollars a year at 40 hours a week, before tax."""
    self_employed: bool
    ideology: float
    """−1: against redistribution, 1: for it."""

    def __post_init__(self) -> None:
        if self.status not in _HOUSEHOLD or self.age < 16 or self.children < 0 or self.income <= 0:
            raise UsageError(
                f"a persona is 16 or older, earns something and has a status of {', '.join(_HOUSEHOLD)}, got {self}"
            )
        if not -1 <= self.ideology <= 1:
            raise UsageError(f"ideology lies between −1 and 1, got {self.ideology}")


_HOUSEHOLD = {
    "single": "live on your own income",
    "mjoint": "are married and share a household budget",
    "mseparate": "are married but keep your money apart",
    "headhh": "keep a household for people who depend on you",
    "widow": "lost your partner and run the household by yourself",
}


def leaning(ideology: float) -> str:
    """The attitude in words."""
    return LEANINGS[min(2, int((ideology + 1) * 1.5))]


def describe(persona: Persona) -> str:
    """Three sentences in the second person. Incomes are rounded to two leading digits, so that people alike share one
    text."""
    digits = max(0, len(str(int(persona.income))) - 2)
    income = round(persona.income, -digits)
    children = {0: "no children at home", 1: "one child at home"}.get(
        persona.children, f"{persona.children} children at home"
    )
    work = "work for yourself" if persona.self_employed else "are employed"
    return (
        f"You are {persona.age} years old, {_HOUSEHOLD[persona.status]} and have {children}. "
        f"You {work}, and a year of full-time work brings you about ${income:,.0f} before tax. "
        f"Your view on taxation: {leaning(persona.ideology)}."
    )


def archetypes(personas: Sequence[Persona], *, age_bin: int = 15) -> dict[str, list[int]]:
    """Which workers share a text when ages are put into bins of so many years (each named by its middle): text to row
    numbers. A language model is then asked once per text."""
    if age_bin < 1:
        raise UsageError(f"bins of ages have 1 year or more, got {age_bin}")
    groups: dict[str, list[int]] = {}
    for row, persona in enumerate(personas):
        middle = max(16, persona.age // age_bin * age_bin + age_bin // 2)
        groups.setdefault(describe(replace(persona, age=middle)), []).append(row)
    return groups


def personas_of(units: TaxUnits, ideology: Sequence[float], *, growth: float = 1.0) -> list[Persona]:
    """The primary earner of each unit. ideology: one in [−1, 1] each; growth: of incomes since the survey.

    Raises UsageError for a unit whose primary earner has no wages: leave it out beforehand."""
    if len(ideology) != len(units):
        raise UsageError(f"expected an ideology for each of {len(units)} units, got {len(ideology)}")
    columns = {name: values.tolist() for name, values in units.columns.items()}
    children = columns.get("children_u18", [0] * len(units))
    return [
        Persona(int(age), status, int(number), growth * wages, business > wages, float(view))
        for age, status, number, wages, business, view in zip(
            columns["age_head"],
            units.status,
            children,
            columns["wages_primary"],
            columns["self_employment"],
            ideology,
            strict=True,
        )
    ]
