"""Formulas of Signal Temporal Logic from text: `parse("always[0,5](v <= vmax) and eventually (gap >= 2)")`.

formula    = or, [ "->" or "implies", formula ]
or         = and, { "or", and }
and        = until, { "and", until }
until      = unary, [ "until", [window], unary ]
unary      = "not" unary | ("always" | "eventually") [window] unary | "(" formula ")" | NAME "()" | comparison
comparison = sum, relation, sum, [ relation, sum ]           with <= or >=; < and > mean the same
sum        = ["-"] product, { "+" or "-", product }          with products such as 2*v, v*2, v/2, 3
window     = "[" WHOLE "," (WHOLE | "inf") "]"               in steps; left out: [0,inf]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic.formulas import (
    RESERVED,
    Always,
    And,
    Eventually,
    Formula,
    Function,
    Implies,
    Linear,
    Measure,
    Not,
    Or,
    Predicate,
    Until,
)

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark><=|>=|->|==|!=|[-<>=\[\](),+*/&|!])"
)
_RELATIONS = {"<=": "<=", "<": "<=", ">=": ">=", ">": ">="}
_DEEPEST = 60
"""Deepest nesting that is parsed, within the limit of Python's stack."""


def parse(text: str, functions: Mapping[str, Measure] | None = None) -> Formula:
    """Return the formula that `text` stands for; the grammar is at the top of this module.

    functions: predicates of the user's own by the name under which the text calls them, `name()`; see `Function`.
    Raises UsageError that shows the place: line, column and a caret under it.
    """
    reader = _Reader(text, functions or {})
    formula = reader.formula()
    if reader.at.kind != "end":
        raise reader.failure(f"expected the end, or one of until, and, or, ->; got {reader.at.text!r}")
    return formula


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


class _Reader:
    """Parser by recursive descent over the tokens; `at` is the present one."""

    def __init__(self, text: str, functions: Mapping[str, Measure]) -> None:
        self.text, self.functions, self.depth = text, functions, 0
        self.tokens, self.position = self._tokens(), 0

    def _tokens(self) -> list[_Token]:
        found, place = [], 0
        while place < len(self.text):
            if self.text[place].isspace():
                place += 1
                continue
            match = _TOKEN.match(self.text, place)
            if match is None:
                raise self.failure(f"{self.text[place]!r} means nothing here", place)
            kind = str(match.lastgroup)
            word = match.group()
            found.append(_Token("word" if word in RESERVED else "mark" if kind == "mark" else kind, word, place))
            place = match.end()
        return [*found, _Token("end", "the end", len(self.text))]

    @property
    def at(self) -> _Token:
        return self.tokens[self.position]

    def failure(self, complaint: str, place: int | None = None) -> UsageError:
        """Return an error with the line, and a caret under the character at `place`."""
        place = self.at.place if place is None else place
        start = self.text.rfind("\n", 0, place) + 1
        line = self.text[start:].split("\n", 1)[0]
        row = self.text.count("\n", 0, place) + 1
        where = f"line {row}, column {place - start + 1}" if "\n" in self.text else f"column {place + 1}"
        # Tabs are kept so that the caret stands where the reader sees the character.
        indent = "".join(character if character == "\t" else " " for character in line[: place - start])
        return UsageError(f"temporal logic, {where}: {complaint}\n  {line}\n  {indent}^")

    def take(self, *texts: str) -> str | None:
        """Consume the present token and return its text, if it is a word or mark among `texts`."""
        token = self.at
        if token.kind not in ("word", "mark") or token.text not in texts:
            return None
        self.position += 1
        return token.text

    def need(self, text: str, purpose: str) -> None:
        if self.take(text) is None:
            raise self.failure(f"expected {text!r} {purpose}, got {self.at.text!r}")

    # ---- formulas ----------------------------------------------------------------------------------------------------

    def formula(self) -> Formula:
        left = self.disjunction()
        if self.take("->", "implies") is None:
            return left
        self.deeper()
        right = self.formula()
        self.depth -= 1
        return Implies(left, right)

    def disjunction(self) -> Formula:
        terms = [self.conjunction()]
        while self.take("or"):
            terms.append(self.conjunction())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def conjunction(self) -> Formula:
        terms = [self.until()]
        while self.take("and"):
            terms.append(self.until())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def until(self) -> Formula:
        left = self.unary()
        if self.take("until") is None:
            return left
        lower, upper = self.window()
        formula = Until(left, self.unary(), lower, upper)
        if self.at.kind == "word" and self.at.text == "until":
            raise self.failure("two untils in a row can be read in two ways; put parentheses around one of them")
        return formula

    def unary(self) -> Formula:
        self.deeper()
        formula = self._unary()
        self.depth -= 1
        return formula

    def _unary(self) -> Formula:
        if self.take("not"):
            return Not(self.unary())
        if word := self.take("always", "eventually"):
            lower, upper = self.window()
            operator = Always if word == "always" else Eventually
            return operator(self.unary(), lower, upper)
        if self.take("("):
            formula = self.formula()
            self.need(")", "to close the parenthesis")
            return formula
        following = self.tokens[min(self.position + 1, len(self.tokens) - 1)]
        if self.at.kind == "name" and following.text in ("(", "["):
            return self.function(following.text)
        return self.comparison()

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.failure(f"nested deeper than {_DEEPEST} levels; name parts of it and join them in Python")

    def function(self, bracket: str) -> Formula:
        label = self.at.text
        if bracket == "[" or label not in self.functions:
            known = ", ".join(f"{each}()" for each in self.functions) or "none was given"
            raise self.failure(
                f"there is no operator or function {label!r}; operators are always, eventually; functions: {known}"
            )
        self.position += 1
        self.need("(", "after the name of a function")
        self.need(")", "because a function is called without arguments")
        return Function(label, self.functions[label])

    def window(self) -> tuple[int, int | None]:
        if self.take("[") is None:
            return 0, None
        place = self.tokens[self.position - 1].place
        lower = self.whole()
        self.need(",", "between the two ends of a window")
        upper = None if self.take("inf") else self.whole()
        self.need("]", "to close the window")
        if upper is not None and upper < lower:
            raise self.failure(f"the window [{lower},{upper}] ends before it begins", place)
        return lower, upper

    def whole(self) -> int:
        token = self.at
        if token.kind != "number" or not token.text.isdigit():
            raise self.failure(f"expected a whole number of steps, got {token.text!r}")
        self.position += 1
        return int(token.text)

    # ---- arithmetic --------------------------------------------------------------------------------------------------

    def comparison(self) -> Formula:
        place = self.at.place
        left = self.sum()
        found: list[Formula] = []
        while not found or (len(found) == 1 and self.at.text in _RELATIONS):
            relation = self.take(*_RELATIONS)
            if relation is None:
                hint = "; equality is written as two inequalities" if self.at.text in ("=", "==", "!=") else ""
                raise self.failure(f"expected <= or >=, got {self.at.text!r}{hint}")
            right = self.sum()
            if not left.terms and not right.terms:
                raise self.failure("two numbers are compared; name a signal or a parameter on one side", place)
            found.append(Predicate(left, ">=" if _RELATIONS[relation] == ">=" else "<=", right))
            left = right
        return found[0] if len(found) == 1 else And(tuple(found))

    def sum(self) -> Linear:
        total = -self.product() if self.take("-") else self.product()
        while sign := self.take("+", "-"):
            total = total + self.product() if sign == "+" else total - self.product()
        return total

    def product(self) -> Linear:
        result = self.factor()
        while sign := self.take("*", "/"):
            place = self.at.place
            factor = self.factor()
            if factor.terms and (result.terms or sign == "/"):
                raise self.failure("only numbers may multiply or divide a name: predicates are linear", place)
            if sign == "/" and factor.constant == 0:
                raise self.failure("division by zero", place)
            if sign == "/":
                result = result * (1 / factor.constant)
            else:
                result = factor * result.constant if factor.terms else result * factor.constant
        return result

    def factor(self) -> Linear:
        token = self.at
        if token.kind == "number":
            value = float(token.text)
            if not math.isfinite(value):
                raise self.failure(f"{token.text} is too large a number")
            self.position += 1
            return Linear((), value)
        if token.kind == "name":
            self.position += 1
            return Linear(((token.text, 1.0),))
        hint = "; multiply out parentheses in arithmetic" if token.text == "(" else ""
        raise self.failure(f"expected a number or a name, got {token.text!r}{hint}")
