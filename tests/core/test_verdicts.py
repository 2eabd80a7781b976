"""The rules of verdicts, and what they do when nothing is there to be found (property S23)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pilotage.core.claims import Criterion
from pilotage.core.verdicts import (
    Gate,
    clopper_pearson,
    concordance_p,
    events_judgement,
    judge,
    kendall,
    saturated,
    slopes,
    t_interval,
)

SIMULATIONS = 1000


def draw_rates(generator: np.random.Generator, n: int) -> np.ndarray:
    """Accuracy of one seed: its own true rate (seeds differ), then 200 held-out items: [simulation, unit]."""
    true = generator.beta(30, 45, size=(SIMULATIONS, n))
    return generator.binomial(200, true) / 200


def draw_returns(generator: np.random.Generator, n: int) -> np.ndarray:
    """Mean return of one seed over 30 skewed episodes, plus a seed effect: [simulation, unit]."""
    episodes = generator.gamma(2.0, 50.0, size=(SIMULATIONS, n, 30)).mean(-1)
    return episodes + generator.normal(0, 20, size=(SIMULATIONS, n)) - 200


MEANS = {"rates": 0.4, "returns": -100.0, "differences": 0.0}


def draw(quantity: str, n: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, n])
    if quantity == "rates":
        return draw_rates(generator, n)
    if quantity == "returns":
        return draw_returns(generator, n)
    return draw_rates(generator, n) - draw_rates(generator, n)


@pytest.mark.parametrize("n", [5, 8, 16])
@pytest.mark.parametrize("quantity", ["rates", "returns", "differences"])
def test_intervals_cover_as_often_as_they_say(quantity: str, n: int) -> None:
    intervals = [t_interval(row) for row in draw(quantity, n, seed=1)]
    covered = np.mean([i.low <= MEANS[quantity] <= i.high for i in intervals])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("n", [5, 8, 16])
@pytest.mark.parametrize(
    ("kind", "margin", "shift"),
    # «Better» is false when nothing differs. Not worse and same are true then, so each is tested at the edge of its
    # null hypothesis: the arm is worse by exactly the margin.
    [
        ("better", 0.0, 0.0),
        ("better", 0.05, 0.0),
        ("not_worse", 0.05, -0.05),
        ("same", 0.05, -0.05),
        ("same", 0.05, 0.05),
    ],
)
def test_without_an_effect_claims_hold_in_at_most_5_percent(kind: str, margin: float, shift: float, n: int) -> None:
    criterion = Criterion(kind, margin)  # type: ignore[arg-type]
    judgements = [judge(criterion, row + shift, n_declared=n) for row in draw("differences", n, seed=2)]
    assert sum(j.verdict == "holds" for j in judgements) <= 0.05 * SIMULATIONS


@pytest.mark.parametrize("n", [5, 16])
@pytest.mark.parametrize(
    ("kind", "columns"), [("trend", 4), ("rank", 3), ("rank", 4), ("frontier", 2), ("frontier", 3)]
)
def test_without_an_effect_orders_and_frontiers_hold_in_at_most_5_percent(kind: str, columns: int, n: int) -> None:
    generator = np.random.default_rng([3, n, columns])
    criterion = Criterion(kind, 0.0)  # type: ignore[arg-type]
    held = 0
    for _ in range(SIMULATIONS):
        held += judge(criterion, generator.normal(size=(n, columns)), n_declared=n).verdict == "holds"
    assert held <= 0.05 * SIMULATIONS


def test_two_looks_together_hold_in_at_most_5_percent() -> None:
    held = 0
    for row in draw("differences", 10, seed=4):
        first = judge(Criterion("better"), row[:5], n_declared=5, looks=2)
        final = judge(Criterion("better"), row, n_declared=5, looks=2) if first.verdict == "undecided" else first
        held += final.verdict == "holds"
    assert held <= 0.05 * SIMULATIONS


def test_a_rate_above_p_is_called_rare_in_at_most_5_percent() -> None:
    events = np.random.default_rng(5).binomial(60, 0.1, size=SIMULATIONS)
    held = sum(judge(Criterion("rare", 0.0999), (e, 60), n_declared=60).verdict == "holds" for e in events)
    assert held <= 0.05 * SIMULATIONS


def test_a_real_effect_is_found() -> None:
    found = [judge(Criterion("better"), row + 0.2, n_declared=8).verdict for row in draw("differences", 8, seed=6)]
    assert found.count("holds") > 0.95 * SIMULATIONS


@pytest.mark.parametrize("n", [1, 2, 4])
def test_too_few_units_are_undecided_however_clear(n: int) -> None:
    judgement = judge(Criterion("better"), np.full(n, 0.5), n_declared=n)
    assert judgement.verdict == "undecided"
    assert f"{n} units" in judgement.reason


def differences(mean: float, spread: float = 0.1, n: int = 5) -> np.ndarray:
    """n numbers of exactly this mean and standard deviation."""
    shape = np.arange(n) - (n - 1) / 2
    return mean + spread * shape / shape.std(ddof=1)


HALF = stats.t.ppf(0.975, 4) * 0.1 / math.sqrt(5)
"""Half-width of the interval of `differences(·)`: about 0.124."""


@pytest.mark.parametrize(
    ("kind", "margin", "mean", "verdict", "is_reversed"),
    [
        ("better", 0.0, HALF + 0.01, "holds", False),
        ("better", 0.0, HALF - 0.01, "undecided", False),
        ("better", 0.2, HALF + 0.01, "undecided", False),
        ("better", 0.3, HALF + 0.01, "does not hold", False),
        ("better", 0.0, -HALF - 0.01, "does not hold", True),
        ("not_worse", 0.1, HALF - 0.09, "holds", False),
        ("not_worse", 0.1, HALF - 0.11, "undecided", False),
        ("not_worse", 0.1, -HALF - 0.11, "does not hold", False),
        ("same", 0.2, 0.05, "holds", False),
        ("same", 0.2, 0.1, "undecided", False),
        ("same", 0.2, HALF + 0.21, "does not hold", False),
        ("same", 0.2, -HALF - 0.21, "does not hold", False),
    ],
)
def test_rules_of_differences(kind: str, margin: float, mean: float, verdict: str, is_reversed: bool) -> None:
    judgement = judge(Criterion(kind, margin), differences(mean), n_declared=5)  # type: ignore[arg-type]
    assert (judgement.verdict, judgement.reversed) == (verdict, is_reversed)
    assert judgement.mean == pytest.approx(mean)
    assert (judgement.low, judgement.high) == pytest.approx((mean - HALF, mean + HALF))


def test_two_looks_widen_the_interval() -> None:
    one = judge(Criterion("better"), differences(0.2), n_declared=5)
    two = judge(Criterion("better"), differences(0.2), n_declared=5, looks=2)
    assert two.high - two.low == pytest.approx(2 * stats.t.ppf(0.9875, 4) * 0.1 / math.sqrt(5))
    assert two.high > one.high


@pytest.mark.parametrize(
    ("events", "verdict"), [(0, "holds"), (1, "undecided"), (12, "undecided"), (13, "does not hold")]
)
def test_rules_of_rare(events: int, verdict: str) -> None:
    bounds = stats.binomtest(events, 60).proportion_ci(0.95, "exact")
    judgement = judge(Criterion("rare", 0.06 if events < 2 else 0.12), (events, 60), n_declared=60)
    assert (judgement.low, judgement.high) == pytest.approx((bounds.low, bounds.high))
    assert judgement.verdict == verdict


def test_rules_of_exact() -> None:
    assert judge(Criterion("exact"), [1], n_declared=1).verdict == "holds"
    assert judge(Criterion("exact"), [1, 1, 0], n_declared=3).verdict == "does not hold"
    assert judge(Criterion("exact"), [1, 1], n_declared=3).verdict == "undecided"


def test_rules_of_trend_and_rank() -> None:
    rising = np.array([[1.0, 2.0, 3.5], [0.8, 2.2, 3.0], [1.2, 1.9, 3.1], [0.9, 2.1, 3.3], [1.1, 2.0, 2.9]])
    for kind in ("trend", "rank"):
        assert judge(Criterion(kind, 0.5), rising, n_declared=5).verdict == "holds"  # type: ignore[arg-type]
        falling = judge(Criterion(kind), -rising, n_declared=5)  # type: ignore[arg-type]
        assert (falling.verdict, falling.reversed) == ("does not hold", True)
    assert judge(Criterion("trend", 2.0), rising, n_declared=5).verdict == "does not hold"


def test_slopes_and_kendall_agree_with_scipy() -> None:
    table = np.random.default_rng(7).normal(size=(6, 5))
    expected = [stats.linregress(np.arange(5), row).slope for row in table]
    np.testing.assert_allclose(slopes(table), expected)
    np.testing.assert_allclose(kendall(table), [stats.kendalltau(np.arange(5), row).statistic for row in table])


def test_concordance_of_one_unit_is_kendalls_exact_p() -> None:
    row = np.array([0.1, 0.4, 0.2, 0.9, 0.7])
    expected = stats.kendalltau(np.arange(5), row, alternative="greater", method="exact").pvalue
    assert concordance_p(kendall(row[None]), 5) == pytest.approx(expected)


def test_rules_of_frontier() -> None:
    better, level, worse = differences(0.3), differences(0.0, 0.02), differences(-0.3)
    judged = {
        name: judge(Criterion("frontier", 0.05), np.stack(columns, 1), n_declared=5)
        for name, columns in {
            "one better": (better, level),
            "a trade": (better, worse),
            "none better": (level, level[::-1]),
            "dominated": (worse, worse - 0.1),
        }.items()
    }
    assert {name: j.verdict for name, j in judged.items()} == {
        "one better": "holds",
        "a trade": "does not hold",
        "none better": "undecided",
        "dominated": "does not hold",
    }
    assert judged["dominated"].reversed
    assert not judged["a trade"].reversed


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"gates": [Gate("grpo", "held_out/accuracy", 0.4, 0.39)]}, "gate"),
        ({"saturated": True}, "end of the scale"),
        ({"censored": 3, "n_declared": 11}, "gave no number"),
        ({"n_declared": 9}, "declared"),
    ],
)
def test_doubts_leave_a_clear_difference_undecided(options: dict, word: str) -> None:
    clear = np.linspace(0.3, 0.4, 8)
    assert judge(Criterion("better"), clear, n_declared=8).verdict == "holds"
    judgement = judge(Criterion("better"), clear, **{"n_declared": 8, **options})
    assert judgement.verdict == "undecided"
    assert word in judgement.reason
    assert judgement.low > 0


def test_saturation_needs_both_arms() -> None:
    assert saturated([0.98, 0.99], [0.97, 0.97])
    assert saturated([0.02], [0.03])
    assert not saturated([0.99], [0.9])
    assert not saturated([0.0], [1.0])


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="non-finite"):
        judge(Criterion("better"), [0.1, math.nan], n_declared=2)
    with pytest.raises(ValueError, match="declared beforehand"):
        judge(Criterion("better"), np.ones(6), n_declared=5)
    with pytest.raises(ValueError, match="events, trials"):
        judge(Criterion("rare", 0.1), [0.1, 0.2, 0.3], n_declared=3)
    with pytest.raises(ValueError, match="truth value"):
        judge(Criterion("exact"), [0.5], n_declared=1)
    with pytest.raises(ValueError, match="looks"):
        judge(Criterion("better"), np.ones(5), n_declared=5, looks=3)
    with pytest.raises(ValueError, match="events"):
        clopper_pearson(3, 2)


def simulated_rare_collapse(generator: np.random.Generator, seeds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Differences of mean zero, and collapses: a little better in nine of ten trainings, much worse in the tenth."""
    collapsed = generator.random(seeds) < 0.1
    gain = np.where(collapsed, -0.45, 0.05)
    return gain + generator.normal(0.0, 0.002, seeds), collapsed


@pytest.mark.parametrize("most", [None, 0.5])
def test_a_rare_collapse_does_not_pass_for_stability(most):
    generator = np.random.default_rng(0)
    by_mean, by_both = 0, 0
    for _ in range(1000):
        differences, collapsed = simulated_rare_collapse(generator)
        holds = judge(Criterion("better"), differences, n_declared=5).verdict == "holds"
        fulfilled, _ = events_judgement(collapsed, np.zeros(5, dtype=bool), most)
        by_mean += holds
        by_both += holds and fulfilled
    assert 540 < by_mean < 640  # .9 ** 5 = 59 %: no collapse is seen
    assert by_both <= 50


def test_events_in_fewer_seeds_are_shown_by_pairs():
    yes, no = np.ones(5, dtype=bool), np.zeros(5, dtype=bool)
    assert events_judgement(no, yes, None) == (
        True,
        "the event in 0 against 5 of 5 units, exact one-sided p 0.031; criterion: p ≤ 0.05",
    )
    assert not events_judgement(no, np.array([1, 1, 1, 1, 0], dtype=bool), None)[0]
    assert not events_judgement(no, no, None)[0]
    assert events_judgement(no, None, 0.53)[0]
    assert not events_judgement(no, None, 0.52)[0]


def test_an_interval_without_width_and_a_mean_of_one_unit_are_warned_of():
    equal = judge(Criterion("better"), [0.1] * 5, n_declared=5)
    assert (equal.verdict, "no width" in equal.reason) == ("holds", True)
    carried = judge(Criterion("better", 0.1), [-0.1, -0.1, -0.05, -0.1, 1.0], n_declared=5)
    assert "one unit carries the mean, which is -0.0875 without it" in carried.reason
    assert "warning" not in judge(Criterion("better"), [0.1, 0.2, 0.3, 0.2, 0.1], n_declared=5).reason


def test_rare_refuses_fractions_of_events():
    with pytest.raises(ValueError, match=r"whole numbers of events and trials, given 0.5 of 5"):
        judge(Criterion("rare", 0.5), [0.5, 5], n_declared=5)
