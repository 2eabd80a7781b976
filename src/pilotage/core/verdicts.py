"""Rules that turn measurements into a verdict (holds, does not hold, undecided), fixed before anything is measured.

A unit is what an experiment repeats and draws independently: a training seed, a task, a scene, a forecast origin.
Episodes are averaged inside a unit. Intervals are Student's t over units, because the percentile bootstrap covers far
too seldom with a handful of units (71, 84, 88 % at 3, 5, 8 units where 95 % was asked for).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pilotage.core.claims import Criterion, Verdict
from pilotage.core.intervals import Interval, t_interval

LEAST_UNITS = 5
SATURATED_HIGH, SATURATED_LOW = 0.97, 0.03
MOST_CENSORED = 0.2


@dataclass(frozen=True)
class Gate:
    """Least performance of a baseline: below it nothing that is measured against that baseline counts."""

    arm: str
    metric: str
    least: float
    measured: float

    @property
    def passed(self) -> bool:
        """Return whether the baseline reached the least performance."""
        return self.measured >= self.least


@dataclass(frozen=True)
class Judgement:
    """Verdict with the numbers that it rests on.

    `mean` with `low` and `high` is the mean difference and its interval (rate and Clopper-Pearson interval for rare,
    share of true units for exact); NaN where it cannot be computed.
    """

    verdict: Verdict
    mean: float
    low: float
    high: float
    reason: str
    reversed: bool = False
    """The opposite of the claim was shown: the whole interval lies on the other side of zero."""


def confidence(looks: int) -> float:
    """Return the two-sided confidence of each interval for one or two looks at the data.

    It is .95 with one look, .975 at both when one doubling of the number of units was declared (Bonferroni, so that
    the two looks together still err in at most 5 %).
    """
    if looks not in (1, 2):
        raise ValueError(f"looks is {looks}; one look, or two when a doubling of the units was declared")
    return 0.95 if looks == 1 else 0.975


def clopper_pearson(events: int, trials: int, level: float = 0.95) -> Interval:
    """Return the two-sided exact binomial interval of `events` in `trials` independent trials; mean is the rate."""
    if not 0 <= events <= trials or trials < 1:
        raise ValueError(f"{events} events in {trials} trials; expected 0 ≤ events ≤ trials and at least one trial")
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, events, trials - events + 1)) if events else 0.0
    high = float(stats.beta.ppf(1 - tail, events + 1, trials - events)) if events < trials else 1.0
    return Interval(events / trials, low, high)


def saturated(of: ArrayLike, against: ArrayLike) -> bool:
    """Return whether two arms' rates leave no room to differ: both means ≥ .97, or both ≤ .03."""
    means = float(np.mean(np.asarray(of))), float(np.mean(np.asarray(against)))
    return min(means) >= SATURATED_HIGH or max(means) <= SATURATED_LOW


def slopes(values: ArrayLike) -> NDArray[np.float64]:
    """Return the least-squares slope of each row of `values` [unit, arm] over the arms' positions 0, 1, …: [unit]."""
    table = _table(values, least_columns=2)
    positions = np.arange(table.shape[1]) - (table.shape[1] - 1) / 2
    return table @ positions / (positions @ positions)


def kendall(values: ArrayLike) -> NDArray[np.float64]:
    """Return Kendall's τ of each row of `values` [unit, arm] with the order of the arms (first arm least).

    The result [unit] lies in −1..1. A tie agrees with neither order and counts nothing (τ-a).
    """
    table = _table(values, least_columns=2)
    pairs = list(combinations(range(table.shape[1]), 2))
    return np.mean([np.sign(table[:, later] - table[:, earlier]) for earlier, later in pairs], axis=0)


def concordance_p(agreement: ArrayLike, arms: int) -> float:
    """Return the exact one-sided p of the mean τ of several units, `agreement` [unit].

    Under the hypothesis every order of `arms` arms is equally likely within a unit: the number of discordant pairs has
    the Mahonian distribution, and units add.
    """
    pairs = arms * (arms - 1) // 2
    sample = np.asarray(agreement, dtype=float)
    total = _discordance(arms, len(sample))
    # τ = 1 − 2·discordant/pairs; half a pair (from ties) is rounded against the claim.
    discordant = math.ceil(float(np.sum((1 - sample) * pairs / 2)) - 1e-9)
    return min(1.0, float(total[: discordant + 1].sum()))


@cache
def _discordance(arms: int, units: int) -> NDArray[np.float64]:
    single, total = np.ones(1), np.ones(1)
    for size in range(2, arms + 1):
        single = np.convolve(single, np.full(size, 1 / size))
    for _ in range(units):
        total = np.convolve(total, single)
    return total


def judge(
    criterion: Criterion,
    measured: ArrayLike,
    *,
    n_declared: int,
    gates: Sequence[Gate] = (),
    saturated: bool = False,
    constant: bool = False,
    censored: int = 0,
    looks: int = 1,
) -> Judgement:
    """Return the verdict of `criterion` on what was measured.

    Args:
        criterion: kind and margin, fixed before the first unit ran.
        measured: for better, not_worse and same the paired differences in the paper's direction [unit] (ratios as
            logarithms). For rare (events, independent trials). For exact one truth value per unit [unit]. For trend and
            rank the metric of the arms in the claimed order, least first [unit, arm]; trend takes the slope over the
            arms' positions (`margin` in metric per position), rank Kendall's τ (`margin` is the least mean τ). For
            frontier the paired differences in several metrics, each in the paper's direction [unit, metric]: not worse
            than `margin` in any of them and better in at least one.
        n_declared: number of units fixed beforehand; fewer leave the claim undecided.
        gates: what the baselines had to reach.
        saturated: both arms at the end of a rate's scale (see `saturated`).
        constant: all numbers of the compared arms are equal, so that what they count never (or always) happened.
        censored: units that gave no number; `measured` holds the others.
        looks: 2 when one doubling of the units was declared: 97.5 % intervals at both looks, and `measured` may hold
            2·n_declared units.

    Returns:
        Judgement; `reason` says in words why.

    Raises:
        ValueError: for data that do not fit the kind, non-finite numbers, or more units than were declared.

    exact needs no number of units: identities and counts are not estimates.
    """
    level = confidence(looks)
    data = np.asarray(measured, dtype=float)
    if not np.all(np.isfinite(data)):
        raise ValueError("non-finite numbers among the units; leave such units out and count them in `censored`")
    units = _count_units(criterion, data)
    if criterion.kind != "rare" and units + censored > n_declared * looks:
        raise ValueError(f"{units + censored} units where {n_declared * looks} were declared beforehand")
    doubt = _doubt(criterion, units, n_declared, gates, saturated, constant, censored)
    judgement = _RULES[criterion.kind](criterion.margin, data, level)
    if doubt:
        return Judgement("undecided", judgement.mean, judgement.low, judgement.high, doubt)
    return judgement


def _table(values: ArrayLike, least_columns: int) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or table.shape[1] < least_columns:
        raise ValueError(f"expected numbers [unit, column] with at least {least_columns} columns, given {table.shape}")
    return table


def _count_units(criterion: Criterion, data: NDArray[np.float64]) -> int:
    if criterion.kind != "rare":
        return data.shape[0] if data.ndim else 0
    if data.shape != (2,):
        raise ValueError(f"rare takes (events, trials), given an array of shape {data.shape}")
    if not np.all(data == np.round(data)):
        raise ValueError(f"rare takes whole numbers of events and trials, given {data[0]:g} of {data[1]:g}")
    return int(data[1])


def _doubt(
    criterion: Criterion,
    units: int,
    n_declared: int,
    gates: Sequence[Gate],
    saturated: bool,
    constant: bool,
    censored: int,
) -> str:
    """Return why no verdict may be given whatever the numbers say; empty when one may."""
    for gate in gates:
        if not gate.passed:
            return (
                f"{gate.arm} is below its gate: {gate.metric} {gate.measured:.3g}, at least {gate.least:.3g} is needed"
            )
    if units + censored < n_declared:
        return f"{units + censored} of {n_declared} declared units ran"
    if censored > MOST_CENSORED * (units + censored):
        return f"{censored} of {units + censored} units gave no number (more than {MOST_CENSORED:.0%})"
    if criterion.kind != "exact" and units < LEAST_UNITS:
        return f"{units} units; at least {LEAST_UNITS} are needed"
    if saturated:
        return f"both arms are at the end of the scale (≥ {SATURATED_HIGH} or ≤ {SATURATED_LOW})"
    if constant:
        return "all numbers of both arms are equal: what the metric counts never happened in either arm, or always did"
    return ""


def _interval_words(interval: Interval, level: float) -> str:
    return f"{interval.mean:+.3g}, {level:.1%} interval [{interval.low:+.3g}, {interval.high:+.3g}]"


def _better(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    interval = t_interval(data, level)
    words = f"difference {_interval_words(interval, level)}; criterion: mean ≥ {margin:g}, lower bound > 0"
    is_shown = interval.low > 0 and interval.mean >= margin
    words += _weakness(data, margin, is_shown)
    if is_shown:
        return Judgement("holds", interval.mean, interval.low, interval.high, words)
    if interval.high < 0:
        return Judgement("does not hold", interval.mean, interval.low, interval.high, "reversed: " + words, True)
    verdict: Verdict = "does not hold" if interval.high < margin else "undecided"
    return Judgement(verdict, interval.mean, interval.low, interval.high, words)


def _weakness(data: NDArray[np.float64], margin: float, is_shown: bool) -> str:
    """Return a warning, for the end of a reason, where a mean that meets the criterion says less than it seems to.

    It does so where all differences are equal, and where one of them carries the mean: without it the mean is not
    positive, or for a claim that holds less than half as large.
    """
    mean = float(data.mean()) if len(data) > 1 else 0.0
    if mean <= 0 or mean < margin or not (is_shown or margin > 0):
        return ""
    if np.all(data == data[0]):
        return f"; warning: all {len(data)} differences are equal, so that the interval has no width"
    without = float((data.sum() - data.max()) / (len(data) - 1))
    if without <= (mean / 2 if is_shown else 0.0):
        return f"; warning: one unit carries the mean, which is {without:+.3g} without it"
    return ""


def events_judgement(of: ArrayLike, against: ArrayLike | None, most: float | None) -> tuple[bool, str]:
    """Return whether a condition on the number of events holds, and in words why.

    Args:
        of: whether the event happened in each unit of the first arm, [unit].
        against: the same of the second arm, paired; needed when `most` is None.
        most: see `pilotage.core.claims.Events`.
    """
    first = np.asarray(of, dtype=bool)
    if most is not None:
        interval = clopper_pearson(int(first.sum()), len(first))
        words = f"{first.sum()} of {len(first)} units with the event, upper bound {interval.high:.2g}"
        return interval.high <= most, f"{words}; criterion: ≤ {most:g}"
    second = np.asarray(against, dtype=bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(stats.binom.sf(only_second - 1, only_first + only_second, 0.5)) if only_first + only_second else 1.0
    words = f"the event in {first.sum()} against {second.sum()} of {len(first)} units, exact one-sided p {p:.2g}"
    return p <= 0.05, f"{words}; criterion: p ≤ 0.05"


def _not_worse(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    interval = t_interval(data, level)
    words = f"difference {_interval_words(interval, level)}; criterion: lower bound > {-margin:g}"
    verdict: Verdict = "undecided"
    if interval.low > -margin:
        verdict = "holds"
    elif interval.high < -margin:
        verdict = "does not hold"
    return Judgement(verdict, interval.mean, interval.low, interval.high, words)


def _same(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    interval = t_interval(data, level)
    words = f"difference {_interval_words(interval, level)}; criterion: interval within ±{margin:g}"
    verdict: Verdict = "undecided"
    if -margin < interval.low and interval.high < margin:
        verdict = "holds"
    elif interval.low > margin or interval.high < -margin:
        verdict = "does not hold"
    return Judgement(verdict, interval.mean, interval.low, interval.high, words)


def _rare(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    events, trials = int(data[0]), int(data[1])
    interval = clopper_pearson(events, trials, level)
    between = f"[{interval.low:.3g}, {interval.high:.3g}]"
    words = f"{events} of {trials}, {level:.1%} interval {between}; criterion: upper bound ≤ {margin:g}"
    verdict: Verdict = "undecided"
    if interval.high <= margin:
        verdict = "holds"
    elif interval.low > margin:
        verdict = "does not hold"
    return Judgement(verdict, interval.mean, interval.low, interval.high, words)


def _exact(_margin: float, data: NDArray[np.float64], _level: float) -> Judgement:
    if data.ndim != 1 or not len(data) or not np.all(np.isin(data, (0.0, 1.0))):
        raise ValueError("exact takes one truth value (0 or 1) per unit, and at least one")
    share = float(data.mean())
    words = f"true in {int(data.sum())} of {len(data)} units"
    return Judgement("holds" if share == 1.0 else "does not hold", share, share, share, words)


def _trend(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    return _better(margin, slopes(data), level)


def _rank(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    agreement = kendall(data)
    interval = t_interval(agreement, level)
    low, high = max(interval.low, -1.0), min(interval.high, 1.0)
    # τ takes few values, so the order is shown by the exact distribution and not by the t interval.
    p, p_opposite = concordance_p(agreement, data.shape[1]), concordance_p(-agreement, data.shape[1])
    tail = (1 - level) / 2
    words = (
        f"mean Kendall τ {interval.mean:+.3g}, exact one-sided p {p:.3g}; criterion: mean τ ≥ {margin:g}, p ≤ {tail:g}"
    )
    if p <= tail and interval.mean >= margin:
        return Judgement("holds", interval.mean, low, high, words)
    if p_opposite <= tail:
        return Judgement("does not hold", interval.mean, low, high, "reversed: " + words, True)
    verdict: Verdict = "does not hold" if interval.high < margin else "undecided"
    return Judgement(verdict, interval.mean, low, high, words)


def _frontier(margin: float, data: NDArray[np.float64], level: float) -> Judgement:
    table = _table(data, least_columns=2)
    intervals = [t_interval(column, level) for column in table.T]
    # «Better in at least one» looks once at every metric, so each look gets its share of the error.
    strict = [t_interval(column, 1 - (1 - level) / table.shape[1]) for column in table.T]
    words = "differences " + "; ".join(_interval_words(interval, level) for interval in intervals)
    best = max(intervals, key=lambda interval: interval.low)
    if all(i.low > -margin for i in intervals) and any(i.low > 0 for i in strict):
        return Judgement("holds", best.mean, best.low, best.high, words)
    worst = min(intervals, key=lambda interval: interval.high)
    if worst.high < -margin or all(i.high < 0 for i in intervals):
        is_reversed = all(i.high < 0 for i in intervals)
        return Judgement("does not hold", worst.mean, worst.low, worst.high, words, is_reversed)
    return Judgement("undecided", best.mean, best.low, best.high, words)


_RULES: dict[str, Callable[[float, NDArray[np.float64], float], Judgement]] = {
    "better": _better,
    "not_worse": _not_worse,
    "same": _same,
    "rare": _rare,
    "exact": _exact,
    "trend": _trend,
    "rank": _rank,
    "frontier": _frontier,
}
