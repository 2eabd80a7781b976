"""The page of a stock market: its charts show what the run logged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilotage.core.configuration import config_to_dict
from pilotage.report.page import write_run_report
from pilotage.runs import Run
from pilotage.runs.reader import read_run
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.report import panels
from pilotage.systems.societies.stock_agent.simulate import simulate


def played(folder: Path, **options: object) -> Path:
    config = StockMarketConfig(agents=6, days=6, checkpoint_every=3, **options)  # type: ignore[arg-type]
    with Run.create(folder, system="stock-agent", config=config_to_dict(config), seed=0) as run:
        run.finish(simulate(config, run).metrics)
    return folder


def test_the_page_shows_prices_with_valuations_volume_depth_and_wealth(tmp_path: Path) -> None:
    folder = played(tmp_path / "run")
    by_key = {panel.key: panel for panel in panels(read_run(folder))}
    assert set(by_key) == {"prices", "trading", "wealth", "metrics"}
    run = read_run(folder)
    for chart, stock in zip(by_key["prices"].wide, "AB", strict=True):
        said = re.findall(r"(closing price|valuation) ends at \$([\d.]+)", chart)
        assert {name for name, _ in said} == {"closing price", "valuation"}
        for name, value in said:
            metric = {"closing price": "price", "valuation": "valuation"}[name]
            assert float(value) == pytest.approx(run.final(f"{metric}/{stock}"), abs=0.5)
    assert len(by_key["trading"].figures) == 4
    rows = dict(by_key["metrics"].rows)  # type: ignore[arg-type]
    assert float(rows["share of turns without an order"]) == pytest.approx(run.result["hold_rate"], rel=1e-3)
    html = write_run_report(folder).read_text()
    assert "no language model is asked" in html
    assert html.count("<svg") >= 7
    assert "Prices and valuations" in html


def test_transcripts_of_a_stand_in_say_that_they_are_scripted(tmp_path: Path) -> None:
    pytest.importorskip("pydantic", reason="traders played by a model need pilotage[llm]")
    folder = played(tmp_path / "run", traders="llm")
    said = {panel.key: panel for panel in panels(read_run(folder))}["said"]
    assert {one.who.rpartition(", ")[2] for one in said.transcripts} == {"loan", "order", "forecast", "post"}
    assert all("scripted stand-in" in one.answer for one in said.transcripts)
    assert "scripted stand-in" in write_run_report(folder).read_text()


def test_a_run_that_has_not_begun_has_no_pictures(tmp_path: Path) -> None:
    config = StockMarketConfig()
    with Run.create(tmp_path / "run", system="stock-agent", config=config_to_dict(config), seed=0):
        pass
    assert panels(read_run(tmp_path / "run")) == []
