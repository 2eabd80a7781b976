"""Several commands over the same seeds: paired differences, intervals over seeds, and one sentence for each arm."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotage.core.atomic_io import write_json
from pilotage.core.claims import Criterion
from pilotage.core.configuration import config_to_options, configure
from pilotage.core.errors import UsageError
from pilotage.core.intervals import Interval, t_interval
from pilotage.core.names import nearest
from pilotage.core.references import load_function
from pilotage.core.registry import find_system
from pilotage.core.system import Configuration, System
from pilotage.core.verdicts import judge, saturated
from pilotage.experiments.jobs import Job, JobResult, ModuleNames, PlacedJob, parse_command, place
from pilotage.experiments.pool import Display, JobEvent, cores, run_jobs, worker_count
from pilotage.experiments.provenance import environment, now, sources

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

FORMAT = 1
_FRAMES = "pilotage.report.frames"
_RATES = ("accuracy", "rate", "success")


@dataclass(frozen=True)
class ArmResult:
    """Command of an arm with, for each seed in order, the metric (None where a run gave none) and the run."""

    name: str
    command: str
    values: tuple[float | None, ...]
    runs: tuple[str, ...]
    mean: float | None
    interval: tuple[float | None, float | None]


@dataclass(frozen=True)
class Difference:
    """Difference of one arm from another, paired by seed, in the direction in which the metric is better."""

    of: str
    against: str
    values: tuple[float | None, ...]
    mean: float | None
    interval: tuple[float | None, float | None]
    verdict: str
    """better, worse or undecided."""
    reason: str
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Findings of a comparison. `save` writes them as `comparison.json`, which the report reads."""

    metric: str
    higher_is_better: bool
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    differences: tuple[Difference, ...]
    workers: int
    seconds: float
    """Processor seconds of all jobs together, those of reused ones included."""
    created: str
    directory: Path
    """Where `comparison.json` and `report.html` lie."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Hardware, versions and commit of the process that compared."""
    made: Sequence[Mapping[str, Any]] = ()
    """Numbers of jobs by the commit, version and processor that made them."""
    notes: tuple[str, ...] = ()
    """Sentences about differences between the arms beside their methods."""

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.directory / "report.html"

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return the mean of the metric by arm."""
        return {arm.name: arm.mean for arm in self.arms}

    @property
    def table(self) -> pandas.DataFrame:
        """Return `rows` as a pandas DataFrame, one arm a row."""
        return load_function(f"{_FRAMES}:frame")(self.rows, "arm")

    def curves(self) -> pandas.DataFrame:
        """Return what all runs logged as a pandas DataFrame: arm, seed, step and a column per metric."""
        return load_function(f"{_FRAMES}:comparison_curves")(self._runs, self.seeds)

    def plot(self) -> Figure:
        """Return a matplotlib figure: the curves of the arms, and the differences with their intervals."""
        differences = [
            (d.of, [value for value in d.values if value is not None], Interval(*map(_or_nan, (d.mean, *d.interval))))
            for d in self.differences
        ]
        return load_function(f"{_FRAMES}:comparison_plot")(self._runs, differences, self.metric)

    def policy(self, arm: str, seed: int | None = None) -> Any:
        """Return the trained policy of an arm; of its first seed by default. Raises UsageError for an unknown one."""
        seed = self.seeds[0] if seed is None else seed
        if arm not in self._runs or seed not in self.seeds:
            raise UsageError(
                f"there is no run of arm {arm!r} with seed {seed}; there are {', '.join(self._runs)} with {self.seeds}"
            )
        return load_function("pilotage.experiments.launch:load_policy")(Path(self._runs[arm][self.seeds.index(seed)]))

    @property
    def _runs(self) -> dict[str, Sequence[str]]:
        return {arm.name: arm.runs for arm in self.arms}

    def _repr_html_(self) -> str:
        html: str = load_function(f"{_FRAMES}:comparison_html")(self.rows, self.sentences, f"report: {self.report}")
        return html

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return rows by arm: the mean of the metric with its interval, the difference with its own, the verdict."""
        found = {difference.of: difference for difference in self.differences}
        rows = []
        for arm in self.arms:
            difference = found.get(arm.name)
            rows.append(
                {
                    "arm": arm.name,
                    self.metric: arm.mean,
                    "interval": _shown(arm.interval),
                    f"difference from {self.differences[0].against}": difference and difference.mean,
                    "its interval": _shown(difference.interval) if difference else "",
                    "verdict": difference.verdict if difference else "",
                }
            )
        return rows

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return one sentence per difference."""
        return tuple(difference.sentence for difference in self.differences)

    def save(self) -> Path:
        """Write `comparison.json` into its directory (made if need be) and return its path."""
        document = {"format": FORMAT, **asdict(self), "threads_per_worker": 1, "cores": cores()}
        document.update(document.pop("environment"))
        del document["directory"]
        path = self.directory / "comparison.json"
        write_json(path, document)
        return path


def arm_commands(
    arms: Mapping[str, str | Configuration] | Sequence[str | Configuration], options: Mapping[str, Any]
) -> dict[str, str]:
    """Return the command line of every arm by name, with `options` of all arms, which an arm's own options override.

    Raises UsageError for two arms of one name, for words that are no command, and for options that an arm has not.
    """
    named = list(arms.items()) if isinstance(arms, Mapping) else [(_arm_name(arm), arm) for arm in arms]
    commands: dict[str, str] = {}
    for name, arm in named:
        if name in commands:
            raise UsageError(f"the arm {name!r} is given twice; name the arms: {{'a': …, 'b': …}}")
        words = shlex.split(arm if isinstance(arm, str) else arm.command)
        if not words:
            raise UsageError('an arm is empty; expected a system and its options, such as "grpo --lr 1e-4"')
        shared: list[str] = []
        if options:
            system = find_system(words[0])
            try:
                shared = config_to_options(configure(system, **options), system.config)
            except UsageError as error:
                raise UsageError(f"arm {name!r}: {error}") from error
        commands[name] = shlex.join([words[0], *shared, *words[1:]])
    return commands


def _arm_name(arm: str | Configuration) -> str:
    return arm if isinstance(arm, str) else arm.command


def compare(
    arms: Mapping[str, str],
    seeds: Sequence[int],
    *,
    metric: str | None = None,
    higher_is_better: bool = True,
    against: str | None = None,
    workers: int | None = None,
    out: Path | str | None = None,
    root: Path | None = None,
    modules: ModuleNames | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Train every arm with every seed and say which arm is better and how sure that is.

    Args:
        arms: name to command line without the program's name (`{"grpo": "grpo", "mine": "grpo --advantage my.py:f"}`).
        seeds: the same for all arms; the comparison is paired by them.
        metric: name of the number of each run's result that is compared; by default that of the arms' systems.
        higher_is_better: direction of the metric.
        against: the arm that all others are compared with; the first by default.
        workers: parallel processes of one thread each; one per core by default, never more.
        out: directory for `comparison.json` and `report.html`; by default one below `runs/` named by the arms and a
            hash of what is compared, so that the same comparison goes to the same place.
        root: where jobs are kept; `$PILOTAGE_HOME` by default. What is finished there is not run again.
        modules: where systems and runs come from (tests use their own).
        on_event: called when a job is reused, starts or finishes; a line of progress by default.
        say: shows the notes before anything runs; on standard error by default.

    Returns:
        Comparison, saved, with its report written.

    Raises:
        UsageError: for arms, seeds or a metric that cannot work; before anything runs where that can be known.
        JobFailed: when a worker fails; the finished jobs stay.
    """
    modules = modules or ModuleNames()
    against = _check(arms, seeds, against)
    plans = {name: parse_command(command, modules) for name, command in arms.items()}
    if metric is None:
        metric = _common_metric(plans)
    else:
        for name, (system, _) in plans.items():
            check_metric(metric, name, system)
    notes = unequal_samples(plans)
    for note in notes:
        (say or _to_standard_error)(note)
    placed = {
        (name, seed): place(Job(name, seed, command), modules, root) for seed in seeds for name, command in arms.items()
    }
    display = Display("compare")
    try:
        results = run_jobs(list(placed.values()), workers, _Watch(metric, on_event or display))
    finally:
        display.close()
    values = {name: [metric_of(results, metric, placed[name, seed]) for seed in seeds] for name in arms}
    comparison = Comparison(
        metric=metric,
        higher_is_better=higher_is_better,
        seeds=tuple(seeds),
        arms=tuple(
            _arm_result(name, command, values[name], [str(placed[name, seed].run_directory) for seed in seeds])
            for name, command in arms.items()
        ),
        differences=tuple(
            paired(name, values[name], against, values[against], metric, higher_is_better)
            for name in arms
            if name != against
        ),
        workers=worker_count(workers, len(placed)),
        seconds=round(sum(result.seconds for result in results.values()), 1),
        created=now(),
        directory=Path(out) if out else _default_directory(placed, metric),
        environment=environment(modules),
        made=sources(results.values()),
        notes=notes,
    )
    comparison.save()
    load_function("pilotage.report:write_report")(comparison.directory)
    return comparison


class _Watch:
    """Passes events on, and ends the comparison at the first finished job that has no such metric."""

    def __init__(self, metric: str, on_event: Callable[[JobEvent], None]) -> None:
        self._metric, self._on_event = metric, on_event

    def __call__(self, event: JobEvent) -> None:
        self._on_event(event)
        if event.kind != "started" and (result := event.placed.result()) is not None:
            metric_of({event.placed.key: result}, self._metric, event.placed)


def _to_standard_error(text: str) -> None:
    print(text, file=sys.stderr)


def check_metric(metric: str, arm: str, system: System) -> None:
    """Raise UsageError when the runs of a system are known to give no number called `metric`."""
    names: tuple[str, ...] = getattr(system.load_run(), "result_names", ())
    if names and not any(fnmatchcase(metric, name) for name in names):
        raise UsageError(
            f"--metric: given {metric!r}, which runs of {system.name} (arm {arm!r}) do not give"
            f"{nearest(metric, names)}; they give {', '.join(names)}"
        )


def unequal_samples(plans: Mapping[str, tuple[System, Any]]) -> tuple[str, ...]:
    """Return a sentence when arms train on different numbers of samples per step or in all; empty otherwise."""
    counts = {name: getattr(config, "samples_per_step", None) for name, (_, config) in plans.items()}
    totals = {name: (count or 0) * getattr(plans[name][1], "steps", 0) for name, count in counts.items()}
    if None in counts.values() or (len(set(counts.values())) == 1 and len(set(totals.values())) == 1):
        return ()
    if len(set(counts.values())) == 1:
        each = ", ".join(f"{name} on {total:,}" for name, total in totals.items())
        return (f"The arms train on different numbers of samples in all: {each}.",)
    each = ", ".join(f"{name} on {count}" for name, count in counts.items())
    return (
        f"The arms train on different numbers of samples per step: {each}. A difference may come from that; options "
        "such as --group-size or --batch after -- give all arms the same.",
    )


def _common_metric(plans: Mapping[str, tuple[System, Any]]) -> str:
    """Return the metric that the systems of all arms are compared by. Raises UsageError when they differ."""
    metrics = {name: system.metric_for(config) for name, (system, config) in plans.items()}
    if len(set(metrics.values())) > 1:  # arms with rewards of their own beside others: no reward compares them
        metrics = {name: system.metric for name, (system, _) in plans.items()}
    if len(set(metrics.values())) > 1:
        each = ", ".join(f"{name} by {metric}" for name, metric in metrics.items())
        raise UsageError(f"the arms are compared by different numbers ({each}); name one of them with --metric")
    return next(iter(metrics.values()))


def metric_of(results: Mapping[str, JobResult], metric: str, placed: PlacedJob) -> float | None:
    """Return the metric of a finished job. Raises UsageError, with the metrics there are, when it has none so named."""
    result = results[placed.key]
    if metric not in result.metrics:
        raise UsageError(
            f"`{placed.job.command}` has no metric {metric!r}; its result has {', '.join(sorted(result.metrics))}"
        )
    return result.metrics[metric]


def paired(
    of: str,
    of_values: Sequence[float | None],
    against: str,
    against_values: Sequence[float | None],
    metric: str,
    higher_is_better: bool = True,
) -> Difference:
    """Compare two arms by their values per seed; a pair that lacks a number is censored.

    Args:
        of: name of the first arm.
        of_values: its values, one per seed.
        against: name of the second arm.
        against_values: its values for the same seeds.
        metric: name of what was measured.
        higher_is_better: direction of the metric.

    Returns:
        The difference with its interval, verdict and sentence.
    """
    sign = 1.0 if higher_is_better else -1.0
    pairs = list(zip(of_values, against_values, strict=True))
    values = [None if a is None or b is None else sign * (a - b) for a, b in pairs]
    whole = [value for value in values if value is not None]
    complete = [(a, b) for a, b in pairs if a is not None and b is not None]
    at_the_end = (
        bool(complete)
        and any(word in metric for word in _RATES)
        and saturated([a for a, _ in complete], [b for _, b in complete])
    )
    judgement = judge(
        Criterion("better"), whole, n_declared=len(pairs), saturated=at_the_end, censored=len(pairs) - len(whole)
    )
    verdict = "worse" if judgement.reversed else "better" if judgement.verdict == "holds" else "undecided"
    interval = Interval(judgement.mean, judgement.low, judgement.high)
    return Difference(
        of=of,
        against=against,
        values=tuple(values),
        mean=finite(interval.mean),
        interval=(finite(interval.low), finite(interval.high)),
        verdict=verdict,
        reason=judgement.reason,
        sentence=_sentence(of, against, verdict, interval, judgement.reason, len(whole), metric),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def finite(value: float) -> float | None:
    """Return the number, or None where there is none (JSON has no NaN)."""
    return value if math.isfinite(value) else None


def _shown(interval: tuple[float | None, float | None]) -> str:
    low, high = interval
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _default_directory(placed: Mapping[tuple[str, int], PlacedJob], metric: str) -> Path:
    digest = hashlib.sha256(json.dumps([metric, *(p.key for p in placed.values())]).encode()).hexdigest()[:8]
    systems = dict.fromkeys(shlex.split(job.job.command)[0] for job in placed.values())
    return Path("runs") / "-".join(["compare", *systems, digest])


def _sentence(of: str, against: str, verdict: str, interval: Interval, reason: str, n: int, metric: str) -> str:
    mean, low, high = interval.mean, interval.low, interval.high
    if verdict == "better":
        return f"{of} is better than {against} by {mean:.3f} [{low:.3f}, {high:.3f}] in {metric} ({n} seeds)."
    if verdict == "worse":
        return f"{of} is worse than {against} by {-mean:.3f} [{-high:.3f}, {-low:.3f}] in {metric} ({n} seeds)."
    if not math.isfinite(low):
        return f"Undecided between {of} and {against}: {reason}."
    numbers = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
    measured = f"{numbers} in {metric} over {n} seeds"
    if low <= 0 <= high and n >= 5:
        return f"Undecided between {of} and {against}: the difference is {measured}, and the interval contains zero."
    return f"Undecided between {of} and {against}: {reason} (the difference is {measured})."


def _arm_result(name: str, command: str, values: Sequence[float | None], runs: Sequence[str]) -> ArmResult:
    interval = t_interval([value for value in values if value is not None])
    return ArmResult(
        name, command, tuple(values), tuple(runs), finite(interval.mean), (finite(interval.low), finite(interval.high))
    )


def _check(arms: Mapping[str, str], seeds: Sequence[int], against: str | None) -> str:
    if len(arms) < 2:
        raise UsageError(f"a comparison needs at least two arms; given {len(arms)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"the seeds are {list(seeds)}; give at least one, each once")
    if against is not None and against not in arms:
        raise UsageError(f"no arm is called {against!r}; there are {', '.join(arms)}")
    return against or next(iter(arms))
