"""Reasoning is apart from answers, and what comes from outside is text and numbers that files can hold."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from pydantic import BaseModel
from tests.llm.endpoint import Endpoint, completion
from tests.llm.models import chatting
from tests.llm.playing import Playing

from pilotage.llm import (
    Budget,
    ChatAnswer,
    ChatRequest,
    LocalModel,
    OpenAICompatible,
    Prices,
    ProviderDown,
    Scripted,
    Service,
    Spent,
    Store,
    Token,
    Usage,
    first_token_shares,
    say,
    structured,
)
from pilotage.types import Failed

pytest.importorskip("openai", reason="the extra llm is not installed")

DRAFT = '<think>Maybe {"stock": "A", "amount": 1}? Too few.</think>\n{"stock": "B", "amount": 7}'


class Order(BaseModel):
    stock: str
    amount: int


def reply(content: Any, stop: str = "stop", **fields: Any) -> tuple[str, bytes]:
    """A reply whose message has further fields."""
    whole = completion(None, usage={"prompt_tokens": 5, "completion_tokens": 60, "total_tokens": 65})
    whole["choices"][0]["message"] |= {"content": content, **fields}
    whole["choices"][0]["finish_reason"] = stop
    return "body", json.dumps(whole).encode()


def ask(*faults: Any, **options: Any) -> tuple[list[Any], Service]:
    endpoint = Endpoint()
    with endpoint.listening() as address:
        endpoint.faults = list(faults)
        with Service(OpenAICompatible("thinker", base_url=address), concurrency=1, **options) as service:
            answers = service.ask([ChatRequest(say("?"), max_tokens=60, draw=n) for n in range(len(faults))])
    assert len(endpoint.bodies) == len(faults)
    return answers, service


@pytest.mark.parametrize(
    ("given", "text", "reasoning"),
    [
        (reply("Yes"), "Yes", ""),
        (reply("Yes", reasoning_content="Or no?"), "Yes", "Or no?"),
        (reply("Yes", reasoning="Or no?"), "Yes", "Or no?"),
        (reply("<think>Or no?</think>\n\nYes"), "Yes", "Or no?"),
        (reply("Or no?</think>Yes"), "Yes", "Or no?"),
        (
            reply(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Or no?"}]},
                    {"type": "text", "text": "Yes"},
                ]
            ),
            "Yes",
            "Or no?",
        ),
        (reply("half \ud800 of one", reasoning="and \udfff"), "half \ufffd of one", "and \ufffd"),
    ],
)
def test_reasoning_of_every_form_is_apart_from_the_answer(given: Any, text: str, reasoning: str) -> None:
    (answer,), _ = ask(given)
    assert (answer.text, answer.reasoning) == (text, reasoning)
    assert answer.record().get("reasoning", "") == reasoning


@pytest.mark.parametrize(
    "given",
    [
        reply(None, "length", reasoning_content="Let me think about who I am. I am 45 and"),
        reply("", "length", reasoning="Let me think"),
        reply(None, "stop", reasoning='{"hours": 40}'),
        reply("<think>The answer is yes, or rather I have to think of my mother who", "length"),
        reply("<think>Yes</think>", "stop"),
        reply("", "length"),
    ],
)
def test_a_reply_that_ends_in_its_reasoning_is_a_failure_with_a_name_and_its_true_cost(given: Any) -> None:
    (answer,), service = ask(given)
    assert isinstance(answer, Failed)
    assert answer.reason == "unfinished_reasoning"
    assert "max_tokens" in answer.detail
    assert service.failures == {"unfinished_reasoning": 1}


def test_the_cost_of_unfinished_reasoning_is_what_the_endpoint_counted_and_it_is_an_event_of_the_run() -> None:
    service = Service(Playing(lambda _: Usage(5, 60)))
    service.provider.answer = "<think>Hm"  # type: ignore[attr-defined]
    with service:
        service.ask([ChatRequest(say("a question"), max_tokens=500)])
        counters = service.counters()
        assert (counters.spent_prompt_tokens, counters.spent_completion_tokens, counters.failed) == (5, 60, 1)
        assert any("unfinished_reasoning" in note for note in service.notes())


def test_what_could_not_be_read_is_said_when_the_service_closes(caplog: pytest.LogCaptureFixture) -> None:
    ask(reply("", "length"), reply("Yes"))
    assert "thinker: 1 of 2 requests got no answer that can be used: 1 unfinished_reasoning" in caplog.text


def test_endless_reasoning_stops_the_service_and_names_what_to_change() -> None:
    with pytest.raises(ProviderDown, match="max_tokens"):
        ask(*[reply(None, "length", reasoning="Hm")] * 3, max_consecutive_failures=3)


def test_a_draft_in_the_reasoning_is_never_the_reply() -> None:
    """The object after the reasoning is read at the first call; nothing is asked again, nothing falls back."""
    with Service(Scripted(lambda *_: DRAFT, name="thinker")) as service:
        requests = [ChatRequest(say(f"trader {number}")) for number in range(3)]
        found = structured(service, requests, Order, lambda *_: Order(stock="A", amount=0))
        counters, notes = service.counters(), service.notes()
    assert [(one.value.stock, one.value.amount, one.how) for one in found] == [("B", 7, "first")] * 3
    assert (counters.called, counters.repaired, counters.fallen_back) == (3, 0, 0)
    assert notes == []


def test_the_first_token_of_an_answer_is_that_after_the_reasoning() -> None:
    def token(text: str, **others: float) -> Token:
        return Token(text, -0.25, {text: -0.25, **others})

    tokens = (token("<think>"), token("No"), token("?"), token("</think>"), token("\n\n"), token("Yes", No=-1.75))

    def script(*_: Any) -> ChatAnswer:
        return ChatAnswer("".join(one.text for one in tokens), "scripted", "thinker", tokens=tokens)

    with Service(Scripted(script, name="thinker")) as service:
        (answer,) = service.ask([ChatRequest(say("Isolate?"), alternatives=20)])
    assert isinstance(answer, ChatAnswer)
    shares, covered = first_token_shares(answer, ("Yes", "No"))
    assert shares["Yes"] == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert covered == pytest.approx(math.exp(-0.25) + math.exp(-1.75))


@pytest.mark.parametrize(("ending", "opened"), [("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False)])
def test_reasoning_that_a_chat_template_opens_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, ending: str, opened: bool
) -> None:
    from pilotage.engines import build_engine

    policy = chatting()
    monkeypatch.setattr(policy.tokenizer, "chat_template", policy.tokenizer.chat_template + ending)
    local = LocalModel(policy, build_engine("auto", policy.model, policy.tokenizer))
    answer = asyncio.run(local.complete(ChatRequest(say("1+1"), max_tokens=4)))
    assert (answer.text == "") is opened
    assert (answer.reasoning != "") is opened


# ---- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-5, 2**63, 10**30, 1.5, True, "7", None, [3]])
def test_a_count_that_cannot_be_true_is_charged_with_the_most_and_told(count: Any) -> None:
    endpoint = Endpoint()
    endpoint.usage = lambda *_: {"prompt_tokens": 4, "completion_tokens": count}
    with (
        endpoint.listening() as address,
        Service(OpenAICompatible("tiny", base_url=address), prices=Prices(1.0, 1e5)) as service,
    ):
        answers = service.ask([ChatRequest(say("hello"), max_tokens=50, draw=draw) for draw in range(3)])
        counters, notes = service.counters(), service.notes()
    assert all(isinstance(answer, ChatAnswer) and not answer.usage.counted for answer in answers)
    assert counters.spent_completion_tokens == 3 * 50
    assert counters.estimated == 3
    assert any("count of tokens" in note for note in notes)


@pytest.mark.parametrize("usage", [Usage(-100, -100), Usage(2**63, 1), Usage(1, 2**70)])
def test_no_count_of_a_provider_lowers_an_account_or_stops_the_next_question(usage: Usage) -> None:
    with Service(Playing(lambda _: usage), budget=Budget(calls=10), concurrency=2) as service:
        service.ask([ChatRequest(say("hello"), max_tokens=7, draw=draw) for draw in range(4)])
        counters = service.counters()
    assert counters.spent_completion_tokens == 4 * 7
    assert counters.spent_prompt_tokens == 4 * len("hello")


def test_an_account_stays_full_where_its_sum_is_larger_than_the_file_can_hold() -> None:
    store = Store()
    with Service(Playing(), store=store, prices=Prices(completion=999_999.0), concurrency=2) as service:
        requests = [ChatRequest(say("x"), max_tokens=2**62, draw=draw) for draw in range(4)]
        assert len(service.ask(requests)) == 4
    store = Store()
    huge = store.reserve("a", "key", Spent(1, 0, 2**70), Budget())
    assert isinstance(huge, int)
    store.settle(huge, "a", Spent(1, 0, 2**70))
    store.settle(huge, "a", Spent(1, 0, 2**70))
    assert store.spent("a").completion == 2**63 - 1
    assert store.reserve("a", "key", Spent(1, 0, 1), Budget(tokens=2**63 - 1)) == f"{2**63 - 1} tokens"
