"""A run of the stock market: what it writes, real kills, budgets, bad input, and its actions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runs.fork_server import Ask, served
from tests.runs.what_counts import what_counts

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.runs import Run
from pilotage.systems.societies.stock_agent import SYSTEM
from pilotage.systems.societies.stock_agent.actions import counterfactual, estimate_cost
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.metrics import market_metrics
from pilotage.systems.societies.stock_agent.simulate import market_of, scripted_traders, simulate

SMALL = StockMarketConfig(agents=8, days=22, checkpoint_every=5)
TABLES = ("trades", "orders", "loans", "prices", "ledger")


def played(folder: Path, config: StockMarketConfig, seed: int = 0) -> Run:
    with Run.create(folder, system="stock-agent", config=config_to_dict(config), seed=seed) as run:
        result = simulate(config, run)
        assert run.undescribed == []
        run.finish(result.metrics)
    return run


def lines(run: Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.directory / f"{name}.jsonl").read_text().splitlines()]


def table(run: Run, name: str) -> list[dict[str, str]]:
    with (run.directory / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


FILES = tuple(f"{name}.csv" for name in TABLES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return played(tmp_path_factory.mktemp("market") / "run", SMALL)


def test_the_tables_agree_with_one_another_and_with_the_metrics(run: Run) -> None:
    trades, prices, ledger, metrics = (
        table(run, "trades"),
        table(run, "prices"),
        table(run, "ledger"),
        lines(run, "metrics"),
    )
    assert len(prices) == 22 * 2
    assert len(ledger) == 22 * 8
    for row in prices:
        own = [trade for trade in trades if trade["day"] == row["day"] and "AB"[int(trade["stock"])] == row["stock"]]
        assert int(row["volume"]) == sum(int(trade["amount"]) for trade in own)
        line = metrics[int(row["day"]) - 1]
        assert line[f"price/{row['stock']}"] == int(row["session_3"]) / 100
        assert line[f"volume/{row['stock']}"] == int(row["volume"])
        if own and int(own[-1]["session"]) == 3:
            assert own[-1]["price"] == row["session_3"]
    last = [row for row in ledger if row["day"] == "22"]
    closes = {row["stock"]: int(row["session_3"]) for row in prices if row["day"] == "22"}
    for row in last:
        held = sum(int(row[f"shares_{name}"]) * close for name, close in closes.items())
        assert int(row["wealth"]) == int(row["cash"]) + held - int(row["owed"])
    loans = sum(int(row["principal"]) for row in table(run, "loans"))
    assert sum(line["loans/day"] for line in metrics) == pytest.approx(loans / 100)


def test_the_result_is_that_of_the_market_played_without_a_run(run: Run) -> None:
    market = market_of(SMALL, scripted_traders(SMALL), run.seed_for("market") % 2**32)
    while not market.over:
        market.advance()
    result = dict(run.result or {})
    for name, value in market_metrics(market).items():
        assert result[name] == pytest.approx(value)
    assert (result["days"], result["complete"]) == (22, 1)


def test_a_run_says_that_its_traders_are_scripted(run: Run) -> None:
    assert any("scripted" in words for words in run.manifest.scripted_components)


def test_matching_equal_prices_alone_fills_far_less(tmp_path: Path) -> None:
    config = replace(SMALL, agents=20)
    rates = {
        rule: dict(played(tmp_path / rule, replace(config, rule=rule)).result or {})["fill_rate"]
        for rule in ("continuous", "exact")
    }
    assert rates["exact"] < 0.5 * rates["continuous"]


# ---- killed and resumed ----------------------------------------------------------------------------------------------

MARKET = "stock-agent --agents 6 --days 8 --checkpoint-every 2 --quiet"
WORDS = {
    "scripted": f"{MARKET} --spam-share .2 --max-posts 4",
    "learned": f"{MARKET} --traders learned --learned-share .5 --trader-updates 0",
    "model": f"{MARKET} --traders llm --agents 3",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Ask]:
    with served(Path(__file__).resolve().parents[3] / "training" / "training_server.py") as ask:
        yield ask


@pytest.mark.parametrize("name", WORDS)
def test_a_market_killed_twice_equals_an_undisturbed_one(server: Ask, name: str, tmp_path: Path) -> None:
    if name == "model":
        pytest.importorskip("pydantic", reason="traders played by a model need pilotage[llm]")
    words = WORDS[name].split()
    whole = server(tmp_path / "whole", words=words)
    assert whole["status"] == 0
    place = tmp_path / "killed"
    assert server(place, words=words, kill_at=whole["calls"] // 2)["status"] == -9
    server(place, words=words, kill_at=whole["calls"] // 3)
    assert server(place, words=words)["status"] in (0, 3)
    assert server(place, words=words)["status"] == 3, "a finished run has nothing to do"
    assert what_counts(place, *FILES) == what_counts(tmp_path / "whole", *FILES)


# ---- a language model's stand-in -------------------------------------------------------------------------------------


def test_a_budget_that_is_used_up_finishes_the_day_and_marks_the_run(tmp_path: Path) -> None:
    pytest.importorskip("pydantic", reason="traders played by a model need pilotage[llm]")
    config = replace(SMALL, agents=4, traders="llm", budget_calls=60)  # a day takes 24
    run = played(tmp_path / "run", config)
    result = dict(run.result or {})
    assert (result["days"], result["complete"]) == (3, 0)
    assert any(event["kind"] == "budget" for event in lines(run, "events"))
    assert max(int(row["day"]) for row in table(run, "orders")) <= 3
    assert any("stand-in" in words for words in run.manifest.scripted_components)


# ---- actions ---------------------------------------------------------------------------------------------------------


def test_a_counterfactual_is_paired_and_finds_no_effect_before_there_is_one(run: Run) -> None:
    found = counterfactual(SMALL, run.directory, "rate_events", 2)  # the first decision comes on day 78
    assert all(row["difference"] == 0 for row in found["differences"])
    found = counterfactual(SMALL, run.directory, "forum", 2)
    rows = {row["measure"]: row for row in found["differences"]}
    assert any(row["difference"] != 0 for row in rows.values())
    for row in rows.values():
        assert row["difference"] == pytest.approx(row["with"] - row["without"], abs=2e-3 * abs(row["with"]) + 1e-9)
        assert row["95 % from"] <= row["difference"] <= row["to"]


def test_counterfactuals_that_cannot_be_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="one of rate_events"):
        counterfactual(SMALL, run.directory, "weather", 2)
    with pytest.raises(UsageError, match="was off"):
        counterfactual(replace(SMALL, forum=False), run.directory, "forum", 2)
    with pytest.raises(UsageError, match="asked anew"):
        counterfactual(replace(SMALL, traders="llm"), run.directory, "forum", 2)
    with pytest.raises(UsageError, match="2 seeds"):
        counterfactual(SMALL, run.directory, "forum", 1)


def test_an_estimate_counts_turns_and_calls() -> None:
    found = estimate_cost(SMALL)
    assert found["turns"] == 22 * 3 * 8
    assert found["seconds"] > 0
    asked = estimate_cost(replace(SMALL, agents=50, days=264, traders="llm", provider="endpoint", model="m"))
    assert asked["calls of the model, without repairs"] == 79_200


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"agents": 1}, "--agents"),
        ({"days": 0}, "--days"),
        ({"spam_share": 1.0}, "--spam-share"),
        ({"traders": "llm", "provider": "endpoint"}, "--model"),
    ],
)
def test_configurations_that_cannot_be_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(SMALL, **wrong)


def test_the_system_is_found_with_its_card() -> None:
    from pilotage.core.registry import find_system

    system = find_system("stock-agent")
    assert system == SYSTEM
    assert set(system.actions) == {"estimate_cost", "counterfactual"}
