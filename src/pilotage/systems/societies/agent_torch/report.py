"""What the page of a calibrated epidemic shows: simulated against reported cases, for the city and its boroughs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pilotage.charts.charts import line_chart
from pilotage.charts.curves import Curve
from pilotage.charts.panels import Exchange, Panel
from pilotage.core.errors import UsageError
from pilotage.runs.reader import RunRecord, lines_of
from pilotage.systems.societies.agent_torch import report_unemployment as unemployment

CURVES = "curves.json"
FORMAT = 1
REPORTED, CALIBRATED, FORECAST = 0, 1, 2
"""Colours and dashes of the three lines."""
MOST_EXCHANGES = 6


def panels(run: RunRecord) -> list[Panel]:
    """Nothing before the run has written its curves. Raises UsageError for curves of another format."""
    path = run.directory / CURVES
    if not path.is_file():
        return []
    curves = json.loads(path.read_text())
    if curves.get("format") != FORMAT:
        raise UsageError(f"{path} has format {curves.get('format')!r}; this version of pilotage reads {FORMAT}")
    places = curves["places"]
    table = {name: np.array(curves["simulated"][name], dtype=float) for name in ("low", "median", "high")}
    reported, known = np.array(curves["observed"], dtype=float), int(curves["known"])
    weeks = curves["weeks"]
    # Intervals of a sum are not sums of intervals: the city has none unless the run wrote them.
    city = {name: np.array(values, dtype=float) for name, values in curves["city"].items()}
    source = "invented, with planted values" if curves["source"] == "planted" else curves["source"]
    legend = ((REPORTED, "reported"), (CALIBRATED, "simulated, known weeks"), (FORECAST, "simulated, forecast"))
    note = (
        f"Weekly reported cases from {weeks[0]} to {weeks[-1]} ({source}). Weeks up to {weeks[known - 1]} were known; "
        f"what follows is a forecast, and nothing has looked at those weeks. Lines of simulations are medians of "
        f"{curves['seeds']}, bands their central 95 %"
        + ("; the forecast is brought to the level of the last known weeks" if curves["anchored"] else "")
        + ("; simulations were steered along the known weeks, whose fit is no test." if curves.get("steered") else ".")
    )
    boroughs = tuple(
        (place, _chart(reported[:, index], {name: part[:, index] for name, part in table.items()}, known, place))
        for index, place in enumerate(places)
    )
    whole = _chart(reported.sum(1), city, known, "the city")
    found = [
        Panel("epidemic", "The epidemic", note, legend, figures=(("the city", whole), *boroughs)),
    ]
    if (rates := unemployment.panel(run.directory)) is not None:
        found.append(rates)
    if exchanges := _exchanges(run):
        found.append(
            Panel("answers", "What was answered", "One of the answers to each question of a kind.", exchanges=exchanges)
        )
    return found


def _chart(reported: NDArray[Any], simulated: dict[str, NDArray[Any]], known: int, place: str) -> Markup:
    """Weeks count from 1."""
    x = np.arange(1, len(reported) + 1, dtype=float)
    none = np.full(len(x), np.nan)

    def part(name: str, weeks: slice) -> Curve:
        return Curve(name, x[weeks], *(simulated[end][weeks] for end in ("median", "low", "high")))

    lines = [(REPORTED, Curve("reported", x, reported, none, none)), (CALIBRATED, part("known weeks", slice(0, known)))]
    if known < len(x):
        lines.append((FORECAST, part("forecast", slice(known, None))))
    return line_chart(lines, x_label="week", y_label=f"weekly cases, {place}")


def _exchanges(run: RunRecord) -> tuple[Exchange, ...]:
    lines = [line for line in lines_of(run.directory / "rollouts.jsonl") if "completion" in line and "who" in line]
    return tuple(
        Exchange(str(e["who"]), int(e["step"]), str(e["prompt"]), str(e["completion"]), str(e.get("model", "")))
        for e in lines[:MOST_EXCHANGES]
    )
