"""Panels of a calibrated epidemic: simulated against reported cases, for the city and its boroughs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pilotage.charts.charts import Line, line_chart
from pilotage.charts.panels import Panel, Transcript
from pilotage.core.errors import UsageError
from pilotage.runs.reader import RunRecord, read_log
from pilotage.systems.societies.agent_torch import report_unemployment as unemployment

CURVES = "curves.json"
FORMAT = 1
REPORTED, CALIBRATED, FORECAST = 0, 1, 2
"""Series of the three lines."""
MOST_TRANSCRIPTS = 6


def panels(run: RunRecord) -> list[Panel]:
    """Return the panels of a run; none before it has written its curves. Raises UsageError for another format."""
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
    if transcripts := _transcripts(run):
        found.append(
            Panel(
                "answers",
                "What was answered",
                "One of the answers to each question of a kind.",
                transcripts=transcripts,
            )
        )
    return found


def _chart(reported: NDArray[Any], simulated: dict[str, NDArray[Any]], known: int, place: str) -> Markup:
    """Weeks count from 1."""
    x = np.arange(1, len(reported) + 1, dtype=float)

    def part(name: str, weeks: slice, series: int) -> Line:
        median, low, high = (simulated[end][weeks] for end in ("median", "low", "high"))
        return Line(name, x[weeks], median, (low, high), series)

    lines = [Line("reported", x, reported, series=REPORTED), part("known weeks", slice(0, known), CALIBRATED)]
    if known < len(x):
        lines.append(part("forecast", slice(known, None), FORECAST))
    return line_chart(lines, x_label="week", y_label=f"weekly cases, {place}")


def _transcripts(run: RunRecord) -> tuple[Transcript, ...]:
    lines = [line for line in read_log(run.directory / "rollouts.jsonl") if "completion" in line and "who" in line]
    return tuple(
        Transcript(str(e["who"]), int(e["step"]), str(e["prompt"]), str(e["completion"]), str(e.get("model", "")))
        for e in lines[:MOST_TRANSCRIPTS]
    )
