"""From the numbers of a claim's jobs to its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pilotage.core.claims import Claim, Events
from pilotage.core.errors import UsageError
from pilotage.core.verdicts import Gate, Judgement, events_judgement, judge, saturated

Values = Mapping[str, Sequence[float | None]]
"""Arm to one number per seed."""
Numbers = Mapping[str, Sequence[Mapping[str, float | None]]]
"""Arm to, for every seed, the numbers that its job gave."""


@dataclass(frozen=True)
class ClaimResult:
    """Numbers and verdict of a claim. `of` and `against` name what was compared, in words where it is no arm."""

    values: Values
    of: str
    against: str
    judgement: Judgement


def metrics_named(metric: str) -> list[tuple[str, float]]:
    """Return name and sign of each metric in a claim's `metric`.

    `"accuracy, -tokens"` (frontier) is more accuracy and fewer tokens.
    """
    names = [name.strip() for name in metric.split(",")]
    return [(name.removeprefix("-"), -1.0 if name.startswith("-") else 1.0) for name in names]


def judge_claim(claim: Claim, jobs: Numbers) -> ClaimResult:
    """Return the verdict of a claim by its declared criterion. A seed for which a number is missing counts as censored.

    Raises UsageError when the jobs lack the metric, or the claim does not fit its kind of criterion.
    """
    kind = claim.criterion.kind
    if kind == "frontier":
        return _judge_frontier(claim, jobs)
    values = {arm: _values(claim, arm, jobs[arm], claim.metric) for arm in claim.arms}
    if kind == "rare":
        return _judge_rare(claim, jobs, values)
    table, complete = _complete(values)
    order = list(claim.arms)
    sign = 1.0 if claim.higher_is_better else -1.0
    if kind in ("trend", "rank"):
        data, of, against = sign * table, " < ".join(order), ""
    elif claim.compare is None:
        if kind != "exact":
            raise UsageError(f"claim {claim.name!r} is of kind {kind} and must say which arms it compares")
        data, of, against = np.all(table != 0, axis=1).astype(float), ", ".join(order), ""
    else:
        of, against = claim.compare
        data = sign * (table[:, order.index(of)] - table[:, order.index(against)])
        if kind == "exact":
            data = (np.abs(data) <= claim.criterion.margin).astype(float)
    judgement = judge(
        claim.criterion,
        data,
        n_declared=claim.n,
        gates=_gates(claim, jobs),
        saturated=_saturated(claim, values, complete),
        constant=_constant(claim, values, complete),
        censored=seeds_run(jobs) - len(complete),
    )
    if claim.events is not None:
        judgement = _with_events(claim, claim.events, jobs, judgement)
    return ClaimResult(values, of, against, judgement)


def _with_events(claim: Claim, events: Events, jobs: Numbers, judgement: Judgement) -> Judgement:
    """Return the judgement of the mean, undecided where it holds and the condition on events does not."""
    if claim.compare is None:
        raise UsageError(f"claim {claim.name!r} counts events and must say which arms it compares")
    columns = [_values(claim, arm, jobs[arm], events.metric) for arm in claim.compare]
    pairs = [pair for pair in zip(*columns, strict=True) if None not in pair]
    of, against = ([(pair[arm] or 0.0) > events.above for pair in pairs] for arm in (0, 1))
    fulfilled, words = events_judgement(of, against, events.most)
    verdict = "undecided" if judgement.verdict == "holds" and not fulfilled else judgement.verdict
    return replace(judgement, verdict=verdict, reason=f"{judgement.reason}; {events.metric}: {words}")


def seeds_run(jobs: Numbers) -> int:
    """Return the number of seeds that ran."""
    return min(len(numbers) for numbers in jobs.values())


def _judge_frontier(claim: Claim, jobs: Numbers) -> ClaimResult:
    if claim.compare is None:
        raise UsageError(f"claim {claim.name!r} is of kind frontier and must say which arms it compares")
    of, against = claim.compare
    values: dict[str, Sequence[float | None]] = {}
    columns = []
    for metric, sign in metrics_named(claim.metric):
        pair = {f"{arm}: {metric}": _values(claim, arm, jobs[arm], metric) for arm in (of, against)}
        values.update(pair)
        columns.append(
            [sign * (a - b) if a is not None and b is not None else np.nan for a, b in zip(*pair.values(), strict=True)]
        )
    data = np.array(columns, dtype=float).T
    whole = data[np.isfinite(data).all(axis=1)]
    judgement = judge(
        claim.criterion, whole, n_declared=claim.n, gates=_gates(claim, jobs), censored=len(data) - len(whole)
    )
    return ClaimResult(values, of, against, judgement)


def _judge_rare(claim: Claim, jobs: Numbers, values: Values) -> ClaimResult:
    arm = claim.compare[0] if claim.compare else next(iter(claim.arms))
    counted = [(v, u.get(f"{claim.metric}/trials", 1.0)) for v, u in zip(values[arm], jobs[arm], strict=True)]
    whole = [(events, trials) for events, trials in counted if events is not None and trials is not None]
    for events, trials in whole:
        if events != round(events) or trials != round(trials):
            raise UsageError(
                f"claim {claim.name!r} counts whole events, but a seed of arm {arm!r} gave {events:g} of {trials:g}; "
                f"give {claim.metric} as a number of events and {claim.metric}/trials as the number of trials"
            )
    data = np.sum(np.array(whole).reshape(-1, 2), axis=0)
    # Trials are pooled: they must be drawn independently, which the claim has to see to.
    judgement = judge(
        claim.criterion,
        data,
        n_declared=claim.n,
        gates=_gates(claim, jobs),
        censored=len(counted) - len(whole),
    )
    return ClaimResult(values, arm, "", judgement)


def _values(claim: Claim, arm: str, jobs: Sequence[Mapping[str, float | None]], metric: str) -> list[float | None]:
    for numbers in jobs:
        if metric not in numbers:
            raise UsageError(
                f"claim {claim.name!r}, arm {arm!r}: there is no metric {metric!r}, only {', '.join(sorted(numbers))}"
            )
    return [numbers[metric] for numbers in jobs]


def _complete(values: Values) -> tuple[np.ndarray, list[int]]:
    """Return the table [seed, arm] of the seeds for which every arm has a number, and these seeds."""
    columns = list(values.values())
    complete = [seed for seed, row in enumerate(zip(*columns, strict=True)) if None not in row]
    table = np.array([[column[seed] for column in columns] for seed in complete], dtype=float)
    return table.reshape(len(complete), len(columns)), complete


def _gates(claim: Claim, jobs: Numbers) -> list[Gate]:
    gates = []
    for arm, (metric, least) in claim.gates.items():
        numbers = [value for value in _values(claim, arm, jobs[arm], metric) if value is not None]
        gates.append(Gate(arm, metric, least, float(np.mean(numbers)) if numbers else float("-inf")))
    return gates


def _constant(claim: Claim, values: Values, complete: Sequence[int]) -> bool:
    """Return whether both compared arms have one and the same number for every seed."""
    if claim.criterion.kind == "exact" or claim.compare is None:
        return False
    return len({values[arm][seed] for arm in claim.compare for seed in complete}) == 1


def _saturated(claim: Claim, values: Values, complete: Sequence[int]) -> bool:
    if not claim.bounded_metric or claim.compare is None or not complete:
        return False
    of, against = ([values[arm][seed] for seed in complete] for arm in claim.compare)
    return saturated(np.array(of, dtype=float), np.array(against, dtype=float))
