"""Results as data frames, figures and small HTML tables, for notebooks and scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pilotage.charts.charts import Difference, draw_differences, draw_lines
from pilotage.charts.style import STYLE
from pilotage.core.errors import UsageError
from pilotage.core.intervals import Interval
from pilotage.core.text import number
from pilotage.report.curves import curve
from pilotage.runs.reader import read_run


def frame(rows: Iterable[Mapping[str, Any]], index: str | None = None) -> Any:
    """Return rows as a pandas DataFrame. Raises UsageError, with the line that installs it, where pandas is missing."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise UsageError(
            "tables are pandas DataFrames, and pandas is not installed: pip install pandas "
            "(.metrics holds the same numbers without pandas)"
        ) from error
    made = pandas.DataFrame(list(rows))
    return made.set_index(index) if index is not None and index in made else made


def run_table(metrics: Mapping[str, float]) -> Any:
    """Return the metrics of a result, one a row."""
    return frame(({"metric": name, "value": value} for name, value in metrics.items()), "metric")


def run_curves(run: str) -> Any:
    """Return what a run logged, a row per step and a column per metric."""
    return frame(read_run(Path(run)).metrics, "step")


def run_html(run: str, metrics: Mapping[str, float]) -> str:
    """Return a result as a small HTML table."""
    return _html(("metric", "value"), [(name, number(value)) for name, value in metrics.items()], f"run {run}")


@mpl.rc_context(STYLE)
def run_plot(run: str, names: Sequence[str]) -> Figure:
    """Return a figure with a curve of each metric; without names of the first ones that were logged.

    Raises UsageError for a metric that the run did not log.
    """
    record = read_run(Path(run))
    chosen = list(names) or record.names[:4]
    figure = Figure(figsize=(3.6 * max(1, len(chosen)), 3.0), layout="constrained")
    for place, name in enumerate(chosen):
        line = curve(name, [record], name)
        if line is None:
            raise UsageError(f"{run} logged no metric {name!r}; it logged {', '.join(record.names) or 'none'}")
        axes = figure.add_subplot(1, len(chosen), place + 1)
        draw_lines(axes, [line])
        axes.set(xlabel="training step", title=name)
    return figure


def comparison_curves(arms: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> Any:
    """Return what all runs of a comparison logged: columns arm, seed, step and one per metric.

    Args:
        arms: the runs of each arm, one per seed.
        seeds: the seeds.
    """
    return frame(
        {"arm": arm, "seed": seed, **line}
        for arm, runs in arms.items()
        for seed, run in zip(seeds, runs, strict=True)
        for line in read_run(Path(run)).metrics
    )


@mpl.rc_context(STYLE)
def comparison_plot(
    arms: Mapping[str, Sequence[str]], differences: Sequence[tuple[str, Sequence[float], Interval]], metric: str
) -> Figure:
    """Return a figure of the arms' curves, where the metric was logged, and of the differences with their intervals.

    Args:
        arms: the runs of each arm, one per seed; the differences are from the first that no difference names.
        differences: arm, its differences by seed, and their mean with its interval.
        metric: what is compared.
    """
    order = {name: place for place, name in enumerate(arms)}
    against = next(name for name in arms if name not in {name for name, _, _ in differences})
    records = {
        name: [read_run(Path(run)) for run in runs if (Path(run) / "run.json").exists()] for name, runs in arms.items()
    }
    found = [curve(name, runs, metric, series=order[name]) for name, runs in records.items()]
    lines = [line for line in found if line is not None]
    figure = Figure(figsize=(9 if lines else 4.6, 3.4), layout="constrained")
    columns = 2 if lines else 1
    if lines:
        left = figure.add_subplot(1, 2, 1)
        draw_lines(left, lines)
        left.set(xlabel="training step", title=metric)
        left.legend(loc="best")
    right = figure.add_subplot(1, columns, columns)
    rows = [Difference(name, values, interval, order[name]) for name, values, interval in differences]
    draw_differences(right, rows, against, False)
    right.set_title(f"difference from {against}, paired by seed")
    return figure


def comparison_html(rows: Sequence[Mapping[str, Any]], sentences: Sequence[str], note: str) -> str:
    """Return the table of a comparison with its sentences as HTML."""
    body = [[_shown(value) for value in row.values()] for row in rows]
    return _html(list(rows[0]), body, note) + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _shown(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else number(value)


def _html(headers: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(note)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
