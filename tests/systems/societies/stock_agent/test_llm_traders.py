"""Traders played by a language model: prompts, checks of answers, what a wrong one costs, and the lint."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("pydantic", reason="traders played by a model need pilotage[llm]")

from tests.systems.societies.stock_agent.helpers import leaks, prose

from pilotage.llm import Scripted, Service
from pilotage.systems.societies.stock_agent.env.market import make_market
from pilotage.systems.societies.stock_agent.env.scenario import load_scenario
from pilotage.systems.societies.stock_agent.llm_traders import ServiceTraders, scripted_trader_reply
from pilotage.systems.societies.stock_agent.prompts import DESCRIBED, read_facts

SCENARIO = load_scenario()


def asked(script, agents=2, days=1, sessions=1, repairs=3):
    """Plays a market whose traders are played by a script. Gives the market and the requests."""
    requests = []

    def noted(request, seed):
        requests.append(request)
        return script(request, read_facts(first_question(request)), seed)

    with Service(Scripted(noted, "test"), concurrency=1) as service:
        traders = ServiceTraders(service, repairs=repairs)
        market = make_market(SCENARIO, traders, agents=agents, seed=1, days=days, sessions=sessions)
        while not market.over:
            market.advance()
    return market, requests


def first_question(request):
    return next(message.content for message in request.messages if message.role == "user")


def nothing(facts):
    return {"order": {"action": "no"}, "loan": {"loan": "no"}, "forecast": {}, "post": {}}[facts["ask"]]


def only(ask, reply):
    """A script that answers one kind of question so, and nothing to the others."""
    return lambda request, facts, _: reply(facts, request) if facts["ask"] == ask else nothing(facts)


WRONG: list[tuple[Any, str]] = [
    ("I would rather not trade.", "no JSON object"),
    ('{"action": "no"} {"action": "no"}', "several JSON objects"),
    ('{"action": "buy", "stock": "A", "amount": 10, "price": "30"}', "wrong schema"),
    ('{"action": "buy", "stock": "A", "amount": 0.5, "price": 30.0}', "wrong schema"),
    ('{"action": "buy", // cheap\n "stock": "A", "amount": 10, "price": 30.0}', "no JSON object"),
    ('{"action": "buy", "stock": "A", "amount": 0, "price": 30.0}', "amount"),
    ('{"action": "buy", "stock": "A", "amount": 10, "price": -1.0}', "price"),
    ('{"action": "buy", "stock": "C", "amount": 10, "price": 30.0}', "stock"),
    ('{"action": "buy", "stock": "A", "amount": 1000000000, "price": 30.0}', "funds"),
    ('{"action": "sell", "stock": "A", "amount": 1000000000, "price": 30.0}', "funds"),
    ("", "empty"),
]


@pytest.mark.parametrize(("answer", "kind"), WRONG)
def test_a_wrong_answer_is_asked_for_again_with_the_reason_and_then_is_no_action(answer, kind):
    market, requests = asked(only("order", lambda *_: answer))
    assert market.traders.counts == {kind: 2, "no_action": 2}
    assert market.counts["held"] == 2
    assert not market.record.orders
    orders = [request for request in requests if read_facts(first_question(request))["ask"] == "order"]
    assert len(orders) == 2 * (1 + 3)
    assert kind in orders[1].messages[-1].content


def test_an_answer_that_is_repaired_counts_and_is_carried_out():
    def reply(_, request):
        amount = 10**9 if len(request.messages) == 2 else 10
        return {"action": "buy", "stock": "B", "amount": amount, "price": 12.345}

    market, _ = asked(only("order", reply))
    assert market.traders.counts == {"funds": 2, "no_action": 0}
    assert [(order[3], order[4], order[5], order[6]) for order in market.record.orders] == [(1, 1, 10, 1234)] * 2


def test_a_repaired_loan_is_checked_against_the_limit_of_who_asks():
    """Defect (b): the second check of a loan must get the same arguments as the first."""

    def reply(_, request):
        most = max(limits.values())
        # First too much for anybody, then what only the richest may borrow.
        return {"loan": "yes", "type": 1, "amount": 10 * most if len(request.messages) == 2 else most}

    limits = {}

    def look(facts, _):
        limits[len(limits)] = facts["may_borrow"]
        return nothing(facts)

    asked(only("loan", look), agents=4)
    assert len(set(limits.values())) == 4
    market, requests = asked(only("loan", reply), agents=4)
    loans = [request for request in requests if read_facts(first_question(request))["ask"] == "loan"]
    assert len(market.record.loans) == 1
    assert market.record.loans[0][3] == round(100 * max(limits.values()))
    assert market.traders.counts == {"loan_amount": 4, "no_action": 3}
    assert len(loans) == 2 + 3 * 4


def test_the_stand_in_plays_a_month_and_trades():
    with Service(Scripted(scripted_trader_reply, "trader")) as service:
        market = make_market(SCENARIO, ServiceTraders(service), agents=5, seed=0, days=8)
        while not market.over:
            market.advance()
    assert len(market.record.trades) > 5
    assert market.traders.counts["no_action"] == 0
    assert market.record.forecasts[1] > 0
    assert market.traders.scripted


def test_posts_are_read_the_next_morning_and_reports_on_their_day():
    def script(_request, facts, _seed):
        if facts["ask"] == "post":
            return {"text": f"Remember day {facts['day']}.", "sentiment": {"A": 0.5}}
        return nothing(facts)

    _, requests = asked(script, days=12)
    by_day: dict[int, list[str]] = {}
    for request in requests:
        text = first_question(request)
        if read_facts(text)["ask"] == "loan":
            by_day.setdefault(read_facts(text)["day"], []).append(text)
    assert "Remember day 4." in by_day[5][0]
    assert "2 of 2 posts" in by_day[5][0]
    assert "Remember day 3." not in by_day[5][0]
    assert "quarter 13" in by_day[12][0]
    assert not any("quarter 13" in text for day in range(1, 12) for text in by_day[day])


def test_no_prompt_points_to_the_real_world():
    _, requests = asked(lambda request, _, seed: scripted_trader_reply(request, seed), agents=4, days=12, sessions=2)
    texts = {prose(message.content) for request in requests for message in request.messages}
    texts |= {prose(first_question(request)) for request in requests}
    kinds = {read_facts(first_question(request))["ask"] for request in requests}
    assert kinds == {"loan", "order", "forecast", "post"}
    assert {leak for text in texts for leak in leaks(text)} == set()
    texts = [event.text for event in (*SCENARIO.rate_events, *SCENARIO.news)]
    for company in SCENARIO.companies:
        texts += [company.story, *company.outlooks, company.history(0.25), *(company.report(n, 0.25) for n in range(4))]
    assert [leak for text in (*texts, *DESCRIBED.values()) for leak in leaks(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Buy AAPL now",
        "As in 2008, banks fell.",
        "The S&P rose",
        "On March 3, 2020 prices fell",
        "like Tesla.",
        "$MSFT to the sky",
        "in September",
    ],
)
def test_the_lint_finds_what_points_to_the_real_world(text):
    assert leaks(text)


@pytest.mark.parametrize("text", ["revenue 2008.5 (millions)", "it costs $2019", "Stock A may fall.", "an apple a day"])
def test_the_lint_lets_figures_and_common_words_pass(text):
    assert leaks(text) == []


def test_what_is_asked_of_two_traders_never_shares_an_answer():
    _, requests = asked(lambda _request, facts, _seed: nothing(facts), agents=4)
    assert len({request.text for request in requests}) == len(requests) == 4 * 4
    assert all(json.loads(request.text)["seed"] == 0 for request in requests)
