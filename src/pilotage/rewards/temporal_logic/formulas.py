"""Formulas of Signal Temporal Logic as values: build them with Python operators or read them from text (`parsing`).

`(name("v") <= name("vmax")) & Always(name("gap") >= 2, 0, 5)`; `&`, `|`, `~` and `>>` stand for and, or, not, implies.
`str(formula)` is text that `parse` reads back as an equal formula. Maler and Nickovic 2004; Donzé and Maler 2010.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from pilotage.core.errors import UsageError

RESERVED = frozenset({"always", "eventually", "until", "and", "or", "not", "implies", "inf"})
"""Keywords of the text form, which cannot name a signal."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Measure = Callable[[Mapping[str, Tensor]], Tensor]
"""Function from signals [..., step] and parameters [..., 1] by name to a value [..., step], positive where it holds."""


class Formula:
    """Signal-temporal-logic formula; its robustness on a trajectory is above 0 where it is satisfied."""

    def __and__(self, other: Formula) -> And:
        return And((*(self.terms if isinstance(self, And) else (self,)), other))

    def __or__(self, other: Formula) -> Or:
        return Or((*(self.terms if isinstance(self, Or) else (self,)), other))

    def __invert__(self) -> Not:
        return Not(self)

    def __rshift__(self, other: Formula) -> Implies:
        return Implies(self, other)

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula is neither true nor false before it meets a trajectory: join formulas with &, |, ~ and >>, and "
            "write a <= x <= b as (a <= x) & (x <= b)"
        )

    def __str__(self) -> str:
        return _text(self)


@dataclass(frozen=True)
class Linear:
    """Linear expression: `constant` plus the sum of coefficient times name, without zero coefficients."""

    terms: tuple[tuple[str, float], ...] = ()
    constant: float = 0.0

    def __post_init__(self) -> None:
        merged: dict[str, float] = {}
        for name, coefficient in self.terms:
            if not _NAME.fullmatch(name) or name in RESERVED:
                raise UsageError(
                    f"{name!r} cannot be the name of a signal or parameter; expected letters, digits and _, not "
                    f"beginning with a digit, and none of {', '.join(sorted(RESERVED))}"
                )
            merged[name] = merged.get(name, 0.0) + float(coefficient)
        if not all(map(math.isfinite, (*merged.values(), self.constant))):
            raise UsageError(f"the numbers of a linear expression must be finite, got {self.terms} and {self.constant}")
        object.__setattr__(self, "terms", tuple((name, value) for name, value in merged.items() if value))
        object.__setattr__(self, "constant", float(self.constant))

    def __add__(self, other: Linear | float) -> Linear:
        other = linear(other)
        return Linear(self.terms + other.terms, self.constant + other.constant)

    def __mul__(self, factor: float) -> Linear:
        if isinstance(factor, Linear):
            raise UsageError("only numbers may multiply a name: predicates are linear; use a Function for the rest")
        return Linear(tuple((name, value * factor) for name, value in self.terms), self.constant * factor)

    def __neg__(self) -> Linear:
        return self * -1.0

    def __sub__(self, other: Linear | float) -> Linear:
        return self + -linear(other)

    def __rsub__(self, other: float) -> Linear:
        return linear(other) - self

    def __le__(self, other: Linear | float) -> Predicate:
        return Predicate(self, "<=", linear(other))

    def __ge__(self, other: Linear | float) -> Predicate:
        return Predicate(self, ">=", linear(other))

    __radd__ = __add__
    __rmul__ = __mul__


def name(of: str) -> Linear:
    """Return the signal or parameter called `of`; the evaluation decides which of the two it is.

    Raises UsageError for a name that the text form could not hold.
    """
    return Linear(((of, 1.0),))


def linear(value: Linear | float) -> Linear:
    """Return a number as a linear expression."""
    return value if isinstance(value, Linear) else Linear((), float(value))


@dataclass(frozen=True)
class Predicate(Formula):
    """Predicate `left <= right` (robustness right − left) or `left >= right` (robustness left − right).

    Equality has robustness 0 either way, so that there is no strict relation.
    """

    left: Linear
    relation: Literal["<=", ">="]
    right: Linear

    def __post_init__(self) -> None:
        if self.relation not in ("<=", ">="):
            raise UsageError(f"the relation of a predicate is <= or >=, got {self.relation!r}")
        if not self.left.terms and not self.right.terms:
            raise UsageError("a predicate must name a signal or a parameter on one side")

    @property
    def margin(self) -> Linear:
        """Return the robustness of the predicate as one linear expression."""
        return self.right - self.left if self.relation == "<=" else self.left - self.right


@dataclass(frozen=True)
class Function(Formula):
    """Predicate of the user's own, with robustness `measure(values)` [..., step].

    `values` holds the signals [..., step] and the parameters [..., 1] by name. In text it is `label()`, and `parse` is
    given the function.
    """

    label: str
    measure: Measure

    def __post_init__(self) -> None:
        name(self.label)


@dataclass(frozen=True)
class Not(Formula):
    """Negation: robustness is minus that of the operand."""

    operand: Formula


@dataclass(frozen=True)
class And(Formula):
    """Conjunction of two or more terms: robustness is the least of theirs."""

    terms: tuple[Formula, ...]

    def __post_init__(self) -> None:
        _at_least_two(self.terms, "and")


@dataclass(frozen=True)
class Or(Formula):
    """Disjunction of two or more terms: robustness is the greatest of theirs."""

    terms: tuple[Formula, ...]

    def __post_init__(self) -> None:
        _at_least_two(self.terms, "or")


@dataclass(frozen=True)
class Implies(Formula):
    """Implication: robustness is the greater of minus that of `left` and that of `right`."""

    left: Formula
    right: Formula


@dataclass(frozen=True)
class Always(Formula):
    """Operator "always": at step t the least of the operand over steps t+`lower` to t+`upper` (None: to the end)."""

    operand: Formula
    lower: int = 0
    upper: int | None = None

    def __post_init__(self) -> None:
        _check_window(self.lower, self.upper)


@dataclass(frozen=True)
class Eventually(Formula):
    """Operator "eventually": at step t the greatest of the operand over t+`lower` to t+`upper` (None: to the end)."""

    operand: Formula
    lower: int = 0
    upper: int | None = None

    def __post_init__(self) -> None:
        _check_window(self.lower, self.upper)


@dataclass(frozen=True)
class Until(Formula):
    """Operator "until": `right` holds at some step k of t+`lower` to t+`upper`, and `left` from t to k−1."""

    left: Formula
    right: Formula
    lower: int = 0
    upper: int | None = None

    def __post_init__(self) -> None:
        _check_window(self.lower, self.upper)


def _at_least_two(terms: tuple[Formula, ...], word: str) -> None:
    if len(terms) < 2:
        raise UsageError(f"{word!r} joins at least two formulas, got {len(terms)}")


def _check_window(lower: int, upper: int | None) -> None:
    bounds = (lower,) if upper is None else (lower, upper)
    if any(not isinstance(bound, int) or isinstance(bound, bool) or bound < 0 for bound in bounds):
        raise UsageError(f"a window is two whole numbers of steps from 0 on, got [{lower}, {upper}]")
    if upper is not None and upper < lower:
        raise UsageError(f"the window [{lower}, {upper}] ends before it begins; expected the smaller number first")


def parts(formula: Formula) -> tuple[Formula, ...]:
    """Return the formulas that `formula` is directly made of."""
    match formula:
        case Not(operand) | Always(operand) | Eventually(operand):
            return (operand,)
        case And(terms) | Or(terms):
            return terms
        case Implies(left, right) | Until(left, right):
            return (left, right)
        case _:
            return ()


def subformulas(formula: Formula) -> Iterator[Formula]:
    """Yield the formula and all that it is made of, outside first."""
    yield formula
    for part in parts(formula):
        yield from subformulas(part)


def names(formula: Formula) -> list[str]:
    """Return the signals and parameters in its linear predicates, each once, in order of appearance."""
    found: dict[str, None] = {}
    for part in subformulas(formula):
        if isinstance(part, Predicate):
            found.update(dict.fromkeys(term for side in (part.left, part.right) for term, _ in side.terms))
    return list(found)


def fits(formula: Formula, steps: int) -> bool:
    """Return whether, at step 0 of a trajectory of `steps` steps, no window lies wholly past the end.

    A window that does takes the last step (see `robustness`): defined, but seldom what was meant.
    """
    return _fits(formula, 0, steps - 1)


def _fits(formula: Formula, latest: int, end: int) -> bool:
    if isinstance(formula, Always | Eventually | Until):
        if latest + formula.lower > end:
            return False
        latest = end if formula.upper is None else min(latest + formula.upper, end)
    return all(_fits(part, latest, end) for part in parts(formula))


# ---- the text form ---------------------------------------------------------------------------------------------------


def _text(formula: Formula) -> str:
    match formula:
        case Predicate(left, relation, right):
            return f"{_linear_text(left)} {relation} {_linear_text(right)}"
        case Function(label):
            return f"{label}()"
        case Not(operand):
            return f"not {_operand(operand)}"
        case Always(operand, lower, upper):
            return f"always{_window(lower, upper)} {_operand(operand)}"
        case Eventually(operand, lower, upper):
            return f"eventually{_window(lower, upper)} {_operand(operand)}"
        case Until(left, right, lower, upper):
            return f"{_term(left)} until{_window(lower, upper)} {_term(right)}"
        case Implies(left, right):
            return f"{_term(left)} -> {_term(right)}"
        case And(terms):
            return " and ".join(map(_term, terms))
        case Or(terms):
            return " or ".join(map(_term, terms))
    raise TypeError(f"{type(formula).__name__} is no formula of this language")


def _operand(formula: Formula) -> str:
    bare = isinstance(formula, Function | Not | Always | Eventually)
    return _text(formula) if bare else f"({_text(formula)})"


def _term(formula: Formula) -> str:
    joined = isinstance(formula, And | Or | Implies | Until)
    return f"({_text(formula)})" if joined else _text(formula)


def _window(lower: int, upper: int | None) -> str:
    if lower == 0 and upper is None:
        return ""
    return f"[{lower},{'inf' if upper is None else upper}]"


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _linear_text(expression: Linear) -> str:
    pieces: list[tuple[float, Any]] = [*((value, of) for of, value in expression.terms)]
    if expression.constant or not pieces:
        pieces.append((expression.constant, None))
    text = ""
    for value, of in pieces:
        size = number_text(abs(value))
        body = size if of is None else of if size == "1" else f"{size}*{of}"
        if text:
            text += f" - {body}" if value < 0 else f" + {body}"
        else:
            text = f"-{body}" if value < 0 else body
    return text
