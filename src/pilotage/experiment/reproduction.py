"""The claims of a system, measured again: plan, forecast, tune, run, judge, write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage.experiment.cells import Outcome, PlacedCell, Wiring, write_json
from pilotage.experiment.comparison import finite
from pilotage.experiment.measured import Measured, judge_claim
from pilotage.experiment.planning import (
    Plan,
    Tuning,
    check_claims,
    committed_outcomes,
    forecast,
    tune,
    tuning_cells,
)
from pilotage.experiment.surroundings import artifacts_used, missing_extras, now, surroundings
from pilotage.experiment.workers import CellEvent, run_cells, worker_count
from pilotage.report.plots import claim_plot
from pilotage.system import Claim, UsageError

FORMAT = 1
BUDGET_MINUTES = 45.0
QUICK_FIELDS: Mapping[str, Any] = {"steps": 3}


def reproduce(
    system: str,
    claims: Sequence[Claim],
    *,
    output: Path = Path("reproductions"),
    long: bool = False,
    quick: bool = False,
    quick_fields: Mapping[str, Any] = QUICK_FIELDS,
    budget_minutes: float = BUDGET_MINUTES,
    workers: int | None = None,
    root: Path | None = None,
    wiring: Wiring | None = None,
    command: str = "",
    say: Callable[[str], None] = print,
    on_event: Callable[[CellEvent], None] = lambda event: None,
) -> dict[str, Any]:
    """Measure the claims of `system` and write `NAME.json`, `NAME/cells/*.json` and `NAME/*.svg` into `output`.

    Args:
        system: name of the system.
        claims: what its paper promises.
        output: the folder of reproductions.
        long: whether claims of the long tier run, too.
        quick: two units and a few steps, to see that everything works: the files are called `NAME.quick…`, and what was
            committed stays as it is.
        quick_fields: fields of a configuration that a quick pass overrides, where a system has them.
        budget_minutes: processor minutes that the forecast may not exceed.
        workers: parallel processes of one thread each; one per core by default.
        root: where cells are kept; `$PILOTAGE_HOME` by default.
        wiring: where systems and runs come from.
        command: the command line that asked for this, for the record.
        say: shows a line (forecast, verdicts).
        on_event: called when a cell is reused, starts or finishes.

    Returns:
        The document that was written.

    Raises:
        UsageError: for claims that break the rules, or a forecast over budget; before anything runs.
        CellFailed: when a worker fails; finished cells stay.
    """
    check_claims(claims)
    place = _Place(system, output, quick)
    plan = Plan(
        wiring or Wiring(),
        root,
        quick_fields=quick_fields if quick else None,
        committed=committed_outcomes(sorted(place.cells.glob("*.json"))),
    )
    skipped = {claim.name: _reason_to_skip(claim, long) for claim in claims}
    measured_claims = [claim for claim in claims if not skipped[claim.name]]
    expected = forecast(measured_claims, plan)
    say(f"{system}: {len(measured_claims)} of {len(claims)} claims; " + expected.words(worker_count(workers, 10**6)))
    if expected.seconds > budget_minutes * 60:
        raise UsageError(
            f"the forecast of {expected.seconds / 60:.0f} processor minutes is over the budget of {budget_minutes:g}; "
            f"give --budget {expected.seconds / 60 + 1:.0f} to run it all the same"
        )
    run = _Runner(plan, workers, on_event, place)
    tunings = run.tune(measured_claims)
    entries = run.measure(measured_claims, tunings)
    document = {
        "format": FORMAT,
        "system": system,
        "created": now(),
        "command": command or f"pilotage reproduce {system}{' --quick' * quick}{' --long' * long}",
        **surroundings(plan.wiring),
        "seconds": round(sum(outcome.seconds for outcome in run.outcomes.values()), 1),
        "artifacts": artifacts_used(o.directory for o in run.outcomes.values() if o.directory is not None),
        "claims": [entries.get(c.name) or _not_measured(c, skipped[c.name]) for c in claims],
    }
    if quick:
        document["quick"] = True
    write_json(place.document, document)
    for entry in document["claims"]:
        if entry["arms"]:
            claim_plot(entry, place.folder / f"{_slug(entry['name'])}.svg", quick=quick)
        say(f"  {entry['name']}: {entry['verdict']}" + (f": {entry['note']}" if entry["note"] else ""))
    return document


@dataclass(frozen=True)
class _Place:
    """Where a reproduction is written. A quick one has names of its own, so that it never overwrites a real one."""

    system: str
    output: Path
    quick: bool

    @property
    def stem(self) -> str:
        return f"{self.system}.quick" if self.quick else self.system

    @property
    def document(self) -> Path:
        return self.output / f"{self.stem}.json"

    @property
    def folder(self) -> Path:
        return self.output / self.stem

    @property
    def cells(self) -> Path:
        return self.folder / "cells"


class _Runner:
    """Runs the cells of several claims together, so that no worker waits for the end of one claim."""

    def __init__(
        self, plan: Plan, workers: int | None, on_event: Callable[[CellEvent], None], place: _Place
    ) -> None:
        self.plan, self.workers, self.on_event, self.place = plan, workers, on_event, place
        self.outcomes: dict[str, Outcome] = {}

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
                    self.plan.cell(claim, arm, unit, tunings[claim.name].chosen[arm])
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

    def _run(self, cells: Sequence[PlacedCell], names: Mapping[str, str]) -> None:
        def keep(event: CellEvent) -> None:
            if event.kind != "started":
                self._commit(event.placed, names[event.placed.key])
            self.on_event(event)

        self.outcomes.update(run_cells(cells, self.workers, keep))

    def _commit(self, placed: PlacedCell, name: str) -> None:
        """Write the small file of a finished cell, at once, so that a kill loses nothing."""
        outcome = placed.outcome()
        path = self.place.cells / f"{_slug(name)}.json"
        if outcome is None or (path.exists() and placed.known is not None):
            return
        cell = placed.cell
        about = {"key": placed.key, "arm": cell.arm, "unit": cell.unit, "command": cell.command}
        write_json(
            path,
            {**about, "measure": cell.measure, "seconds": outcome.seconds, "metrics": dict(outcome.metrics)},
        )


def _reason_to_skip(claim: Claim, long: bool) -> str:
    if claim.tier == "long" and not long:
        return "long tier; run with --long"
    missing = missing_extras(claim.needs)
    if missing:
        return f"needs {', '.join(missing)}: pip install 'pilotage[{','.join(missing)}]'"
    return ""


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


def _entry(claim: Claim, measured: Measured, tuning: Tuning) -> dict[str, Any]:
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
