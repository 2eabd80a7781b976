"""Which cells a reproduction needs: those that tune the arms, those that count, and what they will cost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.claims import Claim
from pilotage.core.errors import UsageError
from pilotage.experiments.claim_result import metrics_named
from pilotage.experiments.jobs import Job, JobResult, PlacedJob, Wiring, function_reference, parse_command, place

FIRST_TUNING_SEED = 1000
MOST_TUNING_SEEDS = 2
MOST_PRIMARY = 3


@dataclass(frozen=True)
class JobPlan:
    """How the cells of a reproduction are made."""

    wiring: Wiring
    root: Path | None = None
    tuning_seeds: tuple[int, ...] = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + MOST_TUNING_SEEDS))
    quick_fields: Mapping[str, Any] | None = None
    """Fields of a configuration that a quick pass overrides, where the system has them; None for the real thing."""
    committed: Mapping[str, JobResult] = field(default_factory=dict)
    """Outcomes by key that were committed beside an earlier reproduction."""

    @property
    def quick(self) -> bool:
        return self.quick_fields is not None

    def units(self, claim: Claim) -> int:
        return min(2, claim.n) if self.quick else claim.n

    def job(self, claim: Claim, arm: str, unit: int, options: str = "") -> PlacedJob:
        """The cell of an arm and a unit with further `options`, placed."""
        command = f"{claim.arms[arm].command} {options}".strip()
        measure = function_reference(claim.measure) if claim.measure else ""
        command = f"{command} {self._quick_options(command)}".strip()
        placed = place(Job(arm, unit, command, measure, self.quick), self.wiring, self.root)
        return replace(placed, known=self.committed.get(placed.key))

    def _quick_options(self, command: str) -> str:
        if self.quick_fields is None:
            return ""
        _, config = parse_command(command, self.wiring)
        there = {f.name for f in dataclasses.fields(config)}
        return " ".join(f"--{name} {value}" for name, value in self.quick_fields.items() if name in there)


@dataclass(frozen=True)
class Tuning:
    """The options chosen for each arm of a claim, and the record of how."""

    chosen: Mapping[str, str]
    record: Mapping[str, Any]


def check_claims(claims: Sequence[Claim]) -> None:
    """Raises UsageError for claims that break the rules: names twice, more than three primary ones, arms tuned over
    different numbers of settings, no units."""
    names = [claim.name for claim in claims]
    if len(set(names)) < len(names):
        raise UsageError(f"claims share a name: {', '.join(names)}")
    primary = [claim.name for claim in claims if claim.primary]
    if len(primary) > MOST_PRIMARY:
        raise UsageError(f"{len(primary)} claims are primary ({', '.join(primary)}); at most {MOST_PRIMARY} may be")
    for claim in claims:
        sizes = {arm: len(spec.grid) for arm, spec in claim.arms.items()}
        if len(set(sizes.values())) > 1:
            counts = ", ".join(f"{arm}: {size}" for arm, size in sizes.items())
            raise UsageError(f"claim {claim.name!r} tunes its arms over different numbers of settings ({counts})")
        if claim.n < 1:
            raise UsageError(f"claim {claim.name!r} declares {claim.n} units; at least one is needed")
        if not 1 <= claim.tuning_seeds <= MOST_TUNING_SEEDS:
            raise UsageError(
                f"claim {claim.name!r} tunes on {claim.tuning_seeds} seeds; expected 1 to {MOST_TUNING_SEEDS}"
            )
        strangers = {*(claim.compare or ()), *claim.gates} - set(claim.arms)
        if strangers:
            raise UsageError(f"claim {claim.name!r} compares or gates {sorted(strangers)}, which are no arms of it")


def tuning_cells(claim: Claim, plan: JobPlan) -> dict[tuple[str, str, int], PlacedJob]:
    """Cells by (arm, setting, seed): every arm over its grid. Empty when there is nothing to choose."""
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
    claim: Claim, plan: JobPlan, cells: Mapping[tuple[str, str, int], PlacedJob], done: Mapping[str, JobResult]
) -> Tuning:
    """Choose for each arm the setting with the best mean metric on the tuning seeds (the first of equals).

    A setting that left a seed without a number loses to any that did not."""
    chosen: dict[str, str] = {}
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
                "values": [done[cells[arm, options, seed].key].metrics.get(name) for seed in seeds],
            }
            for options in spec.grid
        ]
        scores = [
            -np.inf if None in setting["values"] else sign * float(np.mean(setting["values"]))
            for setting in settings[arm]
        ]
        chosen[arm] = spec.grid[int(np.argmax(scores))]
    record: dict[str, Any] = {}
    if any(chosen.values()):
        record = {"metric": name, "seeds": list(seeds) if settings else [], "chosen": chosen}
        record["settings"] = settings or "the first of each grid, not tuned"
    return Tuning(chosen, record)


@dataclass(frozen=True)
class Forecast:
    """Processor seconds of what still has to run, and the number of cells."""

    seconds: float
    cells: int
    reused: int

    def words(self, workers: int) -> str:
        if not self.cells:
            return f"nothing to run: all {self.reused} cells are there"
        wall = self.seconds / workers
        return (
            f"{self.cells} cells to run ({self.reused} are there): about {_minutes(self.seconds)} of processor time, "
            f"{_minutes(wall)} on {workers} worker{'s' if workers > 1 else ''}"
        )


def forecast(claims: Sequence[Claim], plan: JobPlan) -> Forecast:
    """What the claims will cost, by their stated seconds per cell; a cell that several need counts once.

    Where tuning has not finished, its choice is not known: the first setting of each grid is foretold."""
    seconds: dict[str, float] = {}
    there: set[str] = set()
    for claim in claims:
        tuning = tuning_cells(claim, plan)
        chosen = _chosen(claim, plan, tuning) or {
            arm: spec.grid[0] if spec.grid else "" for arm, spec in claim.arms.items()
        }
        for placed in [*tuning.values(), *_counted(claim, plan, chosen)]:
            if placed.outcome() is not None:
                there.add(placed.key)
            else:
                seconds[placed.key] = max(claim.cost or 0.0, seconds.get(placed.key, 0.0))
    return Forecast(sum(seconds.values()), len(seconds), len(there))


def is_there(claim: Claim, plan: JobPlan) -> bool:
    """Whether every cell of a claim has finished: those that tune it, and those of the settings they chose."""
    chosen = _chosen(claim, plan, tuning_cells(claim, plan))
    return chosen is not None and all(cell.outcome() is not None for cell in _counted(claim, plan, chosen))


def _chosen(claim: Claim, plan: JobPlan, tuning: Mapping[tuple[str, str, int], PlacedJob]) -> Mapping[str, str] | None:
    """What tuning chose for each arm; None where it has not finished."""
    done = {placed.key: placed.outcome() for placed in tuning.values()}
    finished = {key: outcome for key, outcome in done.items() if outcome is not None}
    return tune(claim, plan, tuning, finished).chosen if len(finished) == len(done) else None


def _counted(claim: Claim, plan: JobPlan, chosen: Mapping[str, str]) -> list[PlacedJob]:
    """The cells of a claim that count, at the chosen settings."""
    return [plan.job(claim, arm, unit, chosen[arm]) for arm in claim.arms for unit in range(plan.units(claim))]


def committed_outcomes(files: Iterable[Path]) -> dict[str, JobResult]:
    """Outcomes by key from the small files of an earlier reproduction."""
    outcomes = {}
    for path in files:
        stored = json.loads(path.read_text())
        outcomes[stored["key"]] = JobResult(
            stored["metrics"], stored["seconds"], None, stored["key"], stored["artifacts"]
        )
    return outcomes


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
