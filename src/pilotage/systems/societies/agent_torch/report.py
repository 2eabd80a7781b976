"""Panels of the report: simulated and reported cases, unemployment, and some of the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pilotage.charts.charts import Line, line_chart
from pilotage.charts.panels import Panel, Transcript
from pilotage.core.errors import UsageError
from pilotage.runs.reader import RunRecord, read_log

CURVES, UNEMPLOYMENT = "curves.json", "unemployment.json"
FORMAT = 1
REPORTED, CALIBRATED, FORECAST = 0, 1, 2
"""Series of the lines of an epidemic."""
PUBLISHED, FITTED, PREDICTED, CONSTANT = 0, 1, 2, 3
"""Series of the lines of unemployment."""
MAX_TRANSCRIPTS = 6


def panels(run: RunRecord) -> list[Panel]:
    """Return the panels of a run; empty before it has written its curves."""
    curves = _read(run.directory / CURVES)
    if curves is None:
        return []
    places = curves["places"]
    table = {name: np.array(curves["simulated"][name], dtype=float) for name in ("low", "median", "high")}
    reported, observed = np.array(curves["reported"], dtype=float), int(curves["observed_weeks"])
    weeks = curves["weeks"]
    # Intervals of a sum are not sums of intervals: the city has none unless the run wrote them.
    city = {name: np.array(values, dtype=float) for name, values in curves["city"].items()}
    source = "invented, with planted values" if curves["source"] == "planted" else curves["source"]
    legend = ((REPORTED, "reported"), (CALIBRATED, "simulated, observed weeks"), (FORECAST, "simulated, forecast"))
    note = (
        f"Weekly reported cases from {weeks[0]} to {weeks[-1]} ({source}). Weeks up to {weeks[observed - 1]} were "
        "observed; later weeks are a forecast that did not use them. Lines of simulations are medians of "
        f"{curves['seeds']}, bands their central 95 %"
        + ("; the forecast is corrected to the level of the last observed weeks" if curves["level_correction"] else "")
        + ("; a particle filter followed the observed weeks, so that their fit is no test" * curves["particle_filter"])
        + "."
    )
    boroughs = tuple(
        (
            place,
            _chart(weeks, reported[:, index], {end: part[:, index] for end, part in table.items()}, observed, place),
        )
        for index, place in enumerate(places)
    )
    whole = _chart(weeks, reported.sum(1), city, observed, "the city")
    found = [
        Panel("epidemic", "The epidemic", note, legend, figures=(("the city", whole), *boroughs)),
    ]
    if (rates := _unemployment(run.directory)) is not None:
        found.append(rates)
    if transcripts := _transcripts(run):
        found.append(Panel("answers", "Answers", "Some questions with one of their answers.", transcripts=transcripts))
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a curves file; None where there is none. Raises UsageError for another format."""
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("format") != FORMAT:
        raise UsageError(f"{path} has format {found.get('format')!r}; this version of pilotage reads {FORMAT}")
    return found


def _chart(
    ends: Sequence[str], reported: NDArray[Any], simulated: dict[str, NDArray[Any]], observed: int, place: str
) -> Markup:
    """Draw weekly cases over the last days of the weeks, or over their numbers in an invented city ("week 1")."""
    dates = not ends[0].startswith("week")
    x = np.array(ends, dtype="datetime64[D]").astype(float) if dates else np.arange(1.0, len(ends) + 1)

    def part(name: str, weeks: slice, series: int) -> Line:
        median, low, high = (simulated[end][weeks] for end in ("median", "low", "high"))
        return Line(name, x[weeks], median, (low, high), series)

    lines = [Line("reported", x, reported, series=REPORTED), part("observed weeks", slice(0, observed), CALIBRATED)]
    if observed < len(x):
        lines.append(part("forecast", slice(observed, None), FORECAST))
    return line_chart(lines, x_label="week until" if dates else "week", y_label=f"weekly cases, {place}", dates=dates)


def _transcripts(run: RunRecord) -> tuple[Transcript, ...]:
    lines = [line for line in read_log(run.directory / "rollouts.jsonl") if "completion" in line and "who" in line]
    return tuple(
        Transcript(str(e["who"]), int(e["step"]), str(e["prompt"]), str(e["completion"]), str(e.get("model", "")))
        for e in lines[:MAX_TRANSCRIPTS]
    )


def _unemployment(directory: Path) -> Panel | None:
    """Return the panel of unemployment; None before the action `unemployment` wrote its file."""
    kept = _read(directory / UNEMPLOYMENT)
    if kept is None:
        return None
    months, observed = kept["months"], int(kept["observed_months"])
    cases = (
        "the mean cases of the last four observed weeks"
        if kept["cases"] == "carried"
        else "the cases that were reported"
    )
    note = (
        f"Unemployment in per cent from {months[0]} to {months[-1]}, fitted up to {months[observed - 1]} "
        f"with three numbers per borough; later months follow from {cases}. Bands are central 95 % of {kept['seeds']} "
        "simulations and of the fit's residuals, without the uncertainty about the fitted numbers. The published rates "
        "are a copy that was not checked against BLS."
    )
    legend = ((PUBLISHED, "published"), (FITTED, "fitted"), (PREDICTED, "forecast"), (CONSTANT, "behaviour constant"))
    return Panel(
        "unemployment",
        "Unemployment",
        note,
        legend,
        figures=tuple(
            (place, _rates_chart(kept, index, observed, place)) for index, place in enumerate(kept["places"])
        ),
    )


def _rates_chart(kept: Any, place: int, observed: int, name: str) -> Markup:
    """Draw unemployment over the first days of the months."""
    published = np.array(kept["published"], dtype=float)[:, place]
    x = np.array(kept["months"], dtype="datetime64[D]").astype(float)
    side = {end: np.array(kept["simulated"]["behaviour"][end])[:, place] for end in ("median", "low", "high")}
    flat = np.array(kept["simulated"]["constant"]["median"])[:, place]
    lines = [Line("published", x, published, series=PUBLISHED)]
    for series, word, part in ((FITTED, "fitted", slice(0, observed)), (PREDICTED, "forecast", slice(observed, None))):
        if len(x[part]):
            lines.append(Line(word, x[part], side["median"][part], (side["low"][part], side["high"][part]), series))
    lines.append(Line("behaviour constant", x, flat, series=CONSTANT))
    return line_chart(lines, x_label="month", y_label=f"unemployment in %, {name}", dates=True)
