"""Jobs that a reproduction needs: those that tune the arms, those that count, and what they will cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.claims import Claim
from pilotage.core.errors import UsageError
from pilotage.core.text import duration
from pilotage.experiments.claim_result import metrics_named
from pilotage.experiments.jobs import Job, JobResult, ModuleNames, PlacedJob, function_reference, parse_command, place

FIRST_TUNING_SEED = 1000
MOST_TUNING_SEEDS = 2
MOST_PRIMARY = 3
MOST_CLAIMS = 10
TIE = 1e-9
"""Relative difference of two settings' scores below which they are equal: rounding decides no setting."""
QUICK_SEEDS = 2


@dataclass(frozen=True)
class JobPlan:
    """Rules by which the jobs of a reproduction are made from its claims."""

    modules: ModuleNames
    root: Path | None = None
    tuning_seeds: tuple[int, ...] = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + MOST_TUNING_SEEDS))
    quick_fields: Mapping[str, Any] | None = None
    """Fields of a configuration that a quick pass overrides, where the system has them; None for the real thing."""
    known: Mapping[str, JobResult] = field(default_factory=dict)
    """Results by key that stand in `results/` and are used."""

    @property
    def quick(self) -> bool:
        """Return whether this is a quick pass."""
        return self.quick_fields is not None

    def seeds(self, claim: Claim) -> int:
        """Return the number of seeds of each arm."""
        return min(QUICK_SEEDS, claim.n) if self.quick else claim.n

    def job(self, claim: Claim, arm: str, seed: int, options: str = "") -> PlacedJob:
        """Return the job of an arm and a seed with further `options`, placed."""
        command = f"{claim.arms[arm].command} {options}".strip()
        measure = function_reference(claim.measure) if claim.measure else ""
        command = f"{command} {self._quick_options(command)}".strip()
        placed = place(Job(arm, seed, command, measure, self.quick), self.modules, self.root)
        return replace(placed, known=self.known.get(placed.key))

    def _quick_options(self, command: str) -> str:
        if self.quick_fields is None:
            return ""
        _, config = parse_command(command, self.modules)
        there = {f.name for f in dataclasses.fields(config)}
        return " ".join(f"--{name} {value}" for name, value in self.quick_fields.items() if name in there)


@dataclass(frozen=True)
class Tuning:
    """Options chosen for each arm of a claim, and the record of how."""

    chosen: Mapping[str, str]
    record: Mapping[str, Any]


def check_claims(claims: Sequence[Claim]) -> None:
    """Raise UsageError for claims that break the rules.

    These are: names twice, more than ten claims or three primary ones, arms tuned over different numbers of settings,
    no seeds, arms compared that are none.
    """
    names = [claim.name for claim in claims]
    if len(set(names)) < len(names):
        raise UsageError(f"claims share a name: {', '.join(names)}")
    if len(claims) > MOST_CLAIMS:
        raise UsageError(f"there are {len(claims)} claims; at most {MOST_CLAIMS} may be, the ones that matter most")
    primary = [claim.name for claim in claims if claim.primary]
    if len(primary) > MOST_PRIMARY:
        raise UsageError(f"{len(primary)} claims are primary ({', '.join(primary)}); at most {MOST_PRIMARY} may be")
    for claim in claims:
        sizes = {arm: len(spec.grid) for arm, spec in claim.arms.items()}
        if len(set(sizes.values())) > 1:
            counts = ", ".join(f"{arm}: {size}" for arm, size in sizes.items())
            raise UsageError(f"claim {claim.name!r} tunes its arms over different numbers of settings ({counts})")
        if claim.n < 1:
            raise UsageError(f"claim {claim.name!r} declares {claim.n} seeds; at least one is needed")
        if not 1 <= claim.tuning_seeds <= MOST_TUNING_SEEDS:
            raise UsageError(
                f"claim {claim.name!r} tunes on {claim.tuning_seeds} seeds; expected 1 to {MOST_TUNING_SEEDS}"
            )
        strangers = {*(claim.compare or ()), *claim.gates} - set(claim.arms)
        if strangers:
            raise UsageError(f"claim {claim.name!r} compares or gates {sorted(strangers)}, which are no arms of it")


def tuning_jobs(claim: Claim, plan: JobPlan) -> dict[tuple[str, str, int], PlacedJob]:
    """Return jobs by (arm, setting, seed): every arm over its grid. Empty when there is nothing to choose."""
    if plan.quick:
        return {}
    return {
        (arm, options, seed): plan.job(claim, arm, seed, options)
        for arm, spec in claim.arms.items()
        if len(spec.grid) > 1
        for options in spec.grid
        for seed in plan.tuning_seeds[: claim.tuning_seeds]
    }


def tune(
    claim: Claim, plan: JobPlan, jobs: Mapping[tuple[str, str, int], PlacedJob], done: Mapping[str, JobResult]
) -> Tuning:
    """Choose for each arm the setting with the best mean metric on the tuning seeds, the first of equals.

    A setting that left a seed without a number loses to any that did not. Scores within rounding (`TIE`) are equal.

    Args:
        claim: the claim.
        plan: how its jobs are made.
        jobs: what `tuning_jobs` returned.
        done: their results by key.

    Returns:
        The choice and its record, in which `ties` names the settings that were equal to the chosen one.
    """
    chosen: dict[str, str] = {}
    ties: dict[str, list[str]] = {}
    settings: dict[str, list[dict[str, Any]]] = {}
    name, sign = (claim.tuned_by, 1.0) if claim.tuned_by else metrics_named(claim.metric)[0]
    sign *= 1.0 if claim.higher_is_better or claim.tuned_by else -1.0
    seeds = plan.tuning_seeds[: claim.tuning_seeds]
    for arm, spec in claim.arms.items():
        if len(spec.grid) < 2 or plan.quick:
            chosen[arm] = spec.grid[0] if spec.grid else ""
            continue
        settings[arm] = [
            {
                "options": options,
                "values": [done[jobs[arm, options, seed].key].metrics.get(name) for seed in seeds],
            }
            for options in spec.grid
        ]
        scores = [
            -np.inf if None in setting["values"] else sign * float(np.mean(setting["values"]))
            for setting in settings[arm]
        ]
        best = max(scores)
        equal = [
            options
            for options, score in zip(spec.grid, scores, strict=True)
            if score == best or abs(best - score) <= TIE * abs(best)
        ]
        chosen[arm] = equal[0]
        if len(equal) > 1:
            ties[arm] = equal[1:]
    record: dict[str, Any] = {}
    if any(chosen.values()):
        record = {"metric": name, "seeds": list(seeds) if settings else [], "chosen": chosen}
        record |= {"ties": ties} if ties else {}
        record["settings"] = settings or "the first of each grid, not tuned"
    return Tuning(chosen, record)


def describe_ties(tuning: Tuning) -> str:
    """Return a sentence for each arm whose setting was decided by the order of its grid; empty when there is none."""
    return " ".join(
        f"Tuning of {arm}: {tuning.chosen[arm]} and {', '.join(equal)} gave the same {tuning.record['metric']}; the "
        "first in the grid was taken."
        for arm, equal in tuning.record.get("ties", {}).items()
    )


@dataclass(frozen=True)
class Forecast:
    """Work that still has to be done, and results that are there."""

    seconds: float
    """Processor time of the jobs to run whose cost is known."""
    jobs: int
    """Number of jobs to run."""
    unknown: int
    """Number of jobs to run whose cost is not known."""
    there: Sequence[JobResult]

    def words(self, workers: int) -> str:
        """Return the forecast as text, for `workers` parallel processes."""
        reused = len(self.there)
        if not self.jobs:
            return f"nothing to run: all {reused} jobs are there"
        cost = f"about {duration(self.seconds)} of processor time, {duration(self.seconds / workers)} on {workers} "
        cost += f"worker{'s' if workers > 1 else ''}"
        if self.unknown:
            cost = "cost unknown" if self.unknown == self.jobs else f"{cost}, and {self.unknown} jobs of unknown cost"
        return f"{self.jobs} jobs to run ({reused} are there): {cost}"


def forecast(claims: Sequence[Claim], plan: JobPlan) -> Forecast:
    """Return what the claims will cost, by their stated seconds per job; a job that several need counts once.

    Where tuning has not finished, its choice is not known: the first setting of each grid is assumed.
    """
    seconds: dict[str, float | None] = {}
    there: dict[str, JobResult] = {}
    for claim in claims:
        tuning = tuning_jobs(claim, plan)
        chosen = _chosen(claim, plan, tuning) or {
            arm: spec.grid[0] if spec.grid else "" for arm, spec in claim.arms.items()
        }
        for placed in [*tuning.values(), *counted_jobs(claim, plan, chosen)]:
            result = placed.result()
            if result is not None:
                there[placed.key] = result
            else:
                costs = [cost for cost in (claim.cost, seconds.get(placed.key)) if cost is not None]
                seconds[placed.key] = max(costs, default=None)
    known = [cost for cost in seconds.values() if cost is not None]
    return Forecast(sum(known), len(seconds), len(seconds) - len(known), list(there.values()))


def finished_jobs(claim: Claim, plan: JobPlan) -> list[PlacedJob] | None:
    """Return all jobs of a claim, those that tune it and those of the chosen settings; None when one is missing."""
    tuning = tuning_jobs(claim, plan)
    chosen = _chosen(claim, plan, tuning)
    if chosen is None:
        return None
    jobs = [*tuning.values(), *counted_jobs(claim, plan, chosen)]
    return jobs if all(placed.result() is not None for placed in jobs) else None


def counted_jobs(claim: Claim, plan: JobPlan, chosen: Mapping[str, str]) -> list[PlacedJob]:
    """Return the jobs of a claim that count, at the chosen settings: by arm, then by seed."""
    return [plan.job(claim, arm, seed, chosen[arm]) for arm in claim.arms for seed in range(plan.seeds(claim))]


def _chosen(claim: Claim, plan: JobPlan, tuning: Mapping[tuple[str, str, int], PlacedJob]) -> Mapping[str, str] | None:
    """Return what tuning chose for each arm; None where it has not finished."""
    done = {placed.key: placed.result() for placed in tuning.values()}
    finished = {key: result for key, result in done.items() if result is not None}
    return tune(claim, plan, tuning, finished).chosen if len(finished) == len(done) else None
