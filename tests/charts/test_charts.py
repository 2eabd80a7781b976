from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pilotage.charts.charts import (
    Difference,
    Line,
    ReferenceLevel,
    difference_chart,
    format_number,
    level_chart,
    line_chart,
    swatch,
    tile_chart,
)
from pilotage.charts.plots import claim_plot
from pilotage.charts.style import CSS, SERIES
from pilotage.core.intervals import Interval

ENTRY = {
    "name": "a claim",
    "kind": "better",
    "margin": 0.0,
    "metric": "accuracy",
    "arms": {"a": [0.1, 0.2, None], "b": [0.3, 0.4, 0.5]},
    "comparison": {"of": "b", "against": "a", "difference": 0.2, "interval": [0.1, 0.3]},
    "verdict": "holds",
}


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag.rpartition("}")[2] == tag]


def titles(svg: str) -> list[str]:
    return [element.text or "" for element in elements(svg, "title")]


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in elements(svg, "text")]


def two_lines(name: str = "first") -> list[Line]:
    band = (np.array([0.05, 0.1, 0.2]), np.array([0.15, 0.3, 0.4]))
    return [Line(name, [0, 5, 10], [0.1, 0.2, 0.3], band), Line("second", [0, 5, 10], [0.3, 0.2, 0.1], series=1)]


def test_values_are_shown_on_hover_and_the_last_ones_are_said() -> None:
    svg = line_chart(two_lines(), x_label="step", y_label="accuracy", unit="%")
    assert "first, 5: 20% [10%, 30%]" in titles(svg)
    assert "second, 10: 10%" in titles(svg)
    label = ElementTree.fromstring(svg).attrib["aria-label"]
    assert label == "accuracy by step: first ends at 30%; second ends at 10%"


def test_colours_are_variables_that_a_page_declares_for_light_and_dark(tmp_path: Path) -> None:
    svg = line_chart(two_lines(), x_label="step", y_label="accuracy")
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", svg))
    assert {"series-1", "series-2", "muted", "grid"} <= used
    assert not re.search("#[0-9a-f]{6}", svg)
    light, dark = CSS.split("@media (prefers-color-scheme: dark)")
    assert all(f"--{name}: #" in part for name in used for part in (light, dark))
    assert CSS in claim_plot(ENTRY, tmp_path / "a.svg").read_text(), "a file brings its colours"


def test_charts_of_one_page_share_no_ids_and_each_finds_its_own() -> None:
    charts = [line_chart(two_lines(name), x_label="step", y_label="y") for name in ("a", "b")]
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in charts]
    assert not ids[0] & ids[1]
    for svg, own in zip(charts, ids, strict=True):
        assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg))
        assert {a or b for a, b in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)} <= own


def test_names_that_look_like_markup_or_mathematics_stay_text() -> None:
    name = "<b>&amp; $x$ $0"
    svg = difference_chart([Difference(name, [0.1], Interval(0.1, 0.0, 0.2))], against="base")
    assert "<b>" not in svg
    assert f"{name} − base" in texts(svg)
    assert f"{name} − base: +0.1 [0, +0.2]" in titles(svg)


def test_a_stepped_line_holds_to_the_end_of_the_axis_and_no_further() -> None:
    line = Line("law", [0.0, 50.0, 400.0], [10.0, 20.0, 30.0], stepped=True)
    levels = [ReferenceLevel("best", 35, 2)]
    svg = line_chart([line], x_label="x", y_label="y", x_range=(0, 100), y_range=(0, 40), levels=levels)
    assert "law, 50: 20" in titles(svg)
    assert not any("400" in title for title in titles(svg))
    assert svg.count("best: 35") == 1
    assert "best at 35" in svg
    short = line_chart([Line("law", [0.0, 50.0], [10.0, 20.0], stepped=True)], x_label="", y_label="", x_range=(0, 100))
    path = next(e for e in elements(short, "path") if "stroke: var(--series-1)" in str(e.attrib))
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"]), dtype=float)
    assert points[0][1] == points[1][1] > points[-2][1] == points[-1][1]
    assert points[-1][0] - points[0][0] == pytest.approx(2 * (points[1][0] - points[0][0]), abs=0.01)


def test_steps_and_years_have_whole_ticks() -> None:
    svg = line_chart([Line("a", [1, 2, 3, 4], [1, 2, 3, 4])], x_label="year", y_label="y")
    assert [text for text in texts(svg) if "." in text] == []


def test_tiles_are_fuller_where_fractions_are_higher() -> None:
    svg = tile_chart([[0.0, 0.5, 1.0], [0.2, 0.2, 0.2]], ["from $0", "from $9k"], x_label="year", label="rates")
    opacities = re.findall(r"fill: var\(--series-1\)(?:; fill-opacity: ([\d.]+))?", svg)
    assert [float(o or 1) for o in opacities] == pytest.approx([0.04, 0.52, 1.0, 0.232, 0.232, 0.232])
    assert titles(svg)[-1] == "from $9k, year 3: 20%"
    assert {"from $0", "from $9k"} <= set(texts(svg))


def test_a_level_without_a_number_is_left_out() -> None:
    svg = level_chart(["1", "2"], [("a", [Interval(0.5, 0.4, 0.6), Interval(math.nan, math.nan, math.nan)])])
    assert titles(svg) == ["a, level 1: 50% [40%, 60%]"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.00025, "", "0.00025"), (-1234.5, "$", "−$1234"), (123_456, "", "123.5k"), (0.5, "%", "50%"), (-0.0, "", "0")],
)
def test_numbers_as_text(value: float, unit: str, text: str) -> None:
    assert format_number(value, unit) == text  # type: ignore[arg-type]


def test_every_series_has_a_swatch_of_its_own() -> None:
    assert len({swatch(series) for series in range(len(SERIES))}) == len(SERIES)
    assert swatch(0) == swatch(0)


def test_the_plot_of_a_claim_is_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    svg = claim_plot(ENTRY, tmp_path / "a.svg").read_text()
    assert claim_plot(ENTRY, tmp_path / "b.svg").read_text() == svg
    assert {"b: 0.4", "b: mean 0.4 [0.1516, 0.6484]"} <= set(titles(svg))
    assert "a claim: holds" in texts(svg)
    assert "quick pass, no evidence: a claim: holds" in texts(
        claim_plot(ENTRY, tmp_path / "q.svg", quick=True).read_text()
    )
    arms = {"a: x": [1.0, 2.0], "b: x": [1.0, 2.0], "a: y": [3.0, 4.0]}
    frontier = claim_plot({**ENTRY, "kind": "frontier", "arms": arms}, tmp_path / "c.svg").read_text()
    assert {"x", "y"} <= set(texts(frontier))


def test_dates_stand_on_the_axis_and_on_hover() -> None:
    days = np.arange(np.datetime64("2020-09-05"), np.datetime64("2021-03-28"), 7).astype(float)
    chart = line_chart([Line("cases", days, np.arange(len(days)))], x_label="week", y_label="cases", dates=True)
    assert "cases, 2020-09-05: 0" in chart
    assert any(f">{month}<" in chart for month in ("Nov", "2021-01", "2021"))
    assert "18510" not in chart


def test_a_long_name_beside_a_difference_is_wrapped_and_not_cut() -> None:
    name = "bnpo --advantage 0.5*mvar:size=2+0.5*zscore --surrogate clip:low=0.2,high=0.28 --filter informative"
    chart = difference_chart([Difference(name, [0.1], Interval(0.1, 0.0, 0.2))], against="grpo")
    words = [word for word in (*name.split(), "grpo") if f">{word}" in chart or f" {word}" in chart]
    assert words == [*name.split(), "grpo"]


@pytest.mark.parametrize(("value", "text"), [(1.2e-5, "1.2 × 10⁻⁵"), (2.986e5, "298.6k"), (-0.0, "0")])
def test_numbers_of_charts_have_no_e(value: float, text: str) -> None:
    assert format_number(value) == text
