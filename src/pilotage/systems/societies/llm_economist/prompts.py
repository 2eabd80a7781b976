"""Prompts of LLM Economist: the roles that a language model plays, and the personas of workers. No torch.

Personas are made from survey facts by templates; occupations are left out, since no table of known origin is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotage.core.errors import UsageError

PLANNER = (
    "You set marginal income-tax rates once a year, so that social welfare becomes as high as it can. People react to "
    "them by working more or less; all revenue is paid back in equal shares. Try changes while you may, learn from "
    "what they did, then settle on the best rates. Answer with one JSON object at the end: "
    '{"DELTA": [10, 0, -20]}, the points by which each rate is to change.'
)
CANDIDATE = (
    "You are one person who stands for election. Whoever wins changes the marginal income-tax rates this year, and may "
    'choose what serves it best. Answer with one JSON object at the end: {"DELTA": [10, 0, -20]}, the points by which '
    "you would change each rate."
)
VOTER = (
    "You are one person in an election. The winner changes the marginal income-tax rates as announced. Answer with one "
    'JSON object at the end: {"LEADER": 7}, the number of the candidate you vote for, or {"LEADER": null} to abstain.'
)
WORKER = (
    "You are one person in a simulation of work and taxes. Answer as this person would, with one JSON object and "
    'nothing else: {"hours": 40, "satisfied": true}. hours: how many hours a week you will work from now on. '
    "satisfied: whether you are content with the tax policy."
)
LEANINGS = ("taxes should be low", "neither high nor low taxes as such", "taxes should pay for more equality")
"""Attitudes to taxation from −1 to 1, in thirds."""


@dataclass(frozen=True)
class Persona:
    """Survey facts about one worker."""

    age: int
    """Age in years."""
    status: str
    """Filing status: single, mjoint, mseparate, headhh or widow."""
    children: int
    """Number of children below 18 in the household."""
    income: float
    """Income in dollars a year at 40 hours a week, before tax."""
    self_employed: bool
    ideology: float
    """Attitude to redistribution, −1 (against) to 1 (for)."""

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
    """Return the attitude of an ideology, −1 to 1, in words."""
    return LEANINGS[min(2, int((ideology + 1) * 1.5))]


def describe(persona: Persona) -> str:
    """Return three sentences in the second person.

    Incomes are rounded to two leading digits, so that similar people share one text.
    """
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
