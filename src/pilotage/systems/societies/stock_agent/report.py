"""Panels of a stock market: prices with valuations, volume, depth, loans, wealth by character, transcripts."""

from __future__ import annotations

import json

from markupsafe import Markup

from pilotage.charts.charts import Line, line_chart
from pilotage.charts.panels import Panel, Transcript
from pilotage.runs.reader import RunRecord, read_log
from pilotage.systems.societies.stock_agent.env.population import CHARACTERS

METRICS = (
    ("distance", "mean distance of prices from valuations, as a logarithm"),
    ("volatility", "standard deviation of daily returns"),
    ("autocorrelation", "autocorrelation of daily returns"),
    ("autocorrelation/absolute", "autocorrelation of absolute daily returns"),
    ("kurtosis", "excess kurtosis of daily returns"),
    ("volume", "shares traded a day"),
    ("fill_rate", "share of ordered shares that were traded"),
    ("hold_rate", "share of turns without an order"),
    ("order_size", "median order over its trader's opening wealth"),
    ("order_size/low", "the same, lower quartile"),
    ("order_size/high", "the same, upper quartile"),
    ("loans", "dollars borrowed a day"),
    ("herding", "correlation of two traders' net orders"),
    ("concentration", "Herfindahl index of holdings"),
    ("bankrupt", "traders who had to leave"),
    ("forecasts", "share of forecast orders that were placed the next day"),
)


def panels(run: RunRecord) -> list[Panel]:
    """Return the panels of a run, finished or not; none before the second day."""
    stocks = [name.removeprefix("price/") for name in run.names if name.startswith("price/")]
    if not stocks or len(run.points(f"price/{stocks[0]}")[0]) < 2:
        return []
    made = [_prices(run, stocks), _trading(run, stocks), _wealth(run), _training(run), _table(run), _transcripts(run)]
    return [panel for panel in made if panel is not None]


def _line(run: RunRecord, series: int, label: str, metric: str, scale: float = 1.0) -> Line:
    days, values = run.points(metric)
    return Line(label, days, values * scale, series=series)


def _prices(run: RunRecord, stocks: list[str]) -> Panel:
    figures = []
    for stock in stocks:
        lines = [
            _line(run, 0, "closing price", f"price/{stock}"),
            _line(run, 1, "valuation", f"valuation/{stock}"),
        ]
        figures.append(line_chart(lines, x_label="day", y_label=f"price of {stock}", unit="$", width=760, height=260))
    return Panel(
        key="prices",
        title="Prices and valuations",
        note=f"Stocks {', '.join(stocks)}, in this order. Prices come from trades alone; the valuation is a discounted "
        "cash flow that knows all reports that are out, shown for comparison.",
        legend=((0, "closing price"), (1, "valuation")),
        wide=tuple(figures),
    )


def _trading(run: RunRecord, stocks: list[str]) -> Panel:
    def chart(metric: str, label: str, scale: float) -> Markup:
        lines = [_line(run, series, stock, metric.format(stock), scale) for series, stock in enumerate(stocks)]
        return line_chart(lines, x_label="day", y_label=label)

    loans = line_chart([_line(run, 0, "loans", "loans/day", 1e-6)], x_label="day", y_label="loans")
    charts = (
        ("shares traded, thousands", chart("volume/{}", "volume", 1e-3)),
        ("bids at the end of the day, thousand shares", chart("depth/bids/{}", "bids", 1e-3)),
        ("asks at the end of the day, thousand shares", chart("depth/asks/{}", "asks", 1e-3)),
        ("borrowed that day, million dollars", loans),
    )
    return Panel(
        key="trading",
        title="Volume, depth and loans",
        legend=tuple(enumerate(stocks)),
        figures=charts,
    )


def _wealth(run: RunRecord) -> Panel | None:
    there = [name for name in CHARACTERS if len(run.points(f"wealth/{name}")[0])]
    if not there:
        return None
    lines = [_line(run, series, name, f"wealth/{name}") for series, name in enumerate(there)]
    chart = line_chart(lines, x_label="day", y_label="net wealth, % of the opening", unit="%", width=760, height=280)
    return Panel(
        key="wealth",
        title="Wealth by character",
        note="Net wealth of all traders of a character in per cent of what they began with, at the day's closing "
        "prices.",
        legend=tuple((line.series, line.name) for line in lines),
        wide=(chart,),
    )


def _training(run: RunRecord) -> Panel | None:
    """Return the curves of the training of the learned traders, where there was one."""
    path = run.directory / "training.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    updates = list(range(1, len(kept["updates"]) + 1))
    if not updates:
        return None
    figures = tuple(
        (
            words,
            line_chart([Line(name, updates, [one[name] for one in kept["updates"]])], x_label="update", y_label=name),
        )
        for name, words in kept["explained"].items()
    )
    return Panel(
        key="training",
        title="Training of the learned traders",
        note="By PPO, before this run, in other markets with scripted traders; each update plays new markets, whose "
        "random numbers move the reward most. One training serves all seeds.",
        figures=figures,
    )


def _table(run: RunRecord) -> Panel | None:
    if not run.result:
        return None
    known = [(words, run.result.get(name)) for name, words in METRICS]
    rows = [(words, f"{value:,.4g}") for words, value in known if value is not None]
    rows += [(f"not carried out: {name}", f"{run.final(name):,.0f}") for name in run.names if _is_count(name)]
    return Panel(key="metrics", title="Metrics", columns=("metric", "value"), rows=tuple(rows))


def _is_count(name: str) -> bool:
    return name.startswith(("refused/", "replies/"))


def _transcripts(run: RunRecord) -> Panel | None:
    kept = [line for line in read_log(run.directory / "rollouts.jsonl") if "who" in line]
    if not kept:
        return None
    last = [line for line in kept if line["step"] == kept[-1]["step"]]
    transcripts = tuple(
        Transcript(line["who"], int(line["step"]), line["prompt"], line["completion"], str(line["model"]))
        for line in last
    )
    return Panel(key="said", title="Exchanges with one trader", transcripts=transcripts)
