"""A report stays small when the run is large, and says what it leaves out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page_parser import Page
from synthetic import write_run

from pilotage.charts.charts import MOST_POINTS, Line, line_chart, thin
from pilotage.report import write_report
from pilotage.report.page import MOST_EVENTS, MOST_EXAMPLES


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("large") / "run"
    write_run(directory, "grpo", 0.05, 0)
    values = np.random.default_rng(0).random((20_000, 12)).round(6).tolist()
    names = ["reward/mean", *(f"loss/{i}" for i in range(11))]
    metrics = [{"step": step, **dict(zip(names, row, strict=True))} for step, row in enumerate(values, start=1)]
    events = [{"step": row["step"], "kind": "unread answer", "text": f"event {row['step']}"} for row in metrics]
    rollouts = [
        {"step": row["step"], "prompt": "p", "completion": "c" * 900, "reward": 1.0, "level": row["step"] % 500}
        for row in metrics
    ]
    rollouts[-1]["completion"] = "begin" + "x" * 100_000 + "end"
    for name, rows in (("metrics", metrics), ("events", events), ("rollouts", rollouts)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_report(directory).read_text()


def test_a_run_of_20_000_rows_has_a_report_below_two_megabytes(large: str) -> None:
    assert len(large) < 2e6


def test_what_is_left_out_is_said_with_its_number(large: str) -> None:
    page = Page(large)
    assert page.text.count("unread answer") == MOST_EVENTS
    assert f"{20_000 - MOST_EVENTS:,} further events" in page.text
    assert "event 20000" in page.text
    assert page.text.count("✓ right") == MOST_EXAMPLES
    assert f"The first {MOST_EXAMPLES} are shown" in page.text


def test_thinning_keeps_both_ends_and_every_peak() -> None:
    y = np.zeros(50_000)
    y[[777, 31_234]] = 5.0, -7.0
    kept = thin(y)
    assert len(kept) <= MOST_POINTS
    assert {0, 777, 31_234, 49_999} <= set(kept.tolist())
    assert np.all(np.diff(kept) > 0)
    assert thin(y[:100]).tolist() == list(range(100))
    assert {0, 777, 49_999} <= set(thin(np.where(y > 0, y, np.nan)).tolist())


def test_a_long_line_of_any_chart_is_thinned() -> None:
    x = np.arange(50_000.0)
    chart = line_chart([Line("a", x, np.sin(x), band=(np.sin(x) - 1, np.sin(x) + 1))], x_label="x", y_label="y")
    assert len(chart) < 200_000
