"""Pictures as files: what a claim measured, and a comparison in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pilotage.charts.charts import Difference, Line, draw_differences, draw_lines, draw_seeds
from pilotage.charts.style import STYLE, save
from pilotage.core.intervals import t_interval


@mpl.rc_context(STYLE)
def comparison_plot(
    lines: Sequence[Line],
    differences: Sequence[Difference],
    path: Path,
    *,
    title: str,
    against: str,
    percent: bool = False,
) -> Path:
    """Draw learning curves on the left and differences with their intervals on the right, and return `path`.

    Args:
        lines: one per arm, over training steps.
        differences: one per arm but `against`.
        path: PNG or SVG, by its ending.
        title: of the curves.
        against: name of the arm that the others are compared with.
        percent: whether values are fractions, shown in per cent.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_lines(left, lines, "%" if percent else "")
    left.set(xlabel="training step", title=title)
    left.legend(loc="best")
    draw_differences(right, differences, against, percent)
    right.set_title(f"difference from {against}, paired by seed")
    return save(figure, path)


@mpl.rc_context(STYLE)
def claim_plot(entry: Mapping[str, Any], path: Path, quick: bool = False) -> Path:
    """Draw what a claim measured, with the verdict in the title, and return `path`.

    Args:
        entry: the claim's entry in the system's file of results: `name`, `verdict`, `kind`, `margin`, `metric`,
            `comparison`, and in `arms` the value of each seed.
        path: PNG or SVG, by its ending.
        quick: whether the numbers come from a quick pass, which is no evidence.
    """
    arms: Mapping[str, Sequence[float | None]] = entry["arms"]
    # The metrics of a frontier have scales of their own.
    groups = _by_metric(arms) if entry["kind"] == "frontier" else {entry["metric"]: arms}
    figure = Figure(figsize=(max(4.6, 1.3 * len(arms) + 2), 3.3), layout="constrained")
    panels = np.atleast_1d(np.array(figure.subplots(1, len(groups)), dtype=object))
    for axes, (metric, columns) in zip(panels, groups.items(), strict=True):
        intervals = {name: t_interval([v for v in values if v is not None]) for name, values in columns.items()}
        draw_seeds(axes, [(name, values, intervals[name]) for name, values in columns.items()])
        axes.set_ylabel(metric)
    mark = "quick pass, no evidence: " if quick else ""
    figure.suptitle(
        f"{mark}{entry['name']}: {entry['verdict']}\n{_measured(entry)}", fontsize="medium", x=0.02, ha="left"
    )
    return save(figure, path)


def _by_metric(arms: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, Sequence[float | None]]]:
    groups: dict[str, dict[str, Sequence[float | None]]] = {}
    for name, values in arms.items():
        arm, _, metric = name.rpartition(": ")
        groups.setdefault(metric, {})[arm] = values
    return groups


def _measured(entry: Mapping[str, Any]) -> str:
    comparison = entry["comparison"]
    if comparison["difference"] is None or comparison["interval"][0] is None:
        return f"{entry['kind']}, margin {entry['margin']:g}"
    low, high = comparison["interval"]
    # In the direction of the claim: "of − against" would be wrong where lower is better.
    versus = f" over {comparison['against']}" if comparison["against"] else ""
    what = f"advantage of {comparison['of']}{versus}" if versus else comparison["of"]
    return f"{what}: {comparison['difference']:.3g} [{low:.3g}, {high:.3g}]"
