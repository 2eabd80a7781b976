"""The claims of a system, measured: plan, forecast, tune, run, decide, write; and an audit of what was measured."""

from __future__ import annotations

import importlib
import math
import random
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pilotage.core.claims import Claim
from pilotage.core.errors import UsageError
from pilotage.core.paths import home
from pilotage.core.registry import RESULTS_FORMAT
from pilotage.core.text import number
from pilotage.experiments.claim_result import ClaimResult, judge_claim
from pilotage.experiments.comparison import finite
from pilotage.experiments.jobs import JobResult, ModuleNames, PlacedJob
from pilotage.experiments.planning import (
    JobPlan,
    Tuning,
    check_claims,
    counted_jobs,
    describe_ties,
    finished_jobs,
    forecast,
    tune,
    tuning_jobs,
)
from pilotage.experiments.pool import Display, JobEvent, run_jobs, worker_count
from pilotage.experiments.provenance import (
    describe_commit,
    describe_sources,
    missing_extras,
    now,
    provenance,
    sources,
)
from pilotage.experiments.store import ResultStore

BUDGET_MINUTES = 25.0
QUICK_FIELDS: Mapping[str, Any] = {"steps": 3, "evaluation_prompts": 8, "evaluation_samples": 1}
AUDIT_TOLERANCE = 0.05
"""Relative difference that an audit allows where processor or torch are others than those of the stored job."""
_CLOCK = re.compile(r"second|(^|[_/ ])ms($|[_/ ])|(^|[_/ ])(time|speed|rate_of)")
"""Names of metrics that are readings of a clock, which no audit compares."""


def reproduce(
    system: str,
    claims: Sequence[Claim] | None = None,
    *,
    out: Path = Path("results"),
    long: bool = False,
    quick: bool = False,
    fresh: bool = False,
    only: str | None = None,
    quick_fields: Mapping[str, Any] = QUICK_FIELDS,
    budget: float | None = None,
    workers: int | None = None,
    root: Path | None = None,
    modules: ModuleNames | None = None,
    say: Callable[[str], None] = print,
    on_event: Callable[[JobEvent], None] | None = None,
) -> Path:
    """Measure the claims of `system` and write `NAME.json` (verdicts) and `NAME.jsonl` (finished jobs) into `out`.

    Jobs that are there already, from whatever commit, are used and reported; only the missing ones run.

    Args:
        system: name of the system.
        claims: what its paper promises; by default what the catalogue finds for it.
        out: the folder of results.
        long: whether claims of the long tier run, too.
        quick: two seeds and a few steps, to see that everything works: the files are called `NAME.quick…`.
        fresh: whether jobs made by another commit than the present one run again.
        only: name of the one claim to run. Others are decided all the same where all their jobs are there.
        quick_fields: fields of a configuration that a quick pass overrides, where a system has them.
        budget: processor minutes that the forecast may not exceed; 25 by default.
        workers: parallel processes of one thread each; one per core by default.
        root: where jobs run and are kept; `$PILOTAGE_HOME` by default.
        modules: where systems and runs come from.
        say: shows a line (forecast, verdicts).
        on_event: called when a job is reused, starts or finishes; a line of progress by default.

    Returns:
        The path of the document.

    Raises:
        UsageError: for claims that break the rules, or a forecast over budget; before anything runs.
        JobFailed: when a worker fails; finished jobs stay.
    """
    modules = modules or ModuleNames()
    claims = _claims_of(system, claims, modules)
    if only is not None and only not in [claim.name for claim in claims]:
        raise UsageError(f"{system} has no claim {only!r}; there are {', '.join(claim.name for claim in claims)}")
    store = ResultStore(out, system, quick)
    known = store.results()
    if fresh:
        commit = provenance(modules)["commit"]
        is_clean = commit is not None and not commit.endswith("-dirty")
        known = {key: result for key, result in known.items() if is_clean and result.made["commit"] == commit}
        root = (root or home()) / "fresh" / (commit if is_clean else now())
    plan = JobPlan(modules, root, quick_fields=quick_fields if quick else None, known=known)
    skipped = {claim.name: _reason_to_skip(claim, long, only, plan) for claim in claims}
    todo = [claim for claim in claims if not skipped[claim.name]]
    _announce(system, todo, len(claims), plan, BUDGET_MINUTES if budget is None else budget, workers, say)
    display = Display(f"reproduce {system}")
    runner = _Runner(plan, workers, on_event or display, store)
    try:
        entries = runner.measure(todo, runner.tune(todo))
    finally:
        display.close()
    document: dict[str, Any] = {
        "format": RESULTS_FORMAT,
        "system": system,
        **({"quick": True} if quick else {}),
        "made": sources(runner.results.values()),
        "seconds": round(sum(result.seconds for result in runner.results.values()), 1),
        "artifacts": _artifacts(runner.results.values()),
        "claims": [entries.get(claim.name) or _not_measured(claim, skipped[claim.name]) for claim in claims],
    }
    store.write(document)
    for entry in document["claims"]:
        say(f"  {entry['name']}: {entry['verdict']}" + (f" ({entry['note']})" if entry["note"] else ""))
    if quick:
        say("A quick pass (two seeds, a few steps): it shows that everything runs; its verdicts mean nothing.")
    return store.document


def audit(
    system: str,
    count: int,
    claims: Sequence[Claim] | None = None,
    *,
    out: Path = Path("results"),
    workers: int | None = None,
    root: Path | None = None,
    modules: ModuleNames | None = None,
    say: Callable[[str], None] = print,
    on_event: Callable[[JobEvent], None] | None = None,
) -> bool:
    """Run some of a system's stored jobs again, from nothing, and say whether their numbers come out again.

    On the same kind of processor with the same torch they must, bit for bit; elsewhere within `AUDIT_TOLERANCE`.
    Readings of a clock are not compared. The choice of jobs is random and the same whenever the commit is.

    Args:
        system: name of the system.
        count: number of jobs.
        claims, out, workers, root, modules, say, on_event: as for `reproduce`.

    Returns:
        Whether all numbers came out again.

    Raises:
        UsageError: when no job is stored.
        JobFailed: when a worker fails.
    """
    modules = modules or ModuleNames()
    plan = JobPlan(modules, root, known=ResultStore(out, system).results())
    stored = {job.key: job for claim in _claims_of(system, claims, modules) for job in finished_jobs(claim, plan) or ()}
    if not stored:
        raise UsageError(f"no job of {system} is stored in {out}; `pilotage reproduce {system}` measures its claims")
    here = provenance(modules)
    # Not for secrets: a stated choice, so that an audit can be repeated.
    chosen = random.Random(f"{system} {here['commit']}").sample(sorted(stored), min(count, len(stored)))
    above = root or home()
    above.mkdir(parents=True, exist_ok=True)
    display = Display(f"audit {system}")
    with tempfile.TemporaryDirectory(prefix="audit-", dir=above) as folder:
        again = [replace(stored[key], known=None, directory=Path(folder) / "jobs" / key) for key in chosen]
        try:
            results = run_jobs(again, workers, on_event or display)
        finally:
            display.close()
    agreed = [_audited(stored[key], results[key], here, say) for key in chosen]
    say(f"{sum(agreed)} of {len(agreed)} jobs came out again")
    return all(agreed)


def _audited(placed: PlacedJob, again: JobResult, here: Mapping[str, Any], say: Callable[[str], None]) -> bool:
    before = placed.result()
    assert before is not None
    is_exact = all(before.made.get(name) == here[name] for name in ("processor", "torch"))
    names = [name for name in before.metrics if not _CLOCK.search(name)]
    differing = [name for name in names if not _agree(before.metrics[name], again.metrics.get(name), is_exact)]
    how = "bit for bit" if is_exact else f"within {AUDIT_TOLERANCE:.0%} (another processor or torch)"
    found = f"{len(names) - len(differing)} of {len(names)} numbers come out again, {how}"
    changes = [f"{name} {number(before.metrics[name])} → {number(again.metrics.get(name))}" for name in differing]
    say(f"  `{placed.job.command}`, arm {placed.job.arm!r}, seed {placed.job.seed}: {found}")
    say(f"    stored: {describe_commit(before.made.get('commit'))}, {(before.made.get('created') or '')[:10]}")
    if changes:
        say(f"    differing: {'; '.join(changes)}")
    return not differing


def _agree(before: float | None, after: float | None, is_exact: bool) -> bool:
    if before is None or after is None or is_exact:
        return before == after
    return math.isclose(before, after, rel_tol=AUDIT_TOLERANCE)


def _claims_of(system: str, claims: Sequence[Claim] | None, modules: ModuleNames) -> Sequence[Claim]:
    if claims is None:
        claims = importlib.import_module(modules.catalogue).find_claims(system)
    check_claims(claims)
    return claims


def _announce(
    system: str,
    todo: Sequence[Claim],
    of: int,
    plan: JobPlan,
    budget: float,
    workers: int | None,
    say: Callable[[str], None],
) -> None:
    """Say what is there and what will run. Raises UsageError when that is over budget."""
    expected = forecast(todo, plan)
    cost = expected.words(worker_count(workers, max(1, expected.jobs)))
    if plan.quick and expected.jobs:
        cost = f"{expected.jobs} jobs of a few steps to run ({len(expected.there)} are there)"
    say(f"{system}: {len(todo)} of {of} claims; {cost}")
    if expected.there:
        say(f"used: {describe_sources(sources(expected.there))}")
    if expected.seconds > budget * 60 and not plan.quick:
        raise UsageError(
            f"the forecast of {expected.seconds / 60:.0f} processor minutes is over the budget of {budget:g}; "
            f"give --budget {expected.seconds / 60 + 1:.0f} to run it all the same"
        )


class _Runner:
    """Runs the jobs of several claims together, so that no worker waits for the end of one claim."""

    def __init__(
        self, plan: JobPlan, workers: int | None, on_event: Callable[[JobEvent], None], store: ResultStore
    ) -> None:
        self.plan, self.workers, self.on_event, self.store = plan, workers, on_event, store
        self.results: dict[str, JobResult] = {}

    def tune(self, claims: Sequence[Claim]) -> dict[str, Tuning]:
        jobs = {claim.name: tuning_jobs(claim, self.plan) for claim in claims}
        self._run([placed for needed in jobs.values() for placed in needed.values()])
        return {claim.name: tune(claim, self.plan, jobs[claim.name], self.results) for claim in claims}

    def measure(self, claims: Sequence[Claim], tunings: Mapping[str, Tuning]) -> dict[str, dict[str, Any]]:
        jobs = {claim.name: counted_jobs(claim, self.plan, tunings[claim.name].chosen) for claim in claims}
        self._run([placed for needed in jobs.values() for placed in needed])
        entries = {}
        for claim in claims:
            numbers: dict[str, list[Mapping[str, float | None]]] = {arm: [] for arm in claim.arms}
            for placed in jobs[claim.name]:
                numbers[placed.job.arm].append(self.results[placed.key].metrics)
            entries[claim.name] = claim_entry(claim, judge_claim(claim, numbers), tunings[claim.name])
        return entries

    def _run(self, jobs: Sequence[PlacedJob]) -> None:
        def keep(event: JobEvent) -> None:
            if event.kind != "started":
                self.store.add(event.placed)
            self.on_event(event)

        self.results.update(run_jobs(jobs, self.workers, keep))


def _artifacts(results: Iterable[JobResult]) -> list[dict[str, Any]]:
    """Return every artifact that a result used, once; two of one name differ in what made them."""
    found = {used["key"]: {"name": name, **used} for result in results for name, used in result.artifacts.items()}
    return sorted(found.values(), key=lambda used: (used["name"], used["key"]))


def _reason_to_skip(claim: Claim, long: bool, only: str | None, plan: JobPlan) -> str:
    """Return why a claim is not run; empty when it is, or when it costs nothing because all its jobs are there."""
    missing = missing_extras(claim.needs)
    unasked = f"needs {', '.join(missing)}: pip install 'pilotage[{','.join(missing)}]'" if missing else ""
    if not unasked and only not in (None, claim.name):
        unasked = f"only {only} was asked for"
    if not unasked and claim.tier == "long" and not long and only != claim.name:
        unasked = "long tier; run with --long"
    return "" if not unasked or finished_jobs(claim, plan) is not None else unasked


def _fixed(claim: Claim) -> dict[str, Any]:
    """Return what was fixed before the first job ran."""
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
        **({"events": asdict(claim.events)} if claim.events else {}),
        "gates": {arm: {"metric": metric, "least": least} for arm, (metric, least) in claim.gates.items()},
    }


def claim_entry(claim: Claim, measured: ClaimResult, tuning: Tuning) -> dict[str, Any]:
    """Return the entry of a measured claim in `NAME.json`."""
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
        "tuning": dict(tuning.record),
        "verdict": judgement.verdict,
        "note": " ".join(filter(None, [judgement.reason + ".", describe_ties(tuning), claim.note])),
    }


def _not_measured(claim: Claim, reason: str) -> dict[str, Any]:
    return {
        **_fixed(claim),
        "arms": {},
        "comparison": None,
        "tuning": {},
        "verdict": f"not measured ({reason})",
        "note": claim.note,
    }
