"""Panel of unemployment in an epidemic, once it was asked for: published and fitted rates by borough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.charts.charts import Line, line_chart
from pilotage.charts.panels import Panel
from pilotage.core.errors import UsageError

FILE, FORMAT = "unemployment.json", 1
PUBLISHED, FITTED, FORECAST, CONSTANT = 0, 1, 2, 3
"""Series of the lines."""


def panel(directory: Path) -> Panel | None:
    """Return the panel; None before the action wrote its file. Raises UsageError for a file of another format."""
    path = directory / FILE
    if not path.is_file():
        return None
    kept = json.loads(path.read_text())
    if kept.get("format") != FORMAT:
        raise UsageError(f"{path} has format {kept.get('format')!r}; this version of pilotage reads {FORMAT}")
    months, known = kept["months"], int(kept["known"])
    cases = "the last four known weeks' cases again" if kept["cases"] == "carried" else "the cases that were reported"
    note = (
        f"Unemployment in per cent from {months[0]} (month 1) to {months[-1]}, fitted up to {months[known - 1]} with "
        f"three numbers a borough; later months follow from {cases}. Bands are central 95 % of {kept['seeds']} "
        "simulations and of the fit's residuals, without the doubt about the fitted numbers. The published rates are a "
        "copy that was not checked against BLS: their month labels agree with the usual rises in January and June, no "
        "more is known."
    )
    legend = ((PUBLISHED, "published"), (FITTED, "fitted"), (FORECAST, "forecast"), (CONSTANT, "behaviour constant"))
    return Panel(
        "unemployment",
        "Unemployment",
        note,
        legend,
        figures=tuple((place, _chart(kept, index, known, place)) for index, place in enumerate(kept["places"])),
    )


def _chart(kept: Any, place: int, known: int, name: str) -> Any:
    """Months count from 1."""
    published = np.array(kept["published"], dtype=float)[:, place]
    x = np.arange(1, len(published) + 1, dtype=float)
    side = {end: np.array(kept["simulated"]["behaviour"][end])[:, place] for end in ("median", "low", "high")}
    flat = np.array(kept["simulated"]["constant"]["median"])[:, place]
    lines = [Line("published", x, published, series=PUBLISHED)]
    for series, word, part in ((FITTED, "fitted", slice(0, known)), (FORECAST, "forecast", slice(known, None))):
        if len(x[part]):
            lines.append(Line(word, x[part], side["median"][part], (side["low"][part], side["high"][part]), series))
    lines.append(Line("behaviour constant", x, flat, series=CONSTANT))
    return line_chart(lines, x_label="month", y_label=f"unemployment in %, {name}")
