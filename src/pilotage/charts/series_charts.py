"""Lines over a common axis: several quantities of one run, steps, levels to compare with, a distribution behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from pilotage.charts.charts import _class, _dash, _path, _Scale, _svg, _text, _tick


@dataclass(frozen=True)
class Line:
    """A line and how it is drawn. x rises."""

    arm: int
    """Index of its colour and dash; −1 has neither."""
    name: str
    x: Sequence[float]
    y: Sequence[float]
    stepped: bool = False
    """Whether y holds from each x to the next."""


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, named at its right end."""

    arm: int
    name: str
    y: float


def series_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    backdrop: Sequence[tuple[float, float]] = (),
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    unit: str = "",
    named: bool = False,
    width: float = 380,
    height: float = 250,
) -> Markup:
    """A chart with ticks in `unit` ("%", "$", "" ) on y; the label of y stands in its alternative text and caption.

    levels: compared with; backdrop: (x, height) of a distribution, drawn faintly in the lower third; x_range, y_range:
    in place of what the data span; named: whether lines carry their names at their right ends, in place of a legend."""
    left, right, top, bottom = 52.0, 70.0 if named else 14.0, 12.0, 40.0
    xs = [value for line in lines for value in line.x]
    ys = [value for line in lines for value in line.y] + [level.y for level in levels]
    x_low, x_high = x_range or (min(xs), max(xs))
    pad = (max(ys) - min(ys)) * 0.07
    y_low, y_high = y_range or (min(ys) - pad, max(ys) + pad)
    x = _Scale(x_low, x_high, left, width - right, 8 if width > 500 else 5)
    y = _Scale(y_low, y_high, height - bottom, top, 5)
    parts = []
    for tick in y.ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text(left - 7, y(tick) + 4, _with_unit(tick, y.step, unit), "end"))
    whole = x_range is None and all(float(value).is_integer() for value in xs)
    for tick in _whole_ticks(x_low, x_high) if whole else x.ticks:
        parts.append(_text(x(tick), height - bottom + 17, _tick(tick, 1.0 if whole else x.step, False), "middle"))
    parts.append(_text((left + width - right) / 2, height - 5, x_label, "middle", "axis"))
    if backdrop:
        most, floor = max(share for _, share in backdrop), y(y.low)
        shape = [(x(at), floor - share / most * (floor - top) * 0.35) for at, share in backdrop]
        parts.append(f'<path class="backdrop" d="{_path([(shape[0][0], floor), *shape, (shape[-1][0], floor)])}Z"/>')
    for level in levels:
        at = f'y1="{y(level.y):.1f}" y2="{y(level.y):.1f}"'
        style = f'class="line level {_class(level.arm)}" {_dash(level.arm)}'
        parts.append(f'<line {style} x1="{left}" x2="{width - right}" {at}><title>{escape(level.name)}</title></line>')
    for line in lines:  # the first lies below: it is solid, and dashes on it stay visible
        points = _points(line, x, y)
        parts.append(
            f'<path class="line {_class(line.arm)}" {_dash(line.arm)} d="{_path(points)}">'
            f"<title>{escape(line.name)}</title></path>"
        )
    if named:
        below = -math.inf
        room = height - bottom - 13 * (len(lines) - 1)
        ends = sorted(((_points(line, x, y)[-1][1], line) for line in lines), key=lambda end: end[0])
        for place, (end, line) in enumerate(ends):  # names that would touch move down, as far as there is room
            below = max(min(end, room + 13 * place), below + 13)
            parts.append(_text(width - right + 5, below + 4, line.name, "start", f"name {_class(line.arm)}"))
    said = "; ".join(f"{line.name} ends at {_with_unit(line.y[-1], y.step, unit)}" for line in lines if line.y)
    compared = "".join(f"; {level.name} at {_with_unit(level.y, y.step, unit)}" for level in levels)
    return _svg(parts, width, height, f"{y_label} by {x_label}: {said}{compared}")


def tile_chart(
    table: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    x_label: str,
    label: str,
    width: float = 380,
    height: float = 250,
) -> Markup:
    """Rates in percent [row][column] as tiles, the darker the higher: more rows than lines can be told apart. Columns
    are counted from 1, the first row lies at the bottom."""
    left, right, top, bottom = 86.0, 14.0, 12.0, 40.0
    columns, rows = len(table[0]), len(table)
    x = _Scale(0.5, columns + 0.5, left, width - right, 5)
    y = _Scale(0, rows, height - bottom, top, rows)
    parts = []
    for row, (values, name) in enumerate(zip(table, names, strict=True)):
        parts.append(_text(left - 7, (y(row) + y(row + 1)) / 2 + 4, name, "end"))
        for column, value in enumerate(values, start=1):
            size = f'width="{x(1.5) - x(0.5):.2f}" height="{y(row) - y(row + 1) - 2:.1f}"'
            at = f'x="{x(column - 0.5):.1f}" y="{y(row + 1) + 1:.1f}"'
            title = f"<title>{escape(name)}, {x_label} {column}: {value:.0f}%</title>"
            parts.append(
                f'<rect class="tile arm0" {at} {size} fill-opacity="{0.04 + 0.96 * value / 100:.2f}">{title}</rect>'
            )
    for tick in _whole_ticks(1, columns):
        parts.append(_text(x(tick), height - bottom + 17, f"{tick:.0f}", "middle"))
    parts.append(_text((left + width - right) / 2, height - 5, x_label, "middle", "axis"))
    ends = "; ".join(f"{name} ends at {values[-1]:.0f}%" for name, values in zip(names, table, strict=True))
    return _svg(parts, width, height, f"{label} by {x_label}: {ends}")


def _points(line: Line, x: _Scale, y: _Scale) -> list[tuple[float, float]]:
    """In pixels, cut at the right end of the axis."""
    points: list[tuple[float, float]] = []
    for place, (a, b) in enumerate(zip(line.x, line.y, strict=True)):
        if a > x.high:
            break
        if line.stepped and place:
            points.append((x(a), points[-1][1]))
        points.append((x(a), y(b)))
    if line.stepped:
        points.append((x(x.high), points[-1][1]))
    return points


def _whole_ticks(low: float, high: float) -> list[float]:
    """At most eight, at multiples of 1, 2, 5, 10, …: there is no half year."""
    step = next(m * 10**e for e in range(9) for m in (1, 2, 5) if (high - low) / (m * 10**e) <= 7)
    return [float(tick) for tick in range(math.ceil(low / step) * step, math.floor(high) + 1, step)]


def _with_unit(value: float, step: float, unit: str) -> str:
    text = _tick(value, step, False)
    return f"${text}" if unit == "$" else f"{text}{unit}"
