"""The claims of a system, measured again: plan, forecast, tune, run, judge, write."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage.charts.plots import claim_plot
from pilotage.core.claims import Claim
from pilotage.core.errors import UsageError
from pilotage.experiments.claim_result import ClaimResult, judge_claim
from pilotage.experiments.comparison import finite
from pilotage.experiments.jobs import JobResult, PlacedJob, Wiring, write_json
from pilotage.experiments.planning import (
    JobPlan,
    Tuning,
    check_claims,
    committed_outcomes,
    forecast,
    is_there,
    tune,
    tuning_cells,
)
from pilotage.experiments.pool import Display, JobEvent, run_jobs, worker_count
from pilotage.experiments.provenance import missing_extras, now, provenance

FORMAT = 1
BUDGET_MINUTES = 45.0
QUICK_FIELDS: Mapping[str, Any] = {"steps": 3, "evaluation_prompts": 8, "evaluation_samples": 1}


def reproduce(
    system: str,
    claims: Sequence[Claim] | None = None,
    *,
    out: Path = Path("reproductions"),
    long: bool = False,
    quick: bool = False,
    only: str | None = None,
    quick_fields: Mapping[str, Any] = QUICK_FIELDS,
    budget: float | None = None,
    workers: int | None = None,
    root: Path | None = None,
    wiring: Wiring | None = None,
    command: str = "",
    say: Callable[[str], None] = print,
    on_event: Callable[[JobEvent], None] | None = None,
) -> Path:
    """Measure the claims of `system` and write `NAME.json`, `NAME/cells/*.json` and `NAME/*.svg` into `out`.

    Args:
        system: name of the system.
        claims: what its paper promises; by default what the catalogue finds for it.
        out: the folder of reproductions.
        long: whether claims of the long tier run, too.
        quick: two units and a few steps, to see that everything works: the files are called `NAME.quick…`, and what was
            committed stays as it is.
        only: name of the one claim to run. Others are judged all the same where all their cells are there.
        quick_fields: fields of a configuration that a quick pass overrides, where a system has them.
        budget: processor minutes that the forecast may not exceed; 45 by default.
        workers: parallel processes of one thread each; one per core by default.
        root: where cells are kept; `$PILOTAGE_HOME` by default.
        wiring: where systems and runs come from.
        command: the command line that asked for this, for the record.
        say: shows a line (forecast, verdicts).
        on_event: called when a cell is reused, starts or finishes; a line of progress by default.

    Returns:
        The path of the document.

    Raises:
        UsageError: for claims that break the rules, or a forecast over budget; before anything runs.
        JobFailed: when a worker fails; finished cells stay.
    """
    wiring = wiring or Wiring()
    if claims is None:
        claims = importlib.import_module(wiring.catalogue).find_claims(system)
    check_claims(claims)
    if only is not None and only not in [claim.name for claim in claims]:
        raise UsageError(f"{system} has no claim {only!r}; there are {', '.join(claim.name for claim in claims)}")
    place = _Place(system, out, quick)
    committed = committed_outcomes(sorted(place.cells.glob("*.json")))
    plan = JobPlan(wiring, root, quick_fields=quick_fields if quick else None, committed=committed)
    skipped = {claim.name: _reason_to_skip(claim, long, only, plan) for claim in claims}
    todo = [claim for claim in claims if not skipped[claim.name]]
    _check_budget(system, todo, len(claims), plan, BUDGET_MINUTES if budget is None else budget, workers, say)
    display = Display(f"reproduce {system}")
    run = _Runner(plan, workers, on_event or display, place)
    try:
        entries = run.measure(todo, run.tune(todo))
    finally:
        display.close()
    flags = {"--quick": quick, "--long": long, f"--only {only}": only is not None}
    document = {
        "format": FORMAT,
        "system": system,
        "created": now(),
        "command": command or " ".join(["pilotage reproduce", system, *(flag for flag, on in flags.items() if on)]),
        **provenance(wiring),
        "seconds": round(sum(outcome.seconds for outcome in run.outcomes.values()), 1),
        "artifacts": _artifacts(run.outcomes.values()),
        "claims": [entries.get(claim.name) or _not_measured(claim, skipped[claim.name]) for claim in claims],
        **({"quick": True} if quick else {}),
    }
    write_json(place.document, document)
    for entry in document["claims"]:
        if entry["arms"]:
            claim_plot(entry, place.folder / f"{_slug(entry['name'])}.svg", quick=quick)
        say(f"  {entry['name']}: {entry['verdict']}" + (f" ({entry['note']})" if entry["note"] else ""))
    return place.document


def _check_budget(
    system: str,
    todo: Sequence[Claim],
    of: int,
    plan: JobPlan,
    budget: float,
    workers: int | None,
    say: Callable[[str], None],
) -> None:
    expected = forecast(todo, plan)
    processes = worker_count(workers, max(1, expected.cells))
    say(f"{system}: {len(todo)} of {of} claims; {expected.words(processes)}")
    if expected.seconds > budget * 60:
        raise UsageError(
            f"the forecast of {expected.seconds / 60:.0f} processor minutes is over the budget of {budget:g}; "
            f"give --budget {expected.seconds / 60 + 1:.0f} to run it all the same"
        )


@dataclass(frozen=True)
class _Place:
    """Where a reproduction is written. A quick one has names of its own, so that it never overwrites a real one."""

    system: str
    out: Path
    quick: bool

    @property
    def stem(self) -> str:
        return f"{self.system}.quick" if self.quick else self.system

    @property
    def document(self) -> Path:
        return self.out / f"{self.stem}.json"

    @property
    def folder(self) -> Path:
        return self.out / self.stem

    @property
    def cells(self) -> Path:
        return self.folder / "cells"


class _Runner:
    """Runs the cells of several claims together, so that no worker waits for the end of one claim."""

    def __init__(self, plan: JobPlan, workers: int | None, on_event: Callable[[JobEvent], None], place: _Place) -> None:
        self.plan, self.workers, self.on_event, self.place = plan, workers, on_event, place
        self.outcomes: dict[str, JobResult] = {}

    def tune(self, claims: Sequence[Claim]) -> dict[str, Tuning]:
        cells = {claim.name: tuning_cells(claim, self.plan) for claim in claims}
        names = {
            placed.key: f"{claim}.{arm}.tuning-{placed.key[:8]}.{seed}"
            for claim, needed in cells.items()
            for (arm, _, seed), placed in needed.items()
        }
        self._run([placed for needed in cells.values() for placed in needed.values()], names)
        return {claim.name: tune(claim, self.plan, cells[claim.name], self.outcomes) for claim in claims}

    def measure(self, claims: Sequence[Claim], tunings: Mapping[str, Tuning]) -> dict[str, dict[str, Any]]:
        cells = {
            claim.name: {
                arm: [
                    self.plan.job(claim, arm, unit, tunings[claim.name].chosen[arm])
                    for unit in range(self.plan.units(claim))
                ]
                for arm in claim.arms
            }
            for claim in claims
        }
        names = {
            placed.key: f"{claim}.{arm}.{placed.cell.unit}"
            for claim, arms in cells.items()
            for arm, needed in arms.items()
            for placed in needed
        }
        self._run([placed for arms in cells.values() for needed in arms.values() for placed in needed], names)
        entries = {}
        for claim in claims:
            numbers = {
                arm: [self.outcomes[placed.key].metrics for placed in needed]
                for arm, needed in cells[claim.name].items()
            }
            entries[claim.name] = _entry(claim, judge_claim(claim, numbers), tunings[claim.name])
        return entries

    def _run(self, cells: Sequence[PlacedJob], names: Mapping[str, str]) -> None:
        def keep(event: JobEvent) -> None:
            if event.kind != "started":
                self._commit(event.placed, names[event.placed.key])
            self.on_event(event)

        self.outcomes.update(run_jobs(cells, self.workers, keep))

    def _commit(self, placed: PlacedJob, name: str) -> None:
        """Write the small file of a finished cell, at once, so that a kill loses nothing."""
        outcome = placed.outcome()
        path = self.place.cells / f"{_slug(name)}.json"
        if outcome is None or (path.exists() and placed.known is not None):
            return
        cell = placed.cell
        about = {"key": placed.key, "arm": cell.arm, "unit": cell.unit, "command": cell.command}
        write_json(
            path,
            {
                **about,
                "measure": cell.measure,
                "seconds": outcome.seconds,
                "metrics": dict(outcome.metrics),
                "artifacts": dict(outcome.artifacts),
            },
        )


def _artifacts(outcomes: Iterable[JobResult]) -> list[dict[str, Any]]:
    """Every artifact that an outcome used, once; two of one name differ in what made them."""
    found = {used["key"]: {"name": name, **used} for outcome in outcomes for name, used in outcome.artifacts.items()}
    return sorted(found.values(), key=lambda used: (used["name"], used["key"]))


def _reason_to_skip(claim: Claim, long: bool, only: str | None, plan: JobPlan) -> str:
    """Why a claim is not run; empty when it is, or when it costs nothing because all its cells are there."""
    if claim.unmeasured:
        return claim.unmeasured
    missing = missing_extras(claim.needs)
    if missing:
        return f"needs {', '.join(missing)}: pip install 'pilotage[{','.join(missing)}]'"
    unasked = f"only {only} was asked for" if only not in (None, claim.name) else ""
    if not unasked and claim.tier == "long" and not long and only != claim.name:
        unasked = "long tier; run with --long"
    return "" if not unasked or is_there(claim, plan) else unasked


def _fixed(claim: Claim) -> dict[str, Any]:
    """What was fixed before the first unit ran."""
    return {
        "name": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "primary": claim.primary,
        "tier": claim.tier,
        "kind": claim.criterion.kind,
        "margin": claim.criterion.margin,
        "unit": claim.unit,
        "n": claim.n,
        "metric": claim.metric,
    }


def _entry(claim: Claim, measured: ClaimResult, tuning: Tuning) -> dict[str, Any]:
    judgement = measured.judgement
    return {
        **_fixed(claim),
        "arms": {arm: list(values) for arm, values in measured.values.items()},
        "comparison": {
            "of": measured.of,
            "against": measured.against,
            "difference": finite(judgement.mean),
            "interval": [finite(judgement.low), finite(judgement.high)],
        },
        "gates": {arm: {"metric": metric, "least": least} for arm, (metric, least) in claim.gates.items()},
        "tuning": dict(tuning.record),
        "verdict": judgement.verdict,
        "note": " ".join(filter(None, [judgement.reason + ".", claim.note])),
    }


def _not_measured(claim: Claim, reason: str) -> dict[str, Any]:
    return {
        **_fixed(claim),
        "arms": {},
        "comparison": None,
        "gates": {arm: {"metric": metric, "least": least} for arm, (metric, least) in claim.gates.items()},
        "tuning": {},
        "verdict": f"not measured ({reason})",
        "note": claim.note,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-")
