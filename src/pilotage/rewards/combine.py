"""Several rewards as one number per answer: "exact+0.5*format", with failures counted apart and never as zero."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.model_text import read_model_text
from pilotage.types import Failed, Item, Reward, Score


class TooManyFailuresError(UsageError):
    """So many answers could not be scored that what remains is not worth training on."""


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
class ScoredAnswers:
    """Scores of N answers under K components."""

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
    unfinished: int = 0
    """How many texts hold reasoning and no answer after it, see `pilotage.core.model_text`."""


def score_answers(
    components: Sequence[Component],
    texts: Sequence[str],
    items: Sequence[Item],
    rollouts: Any,
    *,
    failure_limit: float = 0.5,
) -> ScoredAnswers:
    """Score N answers: `texts[i]` answers `items[i]`, row i of `rollouts`.

    A component that abstains on an answer is left out of its sum; one that fails makes the answer invalid.
    failure_limit: largest share of invalid answers in [0, 1].
    Reasoning that was never finished is counted, too: such an answer scores 0 by the rewards that look for an answer.
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
    unfinished = sum(not read_model_text(text).complete for text in texts)
    names = tuple(component.name for component in components)
    return ScoredAnswers(names, scores, total.astype(np.float32), valid, dict(sorted(reasons.items())), unfinished)


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
        f"{int((~valid).sum())} of {len(texts)} answers could not be scored ({counts}); the limit is "
        f"{failure_limit:.0%}. Fix the reward function, or raise the limit if this is expected. Examples:"
    ]
    for position in np.flatnonzero(~valid)[:3]:
        details = [
            f"{component.name}: {score.reason} {score.detail}".strip()
            for component, row in zip(components, table, strict=True)
            if isinstance(score := row[position], Failed)
        ]
        lines.append(f"  {texts[position][:80]!r}: {'; '.join(details) or 'every reward abstained'}")
    return "\n".join(lines)
