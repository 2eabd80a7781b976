"""Several rewards as one number per answer: "exact+0.5*format", with failures counted apart and never as zero."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.types import Failed, Item, Reward, Score


class TooManyFailuresError(UsageError):
    """So many answers could not be judged that what remains is not worth training on."""


@dataclass(frozen=True)
class Component:
    """A reward and its weight in the sum."""

    weight: float
    reward: Reward

    @property
    def name(self) -> str:
        """Return the name."""
        return self.reward.name


@dataclass(frozen=True)
class Judged:
    """What N answers scored under K components."""

    names: tuple[str, ...]
    """[K] names of the components."""
    scores: np.ndarray
    """[N, K] float32, before weighting; nan where a component abstained or failed."""
    total: np.ndarray
    """[N] float32, the weighted sum over the components that gave a number; nan where `valid` is False."""
    valid: np.ndarray
    """[N] bool: at least one component gave a number and none failed. Other rows must not be trained on."""
    reasons: Mapping[str, int]
    """How many scores could not be made, by reason; "none" counts answers on which every component abstained."""


@dataclass(frozen=True)
class Term:
    """One summand of an expression, not yet built: `weight*name:option=value,…`."""

    weight: float
    name: str
    options: Mapping[str, str]

    @property
    def text(self) -> str:
        """Return the term without its weight: equal for equal rewards."""
        return ":".join([self.name, *(f"{key}={value!r}" for key, value in sorted(self.options.items()))])


def parse_expression(expression: str) -> list[Term]:
    """Return the summands of `"exact+0.5*format:pattern='.*#[0-9]+'+my.py:reward"`.

    A summand is `[weight*]name[:option=value,…]`, where name may be a function, `module:function` or
    `path.py:function`. Values in quotes may hold any character. Raises UsageError for what cannot be read.
    """
    terms = []
    for part in _split(expression, "+"):
        if not part.strip():
            raise UsageError(f"the reward {expression!r} has an empty summand; expected such as 'exact+0.5*format'")
        factors = _split(part, "*")
        weight = 1.0
        if len(factors) > 1:
            try:
                weight = float(factors[0])
            except ValueError:
                raise UsageError(f"{factors[0].strip()!r} in the reward {expression!r} is not a number") from None
        if not math.isfinite(weight):
            raise UsageError(f"the weight {factors[0].strip()!r} in the reward {expression!r} is not finite")
        name, options = _name_and_options("*".join(factors[1:] if len(factors) > 1 else factors).strip(), expression)
        terms.append(Term(weight, name, options))
    return terms


def score_answers(
    components: Sequence[Component],
    texts: Sequence[str],
    items: Sequence[Item],
    rollouts: Any,
    *,
    failure_limit: float = 0.5,
) -> Judged:
    """Judge N answers: `texts[i]` answers `items[i]`, row i of `rollouts`.

    A component that abstains on an answer is left out of its sum; one that fails makes the answer invalid.
    failure_limit: largest share of invalid answers in [0, 1].
    Raises TooManyFailuresError, with counts and examples, when the share is larger; ValueError when a reward returns
    the wrong number of scores.
    """
    table: list[list[Score]] = []
    for component in components:
        row = component.reward(texts, items, rollouts)
        if len(row) != len(texts):
            raise ValueError(f"reward {component.name!r} gave {len(row)} scores for {len(texts)} answers")
        table.append([_checked(score) for score in row])
    shape = (len(components), len(texts))
    failed = np.array([[isinstance(score, Failed) for score in row] for row in table], dtype=bool).reshape(shape)
    values = [[math.nan if score is None or isinstance(score, Failed) else score for score in row] for row in table]
    scores = np.array(values, dtype=np.float32).reshape(shape).T
    given = np.isfinite(scores)
    sound = ~np.asarray(failed.any(axis=0))
    valid = np.asarray(given.any(axis=1)) & sound
    silent = ~np.asarray(given.any(axis=1)) & sound
    weights = np.array([component.weight for component in components], dtype=np.float32)
    total = np.where(valid, np.where(given, scores, np.float32(0.0)) @ weights, np.float32(math.nan))
    reasons = Counter(score.reason for row in table for score in row if isinstance(score, Failed))
    if silent.any():
        reasons["none"] += int(silent.sum())
    if len(texts) and 1.0 - valid.mean() > failure_limit:
        raise TooManyFailuresError(_complaint(components, table, texts, valid, reasons, failure_limit))
    names = tuple(component.name for component in components)
    return Judged(names, scores, total.astype(np.float32), valid, dict(sorted(reasons.items())))


def _checked(score: Score) -> Score:
    """A number as float; a number that is none as a failure. Pieces of other packages are not always careful."""
    if score is None or isinstance(score, Failed):
        return score
    value = float(score)
    return value if math.isfinite(value) else Failed("nan", f"the score is {value}")


def _complaint(
    components: Sequence[Component],
    table: Sequence[Sequence[Score]],
    texts: Sequence[str],
    valid: np.ndarray,
    reasons: Mapping[str, int],
    failure_limit: float,
) -> str:
    counts = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    lines = [
        f"{int((~valid).sum())} of {len(texts)} answers could not be judged ({counts}); the limit is "
        f"{failure_limit:.0%}. Mend the reward, or raise the limit if this is expected. Examples:"
    ]
    for position in np.flatnonzero(~valid)[:3]:
        details = [
            f"{component.name}: {score.reason} {score.detail}".strip()
            for component, row in zip(components, table, strict=True)
            if isinstance(score := row[position], Failed)
        ]
        lines.append(f"  {texts[position][:80]!r}: {'; '.join(details) or 'every reward abstained'}")
    return "\n".join(lines)


def _split(text: str, mark: str) -> list[str]:
    """Cut at `mark` outside of quotes; the sign of an exponent (1e+3) is no mark."""
    parts, quote = [""], ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        exponent = mark == "+" and text[max(0, position - 2) : position].lower() in {f"{d}e" for d in "0123456789."}
        if character == mark and not quote and not (exponent and text[position + 1 : position + 2].isdigit()):
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _name_and_options(text: str, expression: str) -> tuple[str, dict[str, str]]:
    pieces = _split(text, ":")
    last = pieces[-1]
    if len(pieces) == 1 or len(_split(last, "=")) == 1:
        return text, {}
    options = {}
    for setting in _split(last, ","):
        key, *value = _split(setting, "=")
        if not value or not key.strip():
            raise UsageError(f"{setting!r} in the reward {expression!r} is no option; expected name:option=value,…")
        joined = "=".join(value).strip()
        options[key.strip()] = joined[1:-1] if joined[:1] in {"'", '"'} and joined[-1:] == joined[:1] else joined
    return ":".join(pieces[:-1]), options
