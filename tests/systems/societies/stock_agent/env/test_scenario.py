"""Firms, events, posts and the file they come from."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.companies import COLUMNS
from pilotage.systems.societies.stock_agent.env.forum import Forum, Post
from pilotage.systems.societies.stock_agent.env.scenario import (
    DEFAULT,
    News,
    RateEvent,
    load_scenario,
    rates_on,
    sentiment_on,
)

SCENARIO = load_scenario()
TERMS = SCENARIO.valuation


def test_the_scenario_that_comes_along_is_the_cards():
    assert SCENARIO.prices == [3000, 4000]
    assert SCENARIO.report_days == (12, 78, 144, 210)
    assert [(event.day, event.rates) for event in SCENARIO.rate_events] == [
        (78, (0.024, 0.027, 0.030)),
        (144, (0.0255, 0.0285, 0.0315)),
    ]
    assert all(
        0.8 < value / company.start_price < 1.2
        for value, company in zip(SCENARIO.ideal(1), SCENARIO.companies, strict=True)
    )


def test_a_valuation_is_the_sum_of_discounted_flows():
    """Against a sum over 2000 years instead of the terminal value's formula."""
    company = SCENARIO.companies[1]
    equity = company.start_price * company.shares
    weight = company.debt / (company.debt + equity)
    wacc = (1 - weight) * (0.027 + company.beta * 0.055) + weight * 0.045 * 0.75
    quarters = [
        (company.revenue[q] - company.operating_costs[q] - company.depreciation[q]) * 0.75
        + company.depreciation[q]
        - company.capital_expenditure[q]
        - company.working_capital[q]
        for q in (10, 11)
    ]
    flow, total = 2 * sum(quarters), 0.0
    for year in range(1, 2001):
        flow *= 1 + (company.growth[0] if year <= TERMS.years else TERMS.terminal_growth)
        total += flow / (1 + wacc) ** year
    assert company.value(0, TERMS) == pytest.approx((total - company.debt) / company.shares, rel=1e-9)


def test_cheaper_loans_raise_valuations_and_reports_change_them_from_their_day_on():
    without = replace(SCENARIO, rate_events=())
    assert SCENARIO.ideal(77) == without.ideal(77)
    assert all(a > b for a, b in zip(SCENARIO.ideal(78), without.ideal(78), strict=True))
    assert SCENARIO.ideal(11) == SCENARIO.ideal(1) != SCENARIO.ideal(12)


@pytest.mark.parametrize("surprise", [0.2, -0.2])
def test_a_surprise_changes_one_quarters_profit_and_nothing_before_it(surprise):
    changed = SCENARIO.surprised(1, 78, surprise)
    ratio = changed.companies[1].profit(TERMS.tax) / SCENARIO.companies[1].profit(TERMS.tax)
    assert ratio == pytest.approx([1.0] * 13 + [1 + surprise] + [1.0] * 2)
    assert changed.companies[0] == SCENARIO.companies[0]
    assert changed.ideal(77) == SCENARIO.ideal(77)
    assert np.sign(changed.ideal(78)[1] - SCENARIO.ideal(78)[1]) == np.sign(surprise)
    assert changed.companies[1].report(1, TERMS.tax) != SCENARIO.companies[1].report(1, TERMS.tax)
    assert changed.companies[1].report(0, TERMS.tax) == SCENARIO.companies[1].report(0, TERMS.tax)


def test_swapping_changes_names_alone():
    swapped = SCENARIO.swapped()
    assert [company.name for company in swapped.companies] == ["A", "B"]
    assert swapped.ideal(100) == SCENARIO.ideal(100)[::-1]
    assert swapped.swapped() == SCENARIO


def test_rates_hold_from_the_day_of_their_event():
    events = SCENARIO.rate_events
    assert rates_on(77, SCENARIO.rates, events) == (27_000, 30_000, 33_000)
    assert rates_on(78, SCENARIO.rates, events) == (24_000, 27_000, 30_000)
    assert rates_on(264, SCENARIO.rates, events) == (25_500, 28_500, 31_500)


def test_news_fades_and_never_counts_before_its_day():
    news = (News(10, "good", 0.8),)
    assert sentiment_on(9, news) == 0
    assert sentiment_on(10, news) == 0.8
    assert sentiment_on(15, news) == pytest.approx(0.4)
    assert sentiment_on(10, news * 5) == 1


def test_a_forum_shows_no_more_than_fits_and_says_so():
    forum = Forum(max_posts=3)
    forum.write([Post(trader, (0.1 * trader, 0.0), 100 * "post ") for trader in range(8)])
    digest = forum.read(np.random.default_rng(0))
    assert len(digest.posts) == 3
    assert digest.text().startswith("3 of 8 posts")
    assert {post.text for post in digest.posts} == {(100 * "post ")[:280]}
    assert digest.mean(2) == pytest.approx([np.mean([post.sentiment[0] for post in digest.posts]), 0])
    forum.write([])
    assert forum.read(np.random.default_rng(0)).mean(2).tolist() == [0, 0]


def written(tmp_path, text):
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return path


WRONG = [
    (r"rates: \[.*?\]", "rates: [0.027, 0.03]", "expected 3 rates"),
    (r"start_price: 30", "start_prize: 30", r"companies\[0\] has no field .start_prize. .did you mean .start_price"),
    (r"start_price: 30", "start_price: thirty", r"companies\[0\].start_price is a number, got 'thirty'"),
    (r"    beta: 1.5\n", "", r"companies\[1\] lacks beta"),
    (r"    interest: \[5.0, ", "    interest: [", "interest has 15 quarters"),
    (r"day: 78\n", "day: 78.5\n", r"rate_events\[0\].day is a whole number"),
    (r"sentiment: 0.5\}", "sentiment: 5}", r"news\[0\]: the sentiment of news lies"),
    (r"report_days: \[12, 78", "report_days: [78, 12", "rising order"),
    (r"name: B", "name: A", "different names"),
    (r"rates: \[", "rates: {", "is no YAML"),
    (r"tax: 0.25", "tax: 1.5", "a tax in"),
]


@pytest.mark.parametrize(("pattern", "replacement", "words"), WRONG)
def test_a_mistake_in_the_file_is_named_with_its_place(tmp_path, pattern, replacement, words):
    text, count = re.subn(pattern, replacement, DEFAULT.read_text(), count=1)
    assert count == 1
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=words) as raised:
        load_scenario(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["", "[]", "3"])
def test_a_file_without_fields_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match="is a mapping"):
        load_scenario(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no scenario can be read"):
        load_scenario(tmp_path / "none.yaml")


def test_rates_and_posts_out_of_range_are_refused():
    with pytest.raises(UsageError, match="3 rates"):
        RateEvent(1, "", (0.1, 0.2, 2.0))
    with pytest.raises(UsageError, match="sentiment"):
        Post(0, (1.5,), "")
    assert set(COLUMNS) <= set(vars(SCENARIO.companies[0]))
