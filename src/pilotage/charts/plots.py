"""Pictures as files: the README's comparison, and what each claim measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pilotage.charts.curves import curve
from pilotage.evaluation.verdicts import t_interval
from pilotage.report.page import is_rate, read_comparison

COLOURS = ("#0b62b4", "#c24e00", "#08785a", "#a23b7c", "#836400", "#4b5663")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2.5)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (1, 2)))
INK, MUTED, _GRID = "#1d2126", "#626a73", "#e9e6e0"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "svg.hashsalt": "pilotage",
    "svg.fonttype": "path",
    "legend.frameon": False,
}


def comparison_picture(directory: Path, path: Path) -> Path:
    """The picture of a comparison (PNG or SVG by the ending of `path`): learning curves with bands on the left, on the
    right each arm's difference with its interval. Returns `path`. Raises UsageError when there is no comparison."""
    subject = read_comparison(directory)
    runs = [run for arm in subject.arms for run in arm.runs]
    percent = is_rate(subject.metric, runs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for index, arm in enumerate(subject.arms):
            line = curve(arm.name, arm.runs, subject.metric)
            if line is None:
                continue
            style = {"color": COLOURS[index % len(COLOURS)]}
            left.plot(line.x, line.mean, linestyle=DASHES[index % len(DASHES)], linewidth=2, label=arm.name, **style)
            left.fill_between(line.x, line.low, line.high, alpha=0.13, linewidth=0, **style)
        left.set_xlabel("training step")
        left.legend(loc="best")
        seeds = len(subject.arms[0].runs)
        left.set_title(f"{subject.metric}, mean and 95 % interval over {seeds} seeds", fontsize=9, loc="left")
        order = {arm.name: index for index, arm in enumerate(subject.arms)}
        for row, difference in enumerate(subject.differences):
            values = [v for v in difference["values"] if v is not None]
            _difference(right, -row, values, difference["mean"], difference["interval"], order[difference["of"]])
        right.set_yticks([-row for row in range(len(subject.differences))])
        right.set_yticklabels([d["of"] for d in subject.differences], color=INK)
        right.set_ylim(-len(subject.differences) + 0.4, 0.6)
        right.set_title(f"difference from {subject.against}, paired by seed", fontsize=9, loc="left")
        right.axvline(0, color=INK, linewidth=1)
        right.grid(visible=False, axis="y")
        if percent:
            left.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
            right.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}".replace("-", "−"))
            right.set_xlabel("percentage points")
        finish(figure, [left, right], path)
    return path


def claim_plot(entry: Mapping[str, Any], path: Path, quick: bool = False) -> Path:
    """What a claim measured (an entry of `NAME.json`): every unit of every arm, units joined across arms, the arms'
    means with 95 % intervals, and the verdict in the title. Returns `path`."""
    arms: Mapping[str, Sequence[float | None]] = entry["arms"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.6, 1.3 * len(arms) + 2), 3.3), layout="constrained")
        # The metrics of a frontier have scales of their own.
        groups = _by_metric(arms) if entry["kind"] == "frontier" else {entry["metric"]: arms}
        panels = np.atleast_1d(np.array(figure.subplots(1, len(groups)), dtype=object))
        for panel, (metric, columns) in zip(panels, groups.items(), strict=True):
            _units(panel, columns)
            panel.set_ylabel(metric)
        mark = "quick pass, no evidence: " if quick else ""
        title = f"{mark}{entry['name']}: {entry['verdict']}\n{_difference_words(entry)}"
        figure.suptitle(title, fontsize=9, x=0.02, ha="left")
        finish(figure, list(panels), path)
    return path


def _units(axes: Axes, columns: Mapping[str, Sequence[float | None]]) -> None:
    table = np.array([[np.nan if v is None else v for v in values] for values in columns.values()], dtype=float)
    for unit in table.T:
        axes.plot(range(len(unit)), unit, color=MUTED, alpha=0.25, linewidth=0.8, zorder=1)
    for index, values in enumerate(table):
        colour = COLOURS[index % len(COLOURS)]
        axes.scatter(np.full(len(values), index), values, s=16, color=colour, alpha=0.4, linewidth=0, zorder=2)
        interval = t_interval(values[np.isfinite(values)])
        if math.isfinite(interval.low):
            axes.plot([index + 0.14] * 2, [interval.low, interval.high], color=colour, linewidth=2, zorder=3)
        axes.plot([index + 0.14], [interval.mean], "D", color=colour, markersize=5, zorder=4)
    axes.set_xticks(range(len(columns)))
    axes.set_xticklabels(list(columns), color=INK)
    axes.set_xlim(-0.5, len(columns) - 0.4)
    axes.grid(visible=False, axis="x")


def _by_metric(arms: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, Sequence[float | None]]]:
    groups: dict[str, dict[str, Sequence[float | None]]] = {}
    for name, values in arms.items():
        arm, _, metric = name.rpartition(": ")
        groups.setdefault(metric, {})[arm] = values
    return groups


def _difference(
    axes: Axes, row: float, values: Sequence[float], mean: float | None, interval: Sequence[float | None], index: int
) -> None:
    colour = COLOURS[index % len(COLOURS)]
    axes.scatter(values, [row] * len(values), s=18, color=colour, alpha=0.35, linewidth=0)
    low, high = interval
    if low is not None and high is not None:
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="round")
    if mean is not None:
        axes.plot([mean], [row], "D", color=colour, markersize=6)


def _difference_words(entry: Mapping[str, Any]) -> str:
    comparison = entry["comparison"]
    if comparison["difference"] is None or comparison["interval"][0] is None:
        return f"{entry['kind']}, margin {entry['margin']:g}"
    low, high = comparison["interval"]
    # In the direction of the claim, so that "of − against" would be wrong where lower is better.
    subject = (
        f"advantage of {comparison['of']} over {comparison['against']}" if comparison["against"] else comparison["of"]
    )
    return f"{subject}: {comparison['difference']:.3g} [{low:.3g}, {high:.3g}]"


def finish(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    """Writes the figure without frames and ticks; the same numbers give the same file."""
    for axes in panels:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, dpi=180, metadata=metadata)
