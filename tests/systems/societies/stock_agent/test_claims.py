"""Every measure of StockAgent's claims, tiny, against a direct computation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotage.core.configuration import configure
from pilotage.core.registry import find_claims, find_system
from pilotage.experiments.planning import check_claims
from pilotage.systems.societies.stock_agent import measures
from pilotage.systems.societies.stock_agent.actions import simulate_market
from pilotage.systems.societies.stock_agent.claims import CLAIMS


@dataclass
class Context:
    """What a measure gets, without cells."""

    command: str = "stock-agent --agents 10 --days 30"
    quick: bool = True
    artifacts: dict[str, Any] = field(default_factory=dict)

    def configuration(self) -> Any:
        return configure(find_system("stock-agent"), self.command.split()[1:])


def test_the_catalogue_finds_claims_that_keep_the_rules() -> None:
    assert find_claims("stock-agent") == CLAIMS
    check_claims(CLAIMS)
    assert len(CLAIMS) <= 10
    for claim in CLAIMS:
        for arm in claim.arms.values():
            configure(find_system("stock-agent"), arm.command.split()[1:])


def test_a_surprise_is_measured_against_the_same_market_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context("stock-agent --agents 20")
    found = [{arm: measures.surprise(arm, unit, context) for arm in ("good", "bad")} for unit in range(3)]
    for one in found:
        without = one["good"]["raw"] - one["good"]["response"]
        assert without == pytest.approx(one["bad"]["raw"] - one["bad"]["response"])
        assert one["good"]["wrong"] == (one["good"]["response"] <= 0)
        assert one["bad"]["wrong"] == (one["bad"]["response"] >= 0)
    assert np.mean([one["good"]["response"] - one["bad"]["response"] for one in found]) > 0.02
    monkeypatch.setattr(measures, "SURPRISE", 0.0)
    assert measures.surprise("good", 0, context)["response"] == 0


def test_the_rise_is_left_out_in_one_arm_only() -> None:
    context = Context("stock-agent --agents 4 --days 150")
    rise, none = (measures.without_rise(arm, 0, context) for arm in ("rise", "no rise"))
    assert rise["borrowed"] == whole_borrowed(context)
    assert np.isfinite(none["borrowed"])


def whole_borrowed(context: Context) -> float:
    loans = simulate_market(context.configuration(), 0).record.loans
    return sum(loan[3] for loan in loans if loan[0] >= 144) / 100 / 7


def test_the_classifier_tells_styles_apart() -> None:
    assert measures.told_apart("market", 1, Context("stock-agent --agents 30 --days 120"))["accuracy"] > 0.8


def test_the_linear_classifier_separates_what_a_line_separates() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(200, 3))
    labels = np.where(table @ [1.0, -2.0, 0.0] > 0.5, 1, -1)
    fitted = measures.fit_linear(table, labels)
    assert (measures.predict_linear(table, fitted) == labels).mean() > 0.9


def test_orders_follow_the_firm_and_not_its_name() -> None:
    context = Context("stock-agent --agents 30 --days 22")
    named, swapped = (measures.named(arm, 0, context) for arm in ("named", "swapped"))
    assert named["share"] == pytest.approx(swapped["share"], abs=0.1)
    assert 0 < named["share"] < 1


def test_prices_are_held_against_those_of_real_stocks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measures.stylised("market", 0, Context())
    market = simulate_market(Context().configuration(), 0)
    returns = np.diff(np.log(market.record.closes(market.scenario.prices)), axis=0)
    assert found["volatility"] == pytest.approx(returns.std(0).mean())
    for name, (low, high) in measures.REAL.items():
        assert found[f"{name}_outside"] == (found[name] < low or found[name] > high)
    monkeypatch.setitem(measures.REAL, "volatility", (found["volatility"] - 0.001, found["volatility"] + 0.001))
    assert measures.stylised("market", 0, Context())["volatility_outside"] == 0
    monkeypatch.setitem(measures.REAL, "volatility", (found["volatility"] + 0.001, 1.0))
    assert measures.stylised("market", 0, Context())["volatility_outside"] == 1


def test_the_ranges_of_real_stocks_are_those_of_the_data(shared_data: Path) -> None:
    place = shared_data / "stocknet-prices" / "stocknet88_ohlcv_2012-09-04_2017-09-01.npz"
    closes = np.load(place, allow_pickle=True)["ohlcv"][:, :, 4].astype(float)
    years = []
    for column in closes.T:
        returns = np.diff(np.log(column[~np.isnan(column)]))
        years += [returns[first : first + 263] for first in range(0, len(returns) - 262, 263)]
    table = np.stack(years, 1)
    centred = table - table.mean(0)
    numbers = {
        "kurtosis": (centred**4).mean(0) / (centred**2).mean(0) ** 2 - 3,
        "autocorrelation/absolute": [np.corrcoef(np.abs(y[1:]), np.abs(y[:-1]))[0, 1] for y in years],
        "autocorrelation": [np.corrcoef(y[1:], y[:-1])[0, 1] for y in years],
        "volatility": table.std(0),
    }
    assert len(years) == 345
    for name, found in numbers.items():
        np.testing.assert_allclose(np.percentile(found, [5, 95]), measures.REAL[name], atol=0.006)
