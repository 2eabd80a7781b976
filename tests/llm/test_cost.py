"""An estimate of cost asks a sample, keeps it, and scales up what it took."""

from __future__ import annotations

import pytest
from tests.llm.playing import Playing

from pilotage.core.errors import UsageError
from pilotage.llm import ChatRequest, Prices, Refused, Retries, Service, Usage, estimate_cost, say

PRICES = Prices(prompt=1.0, completion=4.0)


def requests(count: int) -> list[ChatRequest]:
    return [ChatRequest(say("x" * 10), max_tokens=100, draw=draw) for draw in range(count)]


def test_equal_requests_scale_exactly_and_the_sample_is_not_asked_again() -> None:
    provider = Playing(lambda _: Usage(10, 25))
    with Service(provider, prices=PRICES) as service:
        found = estimate_cost(service, requests(40) * 2, sample=4)
        assert len(provider.called) == found.sampled == 4
        assert (found.calls, found.prompt_tokens, found.completion_tokens) == (36, 360, 900)
        assert found.money == pytest.approx((360 * 1 + 900 * 4) / 1e6)
        assert found.most_money == pytest.approx((360 * 1 + 3600 * 4) / 1e6)
        before = service.counters().spent_money
        service.ask(requests(40))
        assert len(provider.called) == 40
        assert service.counters().spent_money - before == pytest.approx(found.money)
    monthly = found.times(20)
    assert (monthly.calls, monthly.prompt_tokens) == (720, 7200)
    assert "720 calls" in str(monthly)


def test_what_is_answered_costs_nothing_more() -> None:
    with Service(Playing(), prices=PRICES) as service:
        service.ask(requests(5))
        assert estimate_cost(service, requests(5)).calls == 0


def test_an_estimate_of_different_answers_is_near_what_it_takes() -> None:
    provider = Playing(lambda request: Usage(10, 1 + request.draw % 50))
    with Service(provider, prices=PRICES) as service:
        found = estimate_cost(service, requests(1000), sample=100)
        before = service.counters().spent_completion_tokens
        service.ask(requests(1000))
        took = service.counters().spent_completion_tokens - before
    assert found.completion_tokens == pytest.approx(took, rel=0.2)  # Five standard errors are 0.29 of the mean of 25.5.


def test_a_sample_without_any_answer_is_no_estimate() -> None:
    async def play(_: ChatRequest) -> None:
        raise Refused("bad_request", again=False)

    with (
        Service(Playing(play=play), retries=Retries(tries=1)) as service,
        pytest.raises(UsageError, match=r"none of 8.*bad_request"),
    ):
        estimate_cost(service, requests(10))
