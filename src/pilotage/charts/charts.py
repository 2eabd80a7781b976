"""Charts as inline SVG that takes its colours from the page, so that one file is right in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from markupsafe import Markup

from pilotage.charts.curves import Curve
from pilotage.evaluation.verdicts import Interval

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
DIGIT = 7
"""Width of a tick's digit, at most."""
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 3")
"""One per arm, with its colour: arms can be told apart without seeing colours."""
ARMS = len(DASHES)


class _Scale:
    """Maps data to pixels, and says where to put ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, ticks: int) -> None:
        if high <= low:
            low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
        self.low, self.high, self.start, self.end = low, high, start, end
        step = _nice((high - low) / ticks)
        self.step = step
        self.ticks = [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(curves: Sequence[tuple[int, Curve]], *, x_label: str, y_label: str, percent: bool = False) -> Markup:
    """Curves with their bands. Each comes with the index of its arm, which gives colour and dash."""
    everything = [v for _, c in curves for v in (*c.mean, *c.low[np.isfinite(c.low)], *c.high[np.isfinite(c.high)])]
    low, high = min(everything), max(everything)
    if percent:
        low, high = max(0.0, low), min(1.0, high)
    pad = (high - low) * 0.06
    x = _Scale(min(c.x[0] for _, c in curves), max(c.x[-1] for _, c in curves), LEFT, WIDTH - RIGHT, 5)
    y = _Scale(low - (pad if low > 0 or not percent else 0), high + pad, HEIGHT - BOTTOM, TOP, 5)
    parts = _frame(x, y, x_label, percent)
    for arm, c in curves:
        if np.isfinite(c.low).all():
            up = [(x(a), _clip(y, b)) for a, b in zip(c.x, c.high, strict=True)]
            down = [(x(a), _clip(y, b)) for a, b in zip(c.x, c.low, strict=True)][::-1]
            parts.append(f'<path class="band {_class(arm)}" d="{_path(up + down)}Z"/>')
    for arm, c in curves:
        points = [(x(a), y(b)) for a, b in zip(c.x, c.mean, strict=True)]
        parts.append(
            f'<path class="line {_class(arm)}" {_dash(arm)} d="{_path(points)}"><title>{escape(c.name)}</title></path>'
        )
        last = f"{escape(c.name)}: {_number(float(c.mean[-1]), percent)}"
        at = f'cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}"'
        parts.append(f'<circle class="dot {_class(arm)}" {at} r="3"><title>{last}</title></circle>')
    label = f"{y_label} against {x_label}: " + "; ".join(
        f"{c.name} ends at {_number(float(c.mean[-1]), percent)}" for _, c in curves
    )
    return _svg(parts, WIDTH, HEIGHT, label)


def level_chart(
    levels: Sequence[str], arms: Sequence[tuple[str, Sequence[Interval]]], *, percent: bool = True
) -> Markup:
    """Final values by level: one dot with its interval for each arm and level."""
    values = [v for _, intervals in arms for i in intervals for v in (i.mean, i.low, i.high) if math.isfinite(v)]
    width = max(420, 100 + len(levels) * 40)
    low, high = (0.0, 1.0) if percent else (min(values), max(values))
    x = _Scale(-0.5, len(levels) - 0.5, LEFT, width - RIGHT, 4)
    y = _Scale(low, high, HEIGHT - BOTTOM, TOP, 4)
    parts = _y_grid(y, percent, width)
    for position, level in enumerate(levels):
        parts.append(_text(x(position), HEIGHT - BOTTOM + 17, level, "middle"))
    parts.append(_text((LEFT + width - RIGHT) / 2, HEIGHT - 5, "level", "middle", "axis"))
    room = min(0.16, 0.6 / max(1, len(arms)))
    for arm, (name, intervals) in enumerate(arms):
        shift = (arm - (len(arms) - 1) / 2) * room
        there = [(x(p + shift), i, level) for p, (i, level) in enumerate(zip(intervals, levels, strict=True))]
        there = [(px, i, level) for px, i, level in there if math.isfinite(i.mean)]
        points = [(px, y(i.mean)) for px, i, _ in there]
        parts.append(f'<path class="line thin {_class(arm)}" {_dash(arm)} d="{_path(points)}"/>')
        for px, i, level in there:
            if math.isfinite(i.low):
                ends = f'y1="{_clip(y, i.low):.1f}" y2="{_clip(y, i.high):.1f}"'
                parts.append(f'<line class="whisker {_class(arm)}" x1="{px:.1f}" x2="{px:.1f}" {ends}/>')
            title = f"<title>{escape(name)}, level {escape(level)}: {_number(i.mean, percent)}</title>"
            parts.append(f'<circle class="dot {_class(arm)}" cx="{px:.1f}" cy="{y(i.mean):.1f}" r="4">{title}</circle>')
    return _svg(parts, width, HEIGHT, "final values by level: " + ", ".join(name for name, _ in arms))


def forest_chart(
    rows: Sequence[tuple[int, str, Sequence[float], Interval]], *, against: str, percent: bool = False
) -> Markup:
    """Differences from `against`: for each arm (index, name, difference per seed, interval) dot, whisker and seeds."""
    width, row_height, left = 420, 46, 18
    height = 52 + row_height * len(rows)
    values = [0.0, *(v for _, _, seeds, i in rows for v in (*seeds, i.low, i.high) if math.isfinite(v))]
    pad = (max(values) - min(values)) * 0.05 or 0.1
    x = _Scale(min(values) - pad, max(values) + pad, left, width - 18, 5)
    bottom = height - 44
    label = "difference, percentage points" if percent else "difference"
    parts = [_text((left + width - 18) / 2, height - 6, label, "middle", "axis")]
    scale = 100 if percent else 1
    for tick in x.ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{bottom}"/>')
        text = _tick(scale * tick, scale * x.step, percent=False, signed=True)
        parts.append(_text(x(tick), bottom + 16, text, "middle"))
    parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{bottom}"/>')
    for row, (arm, name, seeds, interval) in enumerate(rows):
        middle = 14 + row_height * (row + 0.5)
        for value in seeds:
            parts.append(f'<circle class="seed {_class(arm)}" cx="{x(value):.1f}" cy="{middle:.1f}" r="3.5"/>')
        if math.isfinite(interval.low):
            ends = f'x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}"'
            parts.append(f'<line class="whisker {_class(arm)}" {ends} y1="{middle:.1f}" y2="{middle:.1f}"/>')
        if math.isfinite(interval.mean):
            at = x(interval.mean)
            diamond = [(at - 5, middle), (at, middle - 5), (at + 5, middle), (at, middle + 5)]
            parts.append(f'<path class="mean {_class(arm)}" d="{_path(diamond)}Z"/>')
            anchor = "start" if at < width / 2 else "end"
            parts.append(_text(at, middle - 12, f"{name} − {against}", anchor, "row"))
    return _svg(parts, width, height, f"differences from {against} with intervals")


def swatch(arm: int) -> Markup:
    """The line of an arm, for a legend."""
    line = f'<line class="line {_class(arm)}" {_dash(arm)} x1="1" x2="31" y1="7" y2="7"/>'
    return Markup(f'<svg class="swatch" viewBox="0 0 32 14" width="32" height="14" aria-hidden="true">{line}</svg>')


def _frame(x: _Scale, y: _Scale, x_label: str, percent: bool) -> list[str]:
    parts = _y_grid(y, percent, WIDTH)
    for tick in x.ticks:
        text = _tick(tick, x.step, False)
        within = min(x(tick), WIDTH - len(text) * DIGIT / 2)
        parts.append(_text(within, HEIGHT - BOTTOM + 17, text, "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, "middle", "axis"))
    return parts


def _y_grid(y: _Scale, percent: bool, width: float) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = f'y1="{y(tick):.1f}" y2="{y(tick):.1f}"'
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" {at}/>')
        parts.append(_text(LEFT - 7, y(tick) + 4, _tick(tick, y.step, percent), "end"))
    return parts


def _svg(parts: Sequence[str], width: float, height: float, label: str) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{px:.1f},{py:.1f}" for px, py in points)


def _class(arm: int) -> str:
    return f"arm{arm % ARMS}"


def _dash(arm: int) -> str:
    return f'stroke-dasharray="{DASHES[arm % ARMS]}"' if DASHES[arm % ARMS] else ""


def _clip(scale: _Scale, value: float) -> float:
    return scale(min(max(value, scale.low), scale.high))


def _nice(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    return next(nice * magnitude for nice in (1, 2, 2.5, 5, 10) if nice * magnitude >= step * 0.999)


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def _tick(value: float, step: float, percent: bool, signed: bool = False) -> str:
    value = 0.0 if abs(value) < step * 1e-6 else value
    show: Callable[[float, float, str], str] = _decimals
    if percent:
        text = show(100 * value, 100 * step, "%")
    elif abs(step) >= 1e6 or (abs(value) >= 1e6 and step >= 1e4):
        text = show(value / 1e6, step / 1e6, "M")
    elif abs(value) >= 1e4 or step >= 1e4:
        text = show(value / 1e3, step / 1e3, "k") if value else "0"
    else:
        text = show(value, step, "")
    if text.startswith("-"):
        return f"−{text[1:]}"
    return f"+{text}" if signed and value > 0 else text


def _decimals(value: float, step: float, unit: str) -> str:
    digits = 0
    while digits < 6 and abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
        digits += 1
    if digits <= 4:
        return f"{value:.{digits}f}{unit}"
    mantissa, exponent = f"{value:.2e}".split("e")  # 0.00075 would be wider than the margin
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}{unit}" if value else f"0{unit}"
