"""The charts of a report, each as an SVG element for an HTML page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, num2date
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pilotage.charts.style import DASHES, INK, MUTED, PAPER, SERIES, STYLE, new_figure, set_titles, to_svg
from pilotage.core.intervals import Interval
from pilotage.core.text import scientific

Unit = Literal["", "%", "$"]
"""How numbers are written: as they are, fractions as per cent, or amounts of dollars."""
WIDTH, HEIGHT = 380, 250
NAME_WIDTH = 56
"""Characters of a line of an arm's name beside its difference."""
TITLED_POINTS = 24
"""Points of a line, at most, whose values are shown on hover."""
MOST_POINTS = 600
"""Points of a line, at most, that are drawn; of more, the lowest and highest of each stretch stay."""


@dataclass(frozen=True)
class Line:
    """A line of a chart, with the band around it where there is one."""

    name: str
    x: Sequence[float] | NDArray[np.float64]
    """Rising, [point]."""
    y: Sequence[float] | NDArray[np.float64]
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """Lower and upper end of the band, [point] each; NaN or None: no band."""
    series: int = 0
    """Index of the colour and the dash."""
    stepped: bool = False
    """Whether y holds from each x to the next, and the last y to the end of the axis."""


@dataclass(frozen=True)
class ReferenceLevel:
    """A horizontal line to compare with."""

    name: str
    y: float
    series: int = 0


@dataclass(frozen=True)
class Difference:
    """A difference from the arm that all others are compared with: a value per seed, and mean and interval."""

    name: str
    values: Sequence[float]
    interval: Interval
    series: int = 0


def thin(values: Sequence[float] | NDArray[np.float64], most: int = MOST_POINTS) -> NDArray[np.int64]:
    """Return the places of at most `most` points that keep the shape of a curve.

    These are the first, the last, and the lowest and the highest of each of equal stretches, so that no peak is lost.
    """
    y = np.asarray(values, dtype=float)
    if len(y) <= most:
        return np.arange(len(y))
    edges = np.linspace(0, len(y), (most - 2) // 2 + 1).astype(int)
    kept = {0, len(y) - 1}
    for first, end in pairwise(edges):
        part = y[first:end]
        if np.isfinite(part).any():
            kept |= {first + int(np.nanargmin(part)), first + int(np.nanargmax(part))}
        else:
            kept.add(int(first))
    return np.array(sorted(kept))


def colour(series: int) -> str:
    """Return the colour of a series; colours repeat after the sixth."""
    return SERIES[series % len(SERIES)]


def dash(series: int) -> Any:
    """Return the dash of a series, in matplotlib's form."""
    return DASHES[series % len(DASHES)]


def format_number(value: float, unit: Unit = "", *, digits: int = 4, signed: bool = False) -> str:
    """Return a number as text, with `digits` significant digits.

    Args:
        value: the number; a fraction when `unit` is "%".
        unit: how it is written.
        digits: significant digits; from 10,000 on, those of thousands or millions.
        signed: whether a positive number has a plus.
    """
    value = (100 * value if unit == "%" else value) + 0.0
    scale, suffix = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e4 else (1, "")
    size = abs(value) / scale
    written = scientific(size, min(digits, 3)) if 0 < size < 1e-4 or size >= 1e6 else f"{size:.{digits}g}"
    text = f"{written}{suffix}{'%' if unit == '%' else ''}"
    sign = "−" if value < 0 else "+" if signed and value else ""
    return f"{sign}{'$' if unit == '$' else ''}{text}"


def ticks(unit: Unit = "", *, signed: bool = False) -> Callable[[float, object], str]:
    """Return a formatter of matplotlib that writes ticks as `format_number` does."""
    return lambda value, _: format_number(round(value, 12), unit, digits=6, signed=signed)


@mpl.rc_context(STYLE)
def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    unit: Unit = "",
    levels: Sequence[ReferenceLevel] = (),
    backdrop: Sequence[tuple[float, float]] = (),
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    legend: bool = False,
    dates: bool = False,
    width: float = WIDTH,
    height: float = HEIGHT,
) -> Markup:
    """Return a chart of lines over a common axis, with their bands.

    Args:
        lines: at least one, each with at least one point.
        x_label: below the axis.
        y_label: stands in the alternative text alone; the caption of the figure says it to those who see.
        unit: of y.
        levels: horizontal lines to compare with.
        backdrop: (x, height) of a distribution, drawn faintly in the lower third.
        x_range: limits of x; None: those of the lines.
        y_range: limits of y; None: those of lines, bands and levels.
        legend: whether names stand above the chart.
        dates: whether x are dates, in days since 1970.
        width: in pixels.
        height: in pixels.
    """
    figure, axes = new_figure(width, height)
    if x_range is not None:
        axes.set_xlim(*x_range)
    draw_lines(axes, lines, unit, dates=dates)
    for level in levels:
        drawn = axes.axhline(level.y, color=colour(level.series), linestyle=dash(level.series), linewidth=1.6, zorder=1)
        set_titles(drawn, [f"{level.name}: {format_number(level.y, unit)}"])
    if y_range is not None:
        axes.set_ylim(*y_range)
    if backdrop:
        at, share = np.array(backdrop, dtype=float).T
        low, high = axes.get_ylim()
        axes.fill_between(
            at, low, low + share / share.max() * (high - low) * 0.35, color=MUTED, alpha=0.16, linewidth=0, zorder=0
        )
        axes.set_ylim(low, high)
    whole = x_range is None and not dates and all(float(value).is_integer() for line in lines for value in line.x)
    if dates:
        locator = AutoDateLocator(minticks=2, maxticks=8 if width > 500 else 5)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=True))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8 if width > 500 else 5, integer=whole, min_n_ticks=1))
    axes.set_xlabel(x_label)
    if legend:
        figure.legend(loc="outside upper left", ncols=4, handlelength=2.2, columnspacing=1.2)
    ends = [f"{line.name} ends at {format_number(float(line.y[-1]), unit)}" for line in lines]
    compared = [f"{level.name} at {format_number(level.y, unit)}" for level in levels]
    return to_svg(figure, f"{y_label} by {x_label}: {'; '.join([*ends, *compared])}")


def draw_lines(axes: Axes, lines: Sequence[Line], unit: Unit = "", *, dates: bool = False) -> None:
    """Draw lines with their bands, a dot at the end of each, and values that are shown on hover.

    Of a line of many points those are drawn that `thin` keeps.
    """
    limit = axes.get_xlim()[1] if not axes.get_autoscalex_on() else math.inf
    for whole in lines:
        line = _thinned(whole)
        x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
        style: Any = {"color": colour(line.series)}
        if line.band is not None and np.isfinite(line.band).all():
            axes.fill_between(x, *line.band, alpha=0.13, linewidth=0, **style)
        steps = "steps-post" if line.stepped else "default"
        ends = (x, y)
        if line.stepped and x[-1] < limit < math.inf:
            ends = (np.append(x, limit), np.append(y, y[-1]))
        (drawn,) = axes.plot(*ends, linestyle=dash(line.series), label=line.name, zorder=2, drawstyle=steps, **style)
        set_titles(drawn, [line.name])
        there = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & (x <= limit))
        if len(there):
            at = there[np.unique(np.linspace(0, len(there) - 1, TITLED_POINTS).round().astype(int))]
            (points,) = axes.plot(x[at], y[at], "o", markersize=8, alpha=0, zorder=3, **style)
            set_titles(points, [_point_title(line, place, unit, dates) for place in at])
            if not line.stepped:
                (end,) = axes.plot(x[at[-1]], y[at[-1]], "o", markersize=6, zorder=3, **style)
                set_titles(end, [_point_title(line, at[-1], unit, dates)])
    axes.yaxis.set_major_formatter(ticks(unit))
    axes.xaxis.set_major_formatter(ticks())
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _thinned(line: Line) -> Line:
    kept = thin(line.y)
    if len(kept) == len(line.y):
        return line
    band = None if line.band is None else (line.band[0][kept], line.band[1][kept])
    return replace(line, x=np.asarray(line.x)[kept], y=np.asarray(line.y)[kept], band=band)


def _point_title(line: Line, place: int, unit: Unit, dates: bool = False) -> str:
    band = ""
    if line.band is not None and math.isfinite(line.band[0][place]):
        band = " [{}, {}]".format(*(format_number(end[place], unit) for end in line.band))
    where = str(num2date(line.x[place]).date()) if dates else format_number(line.x[place], digits=6)
    return f"{line.name}, {where}: {format_number(line.y[place], unit)}{band}"


@mpl.rc_context(STYLE)
def level_chart(levels: Sequence[str], arms: Sequence[tuple[str, Sequence[Interval]]], unit: Unit = "%") -> Markup:
    """Return a chart of final values by level, a dot with its interval for each arm and level.

    Args:
        levels: names of the levels, in order.
        arms: name of each arm, and its interval at each level.
        unit: of the values; with "%" the axis goes from 0 to 1.
    """
    figure, axes = new_figure(max(420, 100 + len(levels) * 40), HEIGHT)
    if unit == "%":
        axes.set_ylim(-0.02, 1.02)
    room = min(0.16, 0.6 / max(1, len(arms)))
    for series, (name, intervals) in enumerate(arms):
        there = [(place, level, i) for place, (level, i) in enumerate(zip(levels, intervals, strict=True))]
        there = [(place, level, i) for place, level, i in there if math.isfinite(i.mean)]
        if not there:
            continue
        x = [place + (series - (len(arms) - 1) / 2) * room for place, _, _ in there]
        style: Any = {"color": colour(series)}
        axes.plot(x, [i.mean for *_, i in there], linestyle=dash(series), linewidth=1.2, alpha=0.65, **style)
        for at, (_, _, i) in zip(x, there, strict=True):
            _whisker(axes, i, at, series)
        (dots,) = axes.plot(x, [i.mean for *_, i in there], "o", markersize=7, **style)
        set_titles(dots, [f"{name}, level {level}: {_with_interval(i, unit)}" for _, level, i in there])
    axes.set_xticks(range(len(levels)), levels)
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_xlabel("level")
    axes.yaxis.set_major_formatter(ticks(unit))
    return to_svg(figure, "final values by level: " + ", ".join(name for name, _ in arms))


@mpl.rc_context(STYLE)
def difference_chart(rows: Sequence[Difference], *, against: str, percent: bool = False) -> Markup:
    """Return a chart of differences from `against`: seeds as dots, mean and interval as diamond and bar.

    Args:
        rows: one per arm, in the order from top to bottom.
        against: name of the arm that the others are compared with.
        percent: whether values are fractions, shown in percentage points.
    """
    lines = sum(len(_wrapped(f"{row.name} − {against}")) for row in rows)
    figure, axes = new_figure(420, 62 + 30 * len(rows) + 16 * lines)
    draw_differences(axes, rows, against, percent)
    return to_svg(figure, f"differences from {against} with intervals")


def draw_differences(axes: Axes, rows: Sequence[Difference], against: str, percent: bool) -> None:
    """Draw one row per difference, its name, wrapped when long, above it, and a vertical line at zero."""
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    axes.axvline(0, color=INK, linewidth=1.2, zorder=1)
    unit: Unit = "%" if percent else ""
    for row, difference in enumerate(rows):
        style: Any = {"color": colour(difference.series)}
        if len(difference.values):
            (seeds,) = axes.plot(difference.values, [row] * len(difference.values), "o", alpha=0.32, **style)
            set_titles(seeds, [f"{difference.name}, one seed: {_signed(v, unit)}" for v in difference.values])
        if math.isfinite(difference.interval.mean):
            _whisker(axes, difference.interval, row, difference.series, vertical=False)
            (mean,) = axes.plot(difference.interval.mean, row, "D", markersize=7, zorder=4, **style)
            set_titles(mean, [f"{difference.name} − {against}: {_with_interval(difference.interval, unit, _signed)}"])
        name = "\n".join(_wrapped(f"{difference.name} − {against}"))
        place: Any = {"xycoords": axes.get_yaxis_transform(), "xytext": (0, 9), "textcoords": "offset points"}
        axes.annotate(name, (0.01, row), bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1}, zorder=5, **place)
    axes.set_ylim(len(rows) - 0.6, -0.6)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: _signed(round(value, 12), unit).removesuffix("%"))
    axes.set_xlabel("difference, percentage points" if percent else "difference")


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, NAME_WIDTH) or [name]


def _signed(value: float, unit: Unit) -> str:
    return format_number(value, unit, signed=True)


def _with_interval(interval: Interval, unit: Unit, text: Callable[[float, Unit], str] = format_number) -> str:
    mean = text(interval.mean, unit)
    if not math.isfinite(interval.low):
        return mean
    return f"{mean} [{text(interval.low, unit)}, {text(interval.high, unit)}]"


def _whisker(axes: Axes, interval: Interval, at: float, series: int, *, vertical: bool = True) -> None:
    if math.isfinite(interval.low):
        ends = ([at, at], [interval.low, interval.high])
        axes.plot(*(ends if vertical else ends[::-1]), color=colour(series), solid_capstyle="round", zorder=3)


@mpl.rc_context(STYLE)
def draw_seeds(axes: Axes, arms: Sequence[tuple[str, Sequence[float | None], Interval]]) -> None:
    """Draw every seed of every arm, seeds joined across arms, and each arm's mean and interval beside them.

    Args:
        axes: where to draw.
        arms: name, value of each seed (None: no number) and interval of each arm.
    """
    table = np.array([[np.nan if v is None else v for v in values] for _, values, _ in arms], dtype=float)
    axes.plot(table, color=MUTED, alpha=0.25, linewidth=0.8, zorder=1)
    for place, (name, _, interval) in enumerate(arms):
        values = table[place][np.isfinite(table[place])]
        style: Any = {"color": colour(place)}
        if len(values):
            (seeds,) = axes.plot([place] * len(values), values, "o", markersize=5, alpha=0.4, zorder=2, **style)
            set_titles(seeds, [f"{name}: {format_number(value)}" for value in values])
        if math.isfinite(interval.mean):
            _whisker(axes, interval, place + 0.14, place)
            (mean,) = axes.plot(place + 0.14, interval.mean, "D", markersize=6, zorder=4, **style)
            set_titles(mean, [f"{name}: mean {_with_interval(interval, '')}"])
    axes.set_xticks(range(len(arms)), [name for name, *_ in arms])
    axes.set_xlim(-0.5, len(arms) - 0.4)
    axes.yaxis.set_major_formatter(ticks())


@mpl.rc_context(STYLE)
def tile_chart(table: Sequence[Sequence[float]], names: Sequence[str], *, x_label: str, label: str) -> Markup:
    """Return a chart of fractions as tiles, the darker the higher, for more rows than lines can be told apart.

    Args:
        table: fractions, [row, column]; the first row lies at the bottom, columns are counted from 1.
        names: of the rows.
        x_label: of the columns.
        label: what the fractions are, for the alternative text.
    """
    figure, axes = new_figure(WIDTH, HEIGHT)
    columns = len(table[0])
    cells = [(row, column, value) for row, values in enumerate(table) for column, value in enumerate(values, start=1)]
    tiles = PatchCollection(
        [Rectangle((column - 0.5, row - 0.46), 1, 0.92) for row, column, _ in cells],
        facecolors=[to_rgba(colour(0), 0.04 + 0.96 * value) for *_, value in cells],
        linewidths=0,
    )
    set_titles(
        tiles, [f"{names[row]}, {x_label} {column}: {format_number(value, '%')}" for row, column, value in cells]
    )
    axes.add_collection(tiles)
    axes.grid(visible=False)
    axes.set_xlim(0.5, columns + 0.5)
    axes.set_ylim(-0.5, len(table) - 0.5)
    axes.set_yticks(range(len(table)), names)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    axes.set_xlabel(x_label)
    ends = "; ".join(
        f"{name} ends at {format_number(values[-1], '%')}" for name, values in zip(names, table, strict=True)
    )
    return to_svg(figure, f"{label} by {x_label}: {ends}")


@cache
@mpl.rc_context(STYLE)
def swatch(series: int) -> Markup:
    """Return a short piece of a series' line, for a legend."""
    figure, axes = new_figure(32, 14)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    axes.plot([1 / 32, 31 / 32], [0.5, 0.5], color=colour(series), linestyle=dash(series))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return to_svg(figure, "", "swatch")
