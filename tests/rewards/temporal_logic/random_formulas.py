"""Random formulas, and their values computed step by step in plain Python."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from pilotage.rewards.temporal_logic import (
    Always,
    And,
    Eventually,
    Formula,
    Implies,
    Linear,
    Not,
    Or,
    Predicate,
    Until,
)

NAMES = ("x", "y", "z")
coefficients = st.sampled_from((-2.5, -1.0, 0.5, 1.0, 1e-7, 3.0)) | st.floats(-1e3, 1e3, allow_subnormal=False)
sums = st.builds(
    Linear,
    st.lists(st.tuples(st.sampled_from(NAMES), coefficients), min_size=1, max_size=3).map(tuple),
    coefficients | st.just(0.0),
)
numbers = st.builds(Linear, st.just(()), st.sampled_from((-1.0, 0.0, 0.25, 2.0)))
predicates = st.builds(Predicate, sums.filter(lambda left: left.terms), st.sampled_from(("<=", ">=")), sums | numbers)


def windows(longest: int) -> st.SearchStrategy[tuple[int, int | None]]:
    lower = st.integers(0, longest)
    return st.tuples(lower, st.none() | st.integers(0, longest)).map(
        lambda pair: (pair[0], None if pair[1] is None else pair[0] + pair[1])
    )


def formulas(atoms: st.SearchStrategy = predicates, longest: int = 9, leaves: int = 6) -> st.SearchStrategy[Formula]:
    """Formulas with up to `leaves` predicates, whose windows begin and last at most `longest` steps."""

    def larger(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            inner.map(Not),
            several.map(And),
            several.map(Or),
            st.builds(Implies, inner, inner),
            st.tuples(inner, windows(longest)).map(lambda made: Always(made[0], *made[1])),
            st.tuples(inner, windows(longest)).map(lambda made: Eventually(made[0], *made[1])),
            st.tuples(inner, inner, windows(longest)).map(lambda made: Until(made[0], made[1], *made[2])),
        )

    return st.recursive(atoms, larger, max_leaves=leaves)


simple = st.builds(
    Predicate,
    st.sampled_from(NAMES).map(lambda name: Linear(((name, 1.0),))),
    st.sampled_from(("<=", ">=")),
    numbers,
)


class Plain:
    """Values by the definition: on a trajectory that stays at its last step for ever, or, smooth (`tau`), with every
    step of a window counted once and windows cut at the end."""

    def __init__(self, signals: dict[str, list[float]], tau: float | None = None) -> None:
        self.signals, self.tau = signals, tau
        self.end = len(next(iter(signals.values()))) - 1

    def greatest(self, values: list[float]) -> float:
        if self.tau is None:
            return max(values)
        top = max(values)
        return top + math.log(sum(math.exp(self.tau * (value - top)) for value in values)) / self.tau

    def least(self, values: list[float]) -> float:
        return -self.greatest([-value for value in values])

    def window(self, t: int, lower: int, upper: int | None) -> list[int]:
        if self.tau is None:  # nothing changes after the end, so one more step than the longest stands for for ever
            last = t + lower + self.end + 1 if upper is None else t + upper
            return list(range(t + lower, last + 1))
        last = self.end if upper is None else min(t + upper, self.end)
        return list(range(t + lower, last + 1)) or [self.end]

    def linear(self, expression: Linear, t: int) -> float:
        values = {name: row[min(t, self.end)] for name, row in self.signals.items()}
        return expression.constant + sum(coefficient * values[name] for name, coefficient in expression.terms)

    def value(self, formula: Formula, t: int = 0) -> float:
        match formula:
            case Predicate():
                return self.linear(formula.margin, t)
            case Not(operand):
                return -self.value(operand, t)
            case And(terms):
                return self.least([self.value(term, t) for term in terms])
            case Or(terms):
                return self.greatest([self.value(term, t) for term in terms])
            case Implies(left, right):
                return self.greatest([-self.value(left, t), self.value(right, t)])
            case Always(operand, lower, upper):
                return self.least([self.value(operand, k) for k in self.window(t, lower, upper)])
            case Eventually(operand, lower, upper):
                return self.greatest([self.value(operand, k) for k in self.window(t, lower, upper)])
            case Until(left, right, lower, upper):
                if self.tau is not None and t + lower > self.end:
                    before = [self.value(left, k) for k in range(t, self.end + 1)]
                    return self.least([self.value(right, self.end), *before])
                return self.greatest(
                    [
                        self.least([self.value(right, k), *(self.value(left, j) for j in range(t, k))])
                        for k in self.window(t, lower, upper)
                    ]
                )
        raise TypeError(formula)
