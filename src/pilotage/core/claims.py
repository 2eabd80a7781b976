"""What a paper promises, as experiments: claims, their arms and their criteria. No torch here.

The `claims.py` of a system ends in `CLAIMS = [Claim(...), ...]`: at most ten, of which at most three are primary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

CriterionKind = Literal["better", "not_worse", "same", "rare", "trend", "rank", "frontier", "exact"]
Verdict = Literal["holds", "does not hold", "undecided", "not measured"]


@dataclass(frozen=True)
class Criterion:
    """Rule by which a claim holds, fixed before the first job runs.

    `margin` is δ of better, trend and rank, m of not_worse, same and frontier, p of rare.
    """

    kind: CriterionKind
    margin: float = 0.0


@dataclass(frozen=True)
class Events:
    """Condition on the number of seeds in which something happens, such as a collapse.

    A claim about stability needs it beside its condition on the mean: a collapse in one of ten trainings is likely
    not seen in five, and the mean of those five then shows a gain that is none.
    """

    metric: str
    """The number of a job that tells it."""
    above: float = 0.0
    """It happens in a seed whose number is above this."""
    most: float | None = None
    """Largest share of the first arm's seeds in which it may happen, reached by the upper end of the exact 95 %
    interval (none of 5 seeds gives .52). None: it happens in fewer seeds than in the second arm, by the exact one-sided
    test of paired seeds at 5 % (which 5 of 5 against 0 of 5 passes)."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a command line without the program's name, such as `"grpo --lr 1e-4"`.

    `grid` lists further options, one string per tuning setting (`"--lr 3e-4"`); each arm of a claim has as many.
    """

    command: str
    grid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A promise of a paper, stated as an experiment that is repeated over seeds.

    Every arm and seed is one job, which gives a dictionary of numbers: that of `measure(arm, seed, context)` when it is
    given, otherwise the metrics of the arm's training with that seed. `metric` names the number that is compared.
    """

    name: str
    statement: str
    source: str
    """Section, table or figure of the paper that promises it."""
    arms: Mapping[str, Arm]
    metric: str
    criterion: Criterion
    compare: tuple[str, str] | None = None
    """(of, against): the paired difference `of - against` in the paper's direction. None for rare and exact."""
    higher_is_better: bool = True
    unit: str = "training seed"
    """What one seed draws, where that is not a training: "scene", "city", "planted series"."""
    n: int = 5
    """Number of seeds, 0 to n − 1."""
    primary: bool = False
    tier: Literal["core", "long"] = "core"
    """"long" for claims that take hours: they run only with `--long`."""
    measure: Callable[..., Mapping[str, float]] | None = None
    gates: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Arm name to (metric, least mean value): a baseline below its gate leaves the claim undecided."""
    needs: tuple[str, ...] = ()
    """Extras of this package that its jobs import."""
    cost: float | None = None
    """CPU-seconds of one job, as estimated; None when unknown."""
    bounded_metric: bool = False
    """Whether the metric is a rate: both arms ≥ .97 or ≤ .03 leave the claim undecided."""
    note: str = ""
    events: Events | None = None
    """Further condition on the number of seeds in which something happens: for claims of stability or collapse."""
    tuned_by: str = ""
    """The metric, of the same jobs and better when higher, by which each arm's setting is chosen; empty: `metric`."""
    tuning_seeds: int = 1
    """Number of seeds, from 1000 on, on which each setting is tried."""


def better(
    name: str, statement: str, source: str, arms: Mapping[str, Arm], metric: str, margin: float = 0.0, **fields: Any
) -> Claim:
    """Return the claim that the first of `arms` is better than the second, on average by at least `margin`.

    Args:
        name: short name, unique within the system.
        statement: what is promised, as a sentence.
        source: section, table or figure of the paper.
        arms: name to arm; the first is compared with the second, further ones are measured beside them.
        metric: the number that is compared.
        margin: least mean difference, in the metric's unit.
        fields: further fields of `Claim`.
    """
    return _paired(name, statement, source, arms, metric, Criterion("better", margin), fields)


def not_worse(
    name: str, statement: str, source: str, arms: Mapping[str, Arm], metric: str, margin: float, **fields: Any
) -> Claim:
    """Return the claim that the first of `arms` is worse than the second by less than `margin`; see `better`."""
    return _paired(name, statement, source, arms, metric, Criterion("not_worse", margin), fields)


def steadier(
    name: str,
    statement: str,
    source: str,
    arms: Mapping[str, Arm],
    metric: str,
    events: Events,
    margin: float = 0.0,
    **fields: Any,
) -> Claim:
    """Return the claim that the first of `arms` is better than the second and that `events` are rare or rarer in it.

    Args:
        name: short name, unique within the system.
        statement: what is promised about stability or collapse, as a sentence.
        source: section, table or figure of the paper.
        arms: name to arm; the first is compared with the second.
        metric: the number whose mean is compared.
        events: what may happen in few seeds only.
        margin: least mean difference, in the metric's unit.
        fields: further fields of `Claim`.
    """
    return better(name, statement, source, arms, metric, margin, events=events, **fields)


def ablation(
    name: str, statement: str, source: str, arm: Arm, without: str, metric: str, margin: float = 0.0, **fields: Any
) -> Claim:
    """Return the claim that `arm` is better as published than with the options `without`, which take a part away.

    Args:
        name: short name, unique within the system.
        statement: what is promised, as a sentence.
        source: section, table or figure of the paper.
        arm: the system as published.
        without: options that are added to the arm's command, such as `"--weights none"`.
        metric: the number that is compared.
        margin: least mean difference, in the metric's unit.
        fields: further fields of `Claim`.
    """
    arms = {"published": arm, without: Arm(f"{arm.command} {without}", arm.grid)}
    return better(name, statement, source, arms, metric, margin, **fields)


def _paired(
    name: str,
    statement: str,
    source: str,
    arms: Mapping[str, Arm],
    metric: str,
    criterion: Criterion,
    fields: Mapping[str, Any],
) -> Claim:
    of, against = islice(arms, 2)
    return Claim(name, statement, source, arms, metric, criterion, compare=(of, against), **fields)
