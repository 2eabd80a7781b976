"""Answers as objects: right at once, right when asked once more, or the caller's fallback; each counted."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.llm.playing import Playing

from pilotage.core.errors import UsageError
from pilotage.llm import ChatRequest, Refused, Retries, Scripted, Service, say, structured
from pilotage.llm.structured import one_object

pydantic = pytest.importorskip("pydantic", reason="the extra llm is not installed")


class Order(pydantic.BaseModel):
    action: Literal["buy", "sell", "no"]
    amount: int = pydantic.Field(gt=0)
    price: float = pydantic.Field(gt=0)


GOOD = {"action": "buy", "amount": 3, "price": 30.5}
NOTHING = Order(action="no", amount=1, price=1.0)


def answering(*texts: str, **options: Any) -> tuple[Any, Any, list[ChatRequest]]:
    """What `structured` makes of a model that says these texts, one per call."""
    left, seen = list(texts), []

    def script(request: ChatRequest, _: int) -> str:
        seen.append(request)
        return left.pop(0)

    with Service(Scripted(script, "trader")) as service:
        request = ChatRequest(say("What do you do?"))
        (result,) = structured(service, [request], Order, lambda *_: NOTHING, **options)
        return result, service.counters(), seen


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"I think {{carefully}} that {json.dumps(GOOD)} is best.",
        json.dumps({**GOOD, "amount": "3"}),
    ],
)
def test_an_object_is_found_whatever_stands_around_it(text: str) -> None:
    result, counters, seen = answering(text)
    assert (result.value, result.how) == (Order(**GOOD), "first")
    assert (len(seen), counters.repaired, counters.fallen_back) == (1, 0, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("Ich kaufe drei Stück zu dreißig.", "no JSON object"),
        ("我买三股", "no JSON object"),
        ("I cannot give financial advice.", "no JSON object"),
        (json.dumps(GOOD)[:-5], "no JSON object"),
        ('{"order": {"action": "buy", "amount": 3, "price": 30.5}, oops', "no JSON object"),
        ('{"action": "buy", "amount": 3, "price": NaN}', "no JSON object"),
        ('{"action": "buy", // three\n "amount": 3, "price": 2}', "no JSON object"),
        ("{" * 100_000, "no JSON object"),
        ('{"a":' * 100_000, "no JSON object"),
        (json.dumps(GOOD) + json.dumps(GOOD), "several JSON objects"),
        (json.dumps([1, 2]), "no JSON object"),
        (json.dumps({**GOOD, "amount": 0}), "wrong schema: amount"),
        (json.dumps({**GOOD, "amount": 1.5}), "wrong schema: amount"),
        (json.dumps({**GOOD, "action": "kaufen"}), "wrong schema: action"),
        (json.dumps({"action": "buy"}), "wrong schema: amount"),
    ],
    ids=lambda text: text[:30],
)
def test_what_does_not_fit_is_asked_for_once_more_with_the_reason_and_then_falls_back(text: str, reason: str) -> None:
    result, counters, seen = answering(text, json.dumps(GOOD))
    assert (result.value, result.how) == (Order(**GOOD), "repaired")
    assert result.reason.startswith(reason)
    assert (counters.repaired, counters.fallen_back) == (1, 0)
    first, second = seen
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[-2].role == "assistant"
    assert text in second.messages[-2].content
    assert second.messages[-2].content
    assert result.reason in second.messages[-1].content
    result, counters, seen = answering(text, text)
    assert (result.value, result.how) == (NOTHING, "fallback")
    assert result.reason.startswith(reason)
    assert (len(seen), counters.repaired, counters.fallen_back) == (2, 0, 1)


def test_a_check_of_the_caller_counts_as_well() -> None:
    def affordable(_: ChatRequest, order: Order) -> str:
        return "it costs more than the 50 you have" if order.amount * order.price > 50 else ""

    cheap = json.dumps({**GOOD, "amount": 1})
    result, _, seen = answering(json.dumps(GOOD), cheap, check=affordable)
    assert (result.value.amount, result.how) == (1, "repaired")
    assert "more than the 50" in seen[1].messages[-1].content


def test_how_often_to_repair_is_a_choice() -> None:
    assert answering("no", repairs=0)[0].how == "fallback"
    assert answering("no", "no", "no", json.dumps(GOOD), repairs=3)[0].how == "repaired"


def test_requests_keep_their_order_and_only_wrong_ones_are_asked_again() -> None:
    def script(request: ChatRequest, _: int) -> Any:
        number = int(request.messages[0].content)
        return {**GOOD, "amount": number + 1} if number % 2 or len(request.messages) > 1 else "hm"

    with Service(Scripted(script, "trader")) as service:
        requests = [ChatRequest(say(str(number))) for number in range(6)]
        results = structured(service, requests, Order, lambda *_: NOTHING)
        assert [result.value.amount for result in results] == [1, 2, 3, 4, 5, 6]
        assert [result.how for result in results] == ["repaired", "first"] * 3
        assert (service.counters().called, service.counters().repaired) == (9, 3)


def test_a_request_without_any_answer_falls_back_without_another_try() -> None:
    async def play(_: ChatRequest) -> None:
        raise Refused("timeout", "too slow")

    provider = Playing(play=play)
    with Service(provider, retries=Retries(tries=2, first=0.0, longest=0.0)) as service:
        (result,) = structured(service, [ChatRequest(say("x"))], Order, lambda *_: NOTHING)
        assert (result.how, result.reason) == ("fallback", "timeout: too slow")
        assert len(provider.called) == 2
        assert (service.counters().failed, service.counters().fallen_back) == (1, 1)


def test_a_fallback_of_another_type_is_refused() -> None:
    with (
        Service(Scripted(lambda *_: "no", "trader")) as service,
        pytest.raises(UsageError, match="fallback gave a dict"),
    ):
        structured(service, [ChatRequest(say("x"))], Order, lambda *_: {"action": "no"})  # type: ignore[arg-type,return-value]


@given(
    st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)),
    st.text(st.characters(exclude_characters="{}"), max_size=9),
    st.text(st.characters(exclude_characters="{}"), max_size=9),
)
def test_any_object_is_found_between_any_words(value: dict[str, Any], before: str, after: str) -> None:
    assert one_object(f"{before}{json.dumps(value)}{after}") == value
