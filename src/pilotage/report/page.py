"""One HTML file for a run or a comparison: style, charts and text inside, nothing fetched, no script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pilotage.charts import charts
from pilotage.charts.panels import Panel
from pilotage.charts.plots import comparison_plot
from pilotage.charts.style import CSS
from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError
from pilotage.core.intervals import Interval, t_interval
from pilotage.core.references import load_reference
from pilotage.core.registry import find_system
from pilotage.core.text import duration, number, printable
from pilotage.report.actions import action_panels
from pilotage.report.curves import SPENT, Axis, curve, final_interval, is_level, levels_of
from pilotage.report.videos import frame_strips
from pilotage.runs.reader import RunRecord, may_complete, read_examples, read_run

HEADLINES = ("held_out/accuracy", "evaluation/result", "evaluation/success")
"""Metrics that a report of a run names first, the first that the run has."""
_AXES: tuple[tuple[Axis, str], ...] = (
    ("steps", "steps"),
    ("samples", "answers generated"),
    ("tokens", "tokens generated"),
    ("seconds", "seconds"),
)
_MOST_CHARTS = 9
MOST_EVENTS = 60
"""Events of a run that a report shows, the first and the last ones."""
MOST_EXAMPLES = 24
"""Answers of an arm that a report shows."""
MOST_ROWS = 200
"""Rows of a table, and transcripts, that a report shows of a panel."""
LONGEST_TEXT = 6000
"""Characters of a prompt or an answer that a report shows."""
_PROMINENT = ("reward/mean", "entropy", "length")
"""Beginnings of the names of metrics that are shown first."""
_VERDICT_MARKS = {"better": "▲", "worse": "▼", "undecided": "◇"}


@dataclass(frozen=True)
class ArmRuns:
    """An arm of a report: its command and its runs, one per seed."""

    name: str
    command: str
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True)
class ReportData:
    """The content of a report. A single run is one arm without differences."""

    title: str
    kind: str
    metric: str
    arms: tuple[ArmRuns, ...]
    facts: tuple[tuple[str, str], ...]
    higher_is_better: bool = True
    against: str = ""
    differences: tuple[Mapping[str, Any], ...] = ()
    where: Mapping[str, Any] | None = None
    """Hardware, versions and commit."""
    notes: tuple[str, ...] = ()
    """What makes the arms differ beside their methods."""


def write_run_report(directory: Path, out: Path | None = None) -> Path:
    """Write the report of a run as `report.html` into its directory, or to `out`, and return its path.

    Raises UsageError when there is no run.
    """
    run = read_run(directory)
    command = str(run.about.get("command") or run.about.get("system", "")).removeprefix("pilotage run ")
    names = [*run.names, *run.result]
    first = next(iter(run.result or run.names), HEADLINES[0])
    metric = next((name for name in HEADLINES if name in names), first)
    facts = [("system", str(run.about.get("system", ""))), ("seed", str(run.seed)), ("directory", str(directory))]
    if run.metrics:
        facts.append(("steps", str(run.metrics[-1]["step"])))
    data = ReportData(
        title=str(run.about.get("system", "run")),
        kind="run",
        metric=metric,
        arms=(ArmRuns(str(run.about.get("system", "run")), command, (run,)),),
        facts=tuple(facts),
        where=run.about,
    )
    return _write(render(data), out or directory / "report.html")


def write_comparison_report(directory: Path, out: Path | None = None) -> Path:
    """Write the report of a comparison as `report.html` beside its `comparison.json`, or to `out`, and return its path.

    Raises UsageError when there is no comparison, or a run of it is missing.
    """
    return _write(render(read_comparison(directory)), out or directory / "report.html")


def read_comparison(directory: Path) -> ReportData:
    """Return the comparison in `directory` with its runs. Raises UsageError when it, or a run of it, is missing."""
    path = directory / "comparison.json"
    if not path.is_file():
        raise UsageError(f"{directory} holds no comparison (there is no comparison.json)")
    stored = json.loads(path.read_text(encoding="utf-8"))
    arms = tuple(
        ArmRuns(arm["name"], arm["command"], tuple(read_run(directory / run) for run in arm["runs"]))
        for arm in stored["arms"]
    )
    against = stored["differences"][0]["against"]
    others = [arm.name for arm in arms if arm.name != against]
    workers = stored["workers"]
    facts = (
        ("metric", f"{stored['metric']} ({'higher' if stored['higher_is_better'] else 'lower'} is better)"),
        ("seeds", f"{len(stored['seeds'])}: {', '.join(map(str, stored['seeds']))}, the same for every arm (paired)"),
        ("workers", f"{workers} process{'es' if workers > 1 else ''} of one thread on {stored['cores']} cores"),
        ("processor time", duration(stored["seconds"])),
        ("made", stored["created"]),
    )
    return ReportData(
        title=f"{_listed(others)} against {against}",
        kind="comparison",
        metric=stored["metric"],
        arms=arms,
        facts=facts,
        higher_is_better=stored["higher_is_better"],
        against=against,
        differences=tuple(stored["differences"]),
        where=stored,
        notes=tuple(stored.get("notes", ())),
    )


def render(data: ReportData) -> str:
    """Return the report as HTML. What models, users and files wrote is escaped."""
    runs = [run for arm in data.arms for run in arm.runs]
    levels = levels_of(runs, data.metric)
    percent = is_rate(data.metric, runs)
    shown, further = _other_metrics(data, runs)
    where = data.where or {}
    return _template().render(
        data=data,
        swatch=charts.swatch,
        chart_css=CSS,
        marks=_VERDICT_MARKS,
        headline=_headline(data, percent),
        difference_chart=_difference_chart(data, percent),
        main_charts=_axis_charts(data, data.metric, runs),
        reward_charts=_axis_charts(data, "reward/mean", runs) if data.metric != "reward/mean" else [],
        step_charts=[chart for name in shown if (chart := _chart(data, name, "steps", "steps", runs))],
        more_charts=[chart for name in further if (chart := _chart(data, name, "steps", "steps", runs))],
        levels=_levels(data, levels, percent),
        table=_table(data, levels, runs),
        panels=(*run_panels(runs[0]), *action_panels(runs[0].directory)) if data.kind == "run" else (),
        videos=[(arm.name, frame_strips(arm.runs[0].directory), arm.runs[0].seed) for arm in data.arms],
        unfinished=[(arm.name, run.seed, run.unfinished) for arm in data.arms for run in arm.runs if run.unfinished],
        cut=_cut,
        number=number,
        most_rows=MOST_ROWS,
        most_examples=MOST_EXAMPLES,
        examples=[
            (arm.name, read_examples(arm.runs[0].directory), arm.runs[0].seed)
            for arm in data.arms
            if may_complete(arm.runs[0].directory)
        ],
        config=_config_differences(data),
        events=[(arm.name, run.seed, *_some_events(run)) for arm in data.arms for run in arm.runs if run.events],
        failures=[(arm.name, run.seed, run.failures) for arm in data.arms for run in arm.runs if run.failures],
        hardware=_flat(where.get("hardware") or {}),
        versions=_flat(where.get("versions") or {}),
        commit=where.get("commit") or "",
        scripted_components=sorted({text for run in runs for text in run.scripted_components}),
        glossary=_glossary(runs),
    )


def is_rate(metric: str, runs: Sequence[RunRecord]) -> bool:
    """Return whether a metric is a rate, which is shown in per cent: named so, and never outside 0..1."""
    if not any(word in metric for word in ("accuracy", "rate", "share", "fraction", "success")):
        return False
    values = [value for run in runs for value in (run.final(metric), *run.points(metric)[1]) if value is not None]
    return all(0 <= value <= 1 for value in values)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pilotage.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2")


def _write(html: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, printable(html).encode())
    return path


def _headline(data: ReportData, percent: bool) -> str:
    """One sentence about a single run; a comparison has its verdicts instead."""
    if data.kind == "comparison":
        return ""
    run = data.arms[0].runs[0]
    final = run.final(data.metric)
    if final is None:
        return f"No {data.metric} was measured yet."
    _, values = run.points(data.metric)
    start = f", from {_value(float(values[0]), percent)} at the start" if len(values) > 1 else ""
    so_far = "" if run.finished else " so far"
    return f"{data.metric} is {_value(final, percent)}{so_far}{start}. One seed only: no conclusion about the method."


def _some_events(run: RunRecord) -> tuple[list[Mapping[str, Any]], int]:
    """Return the first and the last events of a run, and the number of those between that are left out."""
    events = list(run.events)
    if len(events) <= MOST_EVENTS:
        return events, 0
    half = MOST_EVENTS // 2
    return events[:half] + events[-half:], len(events) - 2 * half


def _cut(text: str) -> str:
    """Return a text as far as a report shows it."""
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters are left out here …\n{text[-half:]}"


def run_panels(run: RunRecord) -> Sequence[Panel]:
    """Return the panels of the run's system; none for a system without, or one that is not installed here."""
    try:
        panels = find_system(str(run.about.get("system", ""))).panels
    except UsageError:
        return ()
    if panels is None:
        return ()
    found: Sequence[Panel] = load_reference(panels)(run)
    return found


def write_comparison_plot(directory: Path, path: Path) -> Path:
    """Draw the comparison in `directory` as one picture (PNG or SVG by the ending of `path`) and return `path`.

    Raises UsageError when there is no comparison, or a run of it is missing.
    """
    data = read_comparison(directory)
    seeds = len(data.arms[0].runs)
    return comparison_plot(
        _lines(data, data.metric, "steps"),
        _differences(data),
        path,
        title=f"{data.metric}, mean and 95 % interval over {seeds} seed{'s' if seeds > 1 else ''}",
        against=data.against,
        percent=is_rate(data.metric, [run for arm in data.arms for run in arm.runs]),
    )


def _differences(data: ReportData) -> list[charts.Difference]:
    order = {arm.name: index for index, arm in enumerate(data.arms)}
    return [
        charts.Difference(
            d["of"],
            [value for value in d["values"] if value is not None],
            Interval(*(math.nan if v is None else v for v in (d["mean"], *d["interval"]))),
            order[d["of"]],
        )
        for d in data.differences
    ]


def _difference_chart(data: ReportData, percent: bool) -> Markup | None:
    rows = _differences(data)
    return charts.difference_chart(rows, against=data.against, percent=percent) if rows else None


def _lines(data: ReportData, metric: str, axis: Axis) -> list[charts.Line]:
    found = (curve(arm.name, arm.runs, metric, axis, index) for index, arm in enumerate(data.arms))
    return [line for line in found if line is not None]


def _axis_charts(data: ReportData, metric: str, runs: Sequence[RunRecord]) -> list[tuple[str, Markup]]:
    if data.kind == "run" and _once(metric, runs):  # the headline says it
        return []
    found = [(f"against {label}", _chart(data, metric, axis, label, runs)) for axis, label in _AXES]
    return [(caption, chart[1]) for caption, chart in found if chart]


def _chart(
    data: ReportData, metric: str, axis: Axis, label: str, runs: Sequence[RunRecord]
) -> tuple[str, Markup] | None:
    lines = _lines(data, metric, axis)
    if not lines:
        return None
    rate = is_rate(metric, runs)
    if rate:  # intervals of a rate may reach beyond what a rate can be
        lines = [replace(line, band=line.band and tuple(np.clip(line.band, 0, 1))) for line in lines]
    return metric, charts.line_chart(lines, x_label=label, y_label=metric, unit="%" if rate else "")


def _other_metrics(data: ReportData, runs: Sequence[RunRecord]) -> tuple[list[str], list[str]]:
    """Return the names of the metrics that are shown at once, and of those that are folded away."""
    names = dict.fromkeys(name for run in runs for name in run.names)
    rest = [n for n in names if n not in (data.metric, "reward/mean", *SPENT.values()) and not is_level(n)]
    prominent = [n for start in _PROMINENT for n in rest if n.startswith(start)]
    # What was measured once is no curve: it comes last.
    ordered = sorted(dict.fromkeys([*prominent, *rest]), key=lambda name: _once(name, runs))
    return ordered[:3], ordered[3 : 3 + _MOST_CHARTS]


def _once(metric: str, runs: Sequence[RunRecord]) -> bool:
    return all(len(run.points(metric)[0]) < 2 for run in runs)


def _levels(data: ReportData, levels: Sequence[str], percent: bool) -> Markup | None:
    if len(levels) < 2:
        return None
    arms = [
        (arm.name, [final_interval(arm.runs, f"{data.metric}/level_{level}") for level in levels]) for arm in data.arms
    ]
    return charts.level_chart(levels, arms, "%" if percent else "")


def _table(data: ReportData, levels: Sequence[str], runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Rows of the final table: metric, one cell per arm, one cell per difference."""
    by_level = [f"{data.metric}/level_{level}" for level in levels]
    results = dict.fromkeys(name for run in runs for name in run.result)
    rest = [n for n in ("reward/mean", *results) if n != data.metric and not is_level(n)]
    rows = []
    for name in dict.fromkeys([data.metric, *by_level, *rest]):
        finals = {arm.name: [run.final(name) for run in arm.runs] for arm in data.arms}
        if all(value is None for values in finals.values() for value in values):
            continue
        percent = is_rate(name, runs)
        base = finals.get(data.against, [])
        differences = []
        for arm in data.arms:
            if data.differences and arm.name != data.against:
                pairs = zip(finals[arm.name], base, strict=True)
                difference = t_interval([a - b for a, b in pairs if a is not None and b is not None])
                differences.append(_with_interval(difference, percent, signed=True))
        label = name.rpartition("/level_")[2] if name in by_level else name
        rows.append(
            {
                "name": f"level {label}" if name in by_level else name,
                "level": name in by_level,
                "main": name == data.metric,
                "cells": [
                    _with_interval(t_interval([v for v in values if v is not None]), percent)
                    for values in finals.values()
                ],
                "differences": differences,
            }
        )
    return rows


def _config_differences(data: ReportData) -> dict[str, Any]:
    """Fields in which the arms differ, and the fields that all share."""
    configs = [dict(arm.runs[0].config) for arm in data.arms]
    names = sorted({name for config in configs for name in config} - {"seed"})
    rows = [(name, [_setting(config.get(name, "–")) for config in configs]) for name in names]
    return {
        "different": [(name, values) for name, values in rows if len(set(values)) > 1],
        "shared": [(name, values[0]) for name, values in rows if len(set(values)) == 1],
    }


def _glossary(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for run in runs:
        found.update(run.glossary)
    return sorted(found.items())


def _with_interval(interval: Interval, percent: bool, signed: bool = False) -> tuple[str, str]:
    """The mean and its interval as two texts; a dash where there is no number."""
    if not math.isfinite(interval.mean):
        return "–", ""
    mean = _value(interval.mean, percent, signed)
    if not math.isfinite(interval.low):
        return mean, ""
    return mean, f"[{_value(interval.low, percent, signed)}, {_value(interval.high, percent, signed)}]"


def _value(value: float, percent: bool, signed: bool = False) -> str:
    sign = "+" if signed else ""
    text = f"{100 * value:{sign}.1f}%" if percent else (sign if value > 0 else "") + number(value)
    return text.replace("-", "−")


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flat(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _setting(value)) for name, value in values.items() if value not in (None, [], "")]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
