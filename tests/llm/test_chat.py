"""Requests, their keys, and what an answer says of who gave it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.llm import ChatRequest, Message, OpenAICompatible, say
from pilotage.llm.chat import key_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=3)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
# Few values each, so that equal requests come up often.
REQUESTS = st.builds(
    ChatRequest,
    messages=st.just(say("a")) | MESSAGES,
    temperature=st.sampled_from([0, 0.0, -0.0, 1, 1.0, 0.7]),
    top_p=st.sampled_from([1, 1.0, 0.5]),
    max_tokens=st.sampled_from([1, 2]),
    stop=st.sampled_from([(), ("a",), ("a", "b"), ("ab",)]),
    seed=st.sampled_from([None, 0, 1]),
    alternatives=st.sampled_from([None, 0, 5]),
    schema=st.sampled_from([None, {}, {"type": "object"}]),
    extra=st.just({}) | st.dictionaries(TEXT, JSON, max_size=2),
    draw=st.sampled_from([0, 1]),
)
PLACES = st.builds(
    OpenAICompatible,
    model=st.sampled_from(["a", "b"]),
    base_url=st.sampled_from(["http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/", "http://127.0.0.1:2/v1"]),
    key_variable=st.sampled_from(["A_KEY", "B_KEY"]),
)


def fields(request: ChatRequest) -> str:
    """All that a request says, by Python's own writing, in which 1 and True differ; numbers as they were set."""
    return repr({name: _sorted(value) for name, value in asdict(request).items()})


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _sorted(inner)) for key, inner in value.items())
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value


@given(REQUESTS, REQUESTS, PLACES, PLACES)
def test_keys_are_equal_exactly_when_request_model_and_address_are(
    first: ChatRequest, second: ChatRequest, here: OpenAICompatible, there: OpenAICompatible
) -> None:
    same_place = (here.name, here.base_url) == (there.name, there.base_url)
    same = fields(first) == fields(second)
    assert (first == second) == same
    assert (key_of(here.identity, first) == key_of(there.identity, second)) == (same and same_place)


@given(REQUESTS, st.data())
def test_every_single_field_is_in_the_key(request: ChatRequest, data: st.DataObject) -> None:
    other = data.draw(REQUESTS)
    name = data.draw(st.sampled_from(sorted(asdict(request))))
    changed = replace(request, **{name: getattr(other, name)})
    identity = {"model": "a"}
    assert (key_of(identity, request) == key_of(identity, changed)) == (fields(request) == fields(changed))


def test_the_order_of_a_mapping_does_not_matter_and_that_of_messages_does() -> None:
    first = ChatRequest(say("a"), extra={"x": 1, "y": {"b": 1, "a": 2}})
    assert first == ChatRequest(say("a"), extra={"y": {"a": 2, "b": 1}, "x": 1})
    turns = (Message("user", "a"), Message("user", "b"))
    assert ChatRequest(turns) != ChatRequest(turns[::-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": ()},
        {"messages": ("hello",)},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"max_tokens": 0},
        {"draw": -1},
        {"alternatives": 21},
        {"extra": {"x": float("nan")}},
        {"extra": {"x": set()}},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ChatRequest(**{"messages": say("a"), **wrong})


@pytest.mark.parametrize(("role", "content"), [("tool", "a"), ("user", 7), ("user", "\ud800")])
def test_a_message_that_cannot_be_sent_is_refused(role: Any, content: Any) -> None:
    with pytest.raises(UsageError):
        Message(role, content)
