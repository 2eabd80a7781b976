"""Panels of a tax game: schedules, the years against the optimum, schedules compared, transcripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pilotage.charts.charts import Line, ReferenceLevel, Unit, line_chart, tile_chart
from pilotage.charts.panels import Panel, Transcript
from pilotage.runs.reader import RunRecord, read_log

SCHEDULES = "schedules.json"
SERIES = {"planner": 0, "optimum": 2, "saez": 3, "federal": 1, "flat_50": 5}
"""Colour and dash of each schedule."""
NAMED = {"optimum": "optimum", "saez": "Saez's formula", "federal": "US federal law", "flat_50": "flat 50 %"}
LARGEST_INCOME = 250_000.0
"""Largest income, in dollars, for which rates are drawn."""
BIN = 5_000.0
MOST_LINES = 4
"""Largest number of brackets whose rates are drawn as lines."""


def panels(run: RunRecord) -> Sequence[Panel]:
    """Return schedules, years, a table and transcripts of a run, finished or not; none before the first schedule."""
    path = run.directory / SCHEDULES
    if not path.is_file():
        return ()
    kept = json.loads(path.read_text(encoding="utf-8"))
    made = [_schedules(kept), _years(run, kept), _table(kept), _transcripts(run)]
    return [panel for panel in made if panel is not None]


def _schedules(kept: Mapping[str, Any]) -> Panel:
    all_of = [*([{**kept["final"], "name": "planner"}] if "final" in kept else []), *kept["schedules"]]
    chosen = [one for one in all_of if one["name"] != "flat_50"]
    lines = [
        Line(_name(one["name"]), one["edges"], np.array(one["rates"]) / 100, series=SERIES[one["name"]], stepped=True)
        for one in chosen
    ]
    highest = max([0.6, *(rate / 100 for one in chosen for rate in one["rates"])])
    chart = line_chart(
        lines,
        x_label="income before tax, dollars a year",
        y_label="marginal rate",
        x_range=(0.0, LARGEST_INCOME),
        y_range=(0.0, min(1.04, highest + 0.08)),
        unit="%",
        backdrop=_density(kept["incomes"]),
        width=760,
        height=320,
    )
    return Panel(
        key="schedules",
        title="Tax schedules",
        note="Marginal rate: the tax on the next dollar. The grey shape is the distribution of incomes at 40 "
        "hours a week.",
        legend=tuple((line.series, line.name) for line in lines),
        wide=(chart,),
    )


def _density(incomes: Sequence[float]) -> list[tuple[float, float]]:
    """Return the shares of quantiles in bins of income, smoothed over three bins."""
    edges = np.arange(0, LARGEST_INCOME + BIN, BIN)
    counts, _ = np.histogram(incomes, edges)
    smooth = np.convolve(np.pad(counts, 1, mode="edge"), np.ones(3) / 3, "valid")
    return [(float(a), float(b)) for a, b in zip(edges[:-1] + BIN / 2, smooth, strict=True)]


def _years(run: RunRecord, kept: Mapping[str, Any]) -> Panel | None:
    steps, share = run.points("welfare/share_of_optimum")
    if not len(steps):
        return None
    best = next(one["welfare"] for one in kept["schedules"] if one["name"] == "optimum")
    # With workers who explore or have habits, the fair comparison is what they make of each schedule.
    worth = {one["name"]: (one["same_workers"] or one)["welfare"] / best for one in kept["schedules"]}
    levels = [ReferenceLevel(_name(name), worth[name], SERIES[name]) for name in ("optimum", "saez", "federal")]
    planner = Line("planner", steps, share)
    figures = [
        (
            "social welfare, % of the exact optimum",
            line_chart([planner], levels=levels, x_label="tax year", y_label="welfare, share of optimum", unit="%"),
        ),
        _rates_by_year(run, next(one["edges"] for one in kept["schedules"] if one["name"] == "optimum")),
    ]
    shown: tuple[tuple[str, str, Unit], ...] = (
        ("hours", "weekly hours", ""),
        ("gini", "Gini after tax and rebate", ""),
        ("output", "income before tax per head", "$"),
        ("content", "content with the policy", "%"),
    )
    for metric, caption, unit in shown:
        at, values = run.points(metric)
        if not len(at) or (metric == "content" and not (values != 1).any()):
            continue
        there = {one["name"]: (one["same_workers"] or one).get(metric) for one in kept["schedules"]}
        references = [
            ReferenceLevel(_name(name), v, SERIES[name])
            for name in ("optimum", "federal")
            if (v := there[name]) is not None
        ]
        line = Line("planner", at, values)
        figures.append((caption, line_chart([line], levels=references, x_label="tax year", y_label=caption, unit=unit)))
    legend = ((0, "planner"), *((level.series, level.name) for level in levels))
    how = "the same workers" if kept["schedules"][0]["same_workers"] else "workers who play their best response"
    return Panel(
        key="years",
        title="Year by year",
        note=f"Means over the settled part of each tax year. Horizontal lines: {how} under a constant schedule. "
        "100 % is the best schedule under best responses.",
        legend=legend,
        figures=tuple(figures),
    )


def _rates_by_year(run: RunRecord, edges: Sequence[float]) -> tuple[str, Any]:
    """Return a caption and a chart of the rates: lines for a few brackets, otherwise tiles."""
    names = sorted((n for n in run.names if n.startswith("rate/")), key=lambda n: int(n.partition("/")[2]))
    lines = []
    for place, name in enumerate(names):
        at, values = run.points(name)
        lines.append(Line(f"bracket {place + 1}", at, values / 100, series=place, stepped=True))
    if len(lines) > MOST_LINES:
        rows = [list(line.y) for line in lines]
        froms = [f"from ${edge / 1000:,.0f}k" if edge else "from $0" for edge in edges]
        return "marginal rates: darker is higher", tile_chart(rows, froms, x_label="tax year", label="rates")
    chart = line_chart(lines, x_label="tax year", y_label="marginal rate", y_range=(0.0, 1.04), unit="%", legend=True)
    return "marginal rates", chart


def _table(kept: Mapping[str, Any]) -> Panel:
    best = next(one for one in kept["schedules"] if one["name"] == "optimum")
    same = best["same_workers"]
    rows = []
    for one in [
        *([{**kept["final"], "name": "planner", "same_workers": kept["final"]}] if "final" in kept else []),
        *kept["schedules"],
    ]:
        own = one["same_workers"] or {}
        numbers = own or one
        rows.append(
            (
                "planner, last years" if one["name"] == "planner" else _name(one["name"]),
                " / ".join(f"{rate:.0f}" for rate in one["rates"]),
                f"{100 * own['welfare'] / same['welfare']:.1f}%" if same and own else "–",
                "–" if one["name"] == "planner" else f"{100 * one['welfare'] / best['welfare']:.1f}%",
                f"{numbers['hours']:.1f}",
                f"${numbers['output']:,.0f}",
                f"{numbers['gini']:.3f}",
            )
        )
    return Panel(
        key="compared",
        title="Schedules compared",
        note="Welfare of the same workers under a constant schedule, and under best responses. Hours, income and Gini "
        "show the price: most of the gain over the law is redistribution.",
        columns=(
            "schedule",
            "marginal rates, %",
            "welfare, of the optimum (these workers)",
            "welfare, of the optimum (best responses)",
            "weekly hours",
            "income per head",
            "Gini",
        ),
        rows=tuple(rows),
    )


def _transcripts(run: RunRecord) -> Panel | None:
    said = [line for line in read_log(run.directory / "rollouts.jsonl") if "agent" in line]
    planner = [line for line in said if line["agent"] == "planner"]
    others = [line for line in said if line["agent"] != "planner"]
    chosen = [planner[place] for place in sorted({0, len(planner) // 2, len(planner) - 1}) if planner]
    if others:
        chosen += [line for line in others if line["step"] == others[-1]["step"]][:6]
    if not chosen:
        return None
    return Panel(
        key="transcripts",
        title="Transcripts",
        note="The planner's first, middle and last exchange, and the latest with others, without the JSON state.",
        transcripts=tuple(
            Transcript(
                str(line["agent"]),
                int(line["step"]),
                _without_figures(str(line["prompt"])),
                str(line["completion"]),
                str(line.get("model", "")),
            )
            for line in chosen
        ),
    )


def _without_figures(prompt: str) -> str:
    return "\n".join(row for row in prompt.splitlines() if not row.startswith(("STATE ", "BALLOT ")))


def _name(name: str) -> str:
    return NAMED.get(name, name)
