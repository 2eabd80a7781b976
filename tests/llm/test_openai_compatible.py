"""A real HTTP server on loopback, well behaved and badly behaved, behind the official SDK."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.llm.endpoint import Endpoint

from pilotage.core.errors import UsageError
from pilotage.llm import (
    Budget,
    BudgetReached,
    ChatAnswer,
    ChatRequest,
    OpenAICompatible,
    Prices,
    ProviderDown,
    Retries,
    Service,
    Store,
    first_token_shares,
    say,
)
from pilotage.types import Failed

pytest.importorskip("openai", reason="the extra llm is not installed")

QUICK = Retries(tries=4, first=0.01, longest=2.0)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def address(endpoint: Endpoint) -> Iterator[str]:
    with endpoint.listening() as address:
        yield address


def ask(address: str, requests: list[ChatRequest], **options: Any) -> tuple[list[Any], Any]:
    options = {"retries": QUICK, "timeout": 20.0, **options}
    with Service(OpenAICompatible("tiny", base_url=address), **options) as service:
        return service.ask(requests), service.counters()


def asked(count: int, **options: Any) -> list[ChatRequest]:
    return [ChatRequest(say(f"question {number}"), **options) for number in range(count)]


def test_all_that_a_request_says_is_sent_and_the_answer_comes_back_whole(endpoint: Endpoint, address: str) -> None:
    request = ChatRequest(
        say("Isolate?", system="You are 40."),
        temperature=0.5,
        top_p=0.9,
        max_tokens=7,
        stop=("\n",),
        seed=3,
        alternatives=2,
        extra={"min_p": 0.1},
    )
    endpoint.reply = lambda _: "Yes I do"
    (answer,), counters = ask(address, [request])
    (body,) = endpoint.bodies
    messages = [{"role": "system", "content": "You are 40."}, {"role": "user", "content": "Isolate?"}]
    assert isinstance(body.pop("seed"), int)
    assert body == {
        "model": "tiny",
        "messages": messages,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["\n"],
        "logprobs": True,
        "top_logprobs": 2,
        "min_p": 0.1,
    }
    assert (answer.text, answer.source, answer.name, answer.stop) == ("Yes I do", "endpoint", "tiny", "stop")
    assert (answer.usage.prompt, answer.usage.completion) == (4, 3)
    shares, covered = first_token_shares(answer, ("Yes", "No"))
    assert shares["Yes"] == pytest.approx(1 / (1 + 2.718281828 ** (-1.75 + 0.25)))
    assert covered == pytest.approx(2.718281828**-0.25 + 2.718281828**-1.75)
    assert (counters.called, counters.spent_prompt_tokens, counters.spent_completion_tokens) == (1, 4, 3)


def test_answers_stand_in_the_order_of_the_requests_and_no_more_than_the_limit_run_at_a_time(
    endpoint: Endpoint, address: str
) -> None:
    endpoint.delay = 0.03
    endpoint.reply = lambda body: "re: " + body["messages"][-1]["content"]
    answers, _ = ask(address, asked(12), concurrency=3)
    assert [answer.text for answer in answers] == [f"re: question {number}" for number in range(12)]
    assert endpoint.most_together == 3


def test_a_429_is_waited_out_as_long_as_retry_after_says_and_costs_nothing(endpoint: Endpoint, address: str) -> None:
    endpoint.faults = [("status", 429, {"retry-after": "0.4"}, "slow down")]
    (answer,), counters = ask(address, asked(1))
    assert isinstance(answer, ChatAnswer)
    assert endpoint.times[1] - endpoint.times[0] >= 0.4
    assert (counters.called, counters.retried, counters.spent_calls) == (2, 1, 1)


def test_a_429_holds_back_the_other_requests_as_well(endpoint: Endpoint, address: str) -> None:
    endpoint.faults = [("status", 429, {"retry-after": "0.5"}, "slow down")]
    # The other call that is under way is answered long after the 429 was read, also on a machine with much to do.
    endpoint.delay_without_fault = 0.4
    answers, _ = ask(address, asked(6), concurrency=2)
    assert all(isinstance(answer, ChatAnswer) for answer in answers)
    # Only that call came before the wait was over.
    assert [time - endpoint.times[0] >= 0.5 for time in endpoint.times[2:]] == [True] * 5


@pytest.mark.parametrize("wait", ["3600", "in an hour, as a date"])
def test_an_endpoint_that_wants_too_long_a_wait_is_not_waited_for(endpoint: Endpoint, address: str, wait: str) -> None:
    if "date" in wait:
        wait = email.utils.formatdate(time.time() + 3600, usegmt=True)
    endpoint.faults = [("status", 429, {"retry-after": wait}, "quota of today")]
    (answer,), counters = ask(address, asked(1))
    assert isinstance(answer, Failed)
    assert answer.reason == "rate_limit"
    assert (counters.failed, counters.called) == (1, 1)


def test_an_exhausted_quota_is_not_asked_again(endpoint: Endpoint, address: str) -> None:
    endpoint.faults = [("status", 429, {"error-code": "insufficient_quota"}, "no money left")]
    (answer,), counters = ask(address, asked(1))
    assert isinstance(answer, Failed)
    assert "no money left" in answer.detail
    assert counters.called == 1


@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        (("status", 500, {}, "oops"), False),
        (("status", 502, {}, "oops"), False),
        (("status", 408, {}, "oops"), False),
        (("slow", 5.0), True),
        (("dribble", 60.0), True),
        (("cut",), True),
        (("cut-body",), True),
        (("body", b'{"choices": [{"mess'), True),
        (("body", b"<html>busy</html>"), True),
        (("body", b'"just a string"'), True),
        (("body", b'{"choices": []}'), True),
        (("body", b"{}"), True),
        (("body", b'{"choices": [{"message": {"content": 7}}]}'), True),
    ],
    ids=lambda value: "-".join(map(str, value))[:40] if isinstance(value, tuple) else None,
)
def test_what_may_pass_is_tried_again_and_what_may_have_been_charged_counts_with_its_most(
    endpoint: Endpoint, address: str, fault: tuple[Any, ...], charged: bool
) -> None:
    endpoint.faults = [fault]
    request = asked(1, max_tokens=100)
    (answer,), counters = ask(address, request, timeout=1.5 if fault[0] in ("slow", "dribble") else 20.0)
    assert isinstance(answer, ChatAnswer)
    assert answer.text.startswith("said ")
    assert (counters.called, counters.retried, counters.failed) == (2, 1, 0)
    assert counters.spent_calls == 1 + charged
    assert counters.spent_completion_tokens == 2 + 100 * charged


def test_a_request_that_is_in_vain_gives_failed_and_the_others_their_answers(endpoint: Endpoint, address: str) -> None:
    def reply(body: dict[str, Any]) -> str:
        return body["messages"][-1]["content"]

    endpoint.reply = reply
    endpoint.faults = [("status", 500, {}, "oops")] * QUICK.tries
    answers, counters = ask(address, asked(3), concurrency=1)
    assert isinstance(answers[0], Failed)
    assert answers[0].reason == "server_error"
    assert [answer.text for answer in answers[1:]] == ["question 1", "question 2"]
    assert (counters.failed, counters.retried) == (1, QUICK.tries - 1)


def test_a_bad_request_is_not_sent_again(endpoint: Endpoint, address: str) -> None:
    endpoint.faults = [("status", 400, {}, "maximum context length is 10 tokens")]
    answers, counters = ask(address, asked(2), concurrency=1)
    assert isinstance(answers[0], Failed)
    assert "maximum context" in answers[0].detail
    assert isinstance(answers[1], ChatAnswer)
    assert (counters.called, counters.retried) == (2, 0)


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_wrong_key_or_model_stops_at_once_and_says_what_to_look_at(
    endpoint: Endpoint, address: str, code: int
) -> None:
    endpoint.faults = [("status", code, {}, "who are you")] * 50
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        ask(address, asked(50), concurrency=2)
    assert len(endpoint.bodies) <= 3


def test_an_endpoint_that_is_down_stops_everything_after_too_many_failures_in_a_row(
    endpoint: Endpoint, address: str
) -> None:
    endpoint.faults = [("status", 500, {}, "dead")] * 1000
    with pytest.raises(ProviderDown, match="5 requests in a row"):
        ask(
            address,
            asked(100),
            concurrency=1,
            max_consecutive_failures=5,
            retries=Retries(tries=2, first=0.0, longest=1.0),
        )
    assert len(endpoint.bodies) == 10


def test_nobody_listening_is_a_failure_without_cost() -> None:
    endpoint = Endpoint()
    with endpoint.listening() as address:
        pass
    answers, counters = ask(address, asked(1), retries=Retries(tries=2, first=0.0, longest=1.0))
    assert isinstance(answers[0], Failed)
    assert answers[0].reason == "connection"
    assert counters.spent_calls == 0


def test_answers_are_kept_over_processes_and_draws_apart(endpoint: Endpoint, address: str, tmp_path: Any) -> None:
    numbers = iter(range(100))
    endpoint.reply = lambda _: f"answer {next(numbers)}"
    draws = [ChatRequest(say("a coin"), draw=draw) for draw in (0, 1, 0)]
    first, counters = ask(address, draws, store=Store(tmp_path / "a.sqlite"), concurrency=1)
    assert [answer.text for answer in first] == ["answer 0", "answer 1", "answer 0"]
    assert (counters.called, counters.shared, counters.cached) == (2, 1, 0)
    second, counters = ask(address, draws, store=Store(tmp_path / "a.sqlite"))
    assert second == first
    assert (counters.called, counters.cached, counters.spent_calls) == (0, 2, 2)
    assert len(endpoint.bodies) == 2


def test_token_log_probabilities_come_back_from_the_store_as_they_were(address: str, tmp_path: Any) -> None:
    request = [ChatRequest(say("Isolate?"), alternatives=5)]
    first, _ = ask(address, request, store=Store(tmp_path / "a.sqlite"))
    second, _ = ask(address, request, store=Store(tmp_path / "a.sqlite"))
    assert first == second
    assert second[0].tokens[0].alternatives["No"] == -1.75


def test_an_endpoint_without_log_probabilities_is_named(endpoint: Endpoint, address: str) -> None:
    endpoint.faults = [("body", b'{"choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}]}')]
    (answer,), counters = ask(address, [ChatRequest(say("Isolate?"), alternatives=5)])
    assert isinstance(answer, Failed)
    assert "no log-probabilities" in answer.detail
    assert (counters.called, counters.spent_calls) == (1, 1)


def test_an_endpoint_that_does_not_count_is_charged_with_the_most(endpoint: Endpoint, address: str) -> None:
    endpoint.usage = lambda *_: None
    (answer,), counters = ask(address, asked(1, max_tokens=50), prices=Prices(prompt=0.0, completion=2.0))
    assert not answer.usage.counted
    assert counters.spent_completion_tokens == 50
    assert counters.spent_money == pytest.approx(50 * 2 / 1e6)


def test_a_budget_stops_before_it_is_passed_and_going_on_pays_only_for_the_rest(
    endpoint: Endpoint, address: str, tmp_path: Any
) -> None:
    requests, path = asked(10, max_tokens=20), tmp_path / "a.sqlite"
    with pytest.raises(BudgetReached, match="4 calls") as stopped:
        ask(address, requests, store=Store(path), budget=Budget(calls=4), concurrency=8)
    answers = stopped.value.answers
    assert sum(answer is not None for answer in answers) == 4
    assert len(endpoint.bodies) == 4
    every, counters = ask(address, requests, store=Store(path), budget=Budget(calls=10), concurrency=8)
    assert len(endpoint.bodies) == 10
    assert counters.spent_calls == 10
    assert [new for new, old in zip(every, answers, strict=True) if old] == [old for old in answers if old]


def test_a_schema_is_a_parameter_where_the_endpoint_takes_one_and_words_elsewhere(
    endpoint: Endpoint, address: str
) -> None:
    request = ChatRequest(say("Decide."), schema={"title": "Decision", "type": "object"})
    for form in (True, False):
        with Service(OpenAICompatible("tiny", base_url=address, response_format=form)) as service:
            service.ask([request])
    first, second = endpoint.bodies
    assert first["response_format"]["json_schema"] == {"name": "Decision", "schema": dict(request.schema or {})}
    assert first["messages"][-1]["content"] == "Decide."
    assert "response_format" not in second
    assert '"title":"Decision"' in second["messages"][-1]["content"]


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?api_key=secret", "host/v1"])
def test_an_address_with_a_secret_in_it_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="without name, password or query") as refused:
        OpenAICompatible("tiny", base_url=url)
    assert "secret" not in str(refused.value)
