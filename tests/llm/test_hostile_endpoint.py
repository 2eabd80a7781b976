"""Endpoints that break, lie or attack: one sentence, within the limits, without the key."""

from __future__ import annotations

import gzip
import json
import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.llm.endpoint import Endpoint, completion

from pilotage.core.errors import UsageError
from pilotage.llm import (
    ChatAnswer,
    ChatRequest,
    OpenAICompatible,
    Retries,
    Service,
    Store,
    openai_compatible,
    say,
)
from pilotage.types import Failed

pytest.importorskip("openai", reason="the extra llm is not installed")

KEY = "sk-very-secret-0123456789"
AT_ONCE = Retries(tries=6, first=0.0, longest=5.0)
WHOLE = json.dumps(completion("a" * 200, usage=None)).encode()


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def address(endpoint: Endpoint) -> Iterator[str]:
    with endpoint.listening() as address:
        yield address


def ask(address: str, count: int = 1, provider: dict[str, Any] | None = None, **options: Any) -> tuple[list[Any], Any]:
    request = {"max_tokens": 50, **options.pop("request", {})}
    options = {"retries": AT_ONCE, "timeout": 20.0, "concurrency": 1, **options}
    with Service(OpenAICompatible("tiny", base_url=address, **provider or {}), **options) as service:
        return service.ask([ChatRequest(say(f"question {n}"), **request) for n in range(count)]), service.counters()


def http(head: str, body: bytes = b"") -> tuple[str, bytes]:
    return "raw", head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


FAULTS: dict[str, Any] = {
    "unauthorised": ("status", 401, {}, f"Incorrect API key provided: {KEY}"),
    "rate limit": ("status", 429, {"retry-after": "9999", "x-key": KEY}, f"too many calls of {KEY}"),
    "server error": ("status", 500, {}, f"Authorization: Bearer {KEY}"),
    "error page": http("HTTP/1.1 500 No\ncontent-type: text/html", f"<h1>{KEY}\x1b[31m</h1>".encode()),
    "error as text": http("HTTP/1.1 400 No\ncontent-type: text/plain", f"{KEY} ".encode() * 200),
    "redirect": ("status", 307, {"location": f"http://elsewhere.example/{KEY}"}, "moved"),
    "invalid header": http(f"HTTP/1.1 200 OK\nbad header {KEY}\x01"),
    "invalid status": http(f"HTTP/1.1 {KEY} OK"),
    "no HTTP": ("raw", f"{KEY}\r\n\r\n".encode()),
    "dropped": ("cut",),
    "dropped in the body": ("cut-body",),
    "no JSON": ("body", b'{"choices": [{"mess' + KEY.encode()),
    "no UTF-8": ("body", b"\xff\xfe\x00" + KEY.encode()),
    "deep JSON": ("body", b"[" * 100_000),
    "long number": ("body", b'{"choices": ' + b"7" * 5000 + b"}"),
    "only an error": ("body", json.dumps({"error": {"message": f"no luck with {KEY}", "code": 500}}).encode()),
    "no choices": ("body", b'{"id": "1"}'),
    "empty choices": ("body", b'{"choices": []}'),
    "choices are null": ("body", b'{"choices": null}'),
    "choices of numbers": ("body", b'{"choices": [1]}'),
    "no message": ("body", b'{"choices": [{"finish_reason": "stop"}]}'),
    "content of objects": ("body", json.dumps({"choices": [{"message": {"content": [{"type": "image"}]}}]}).encode()),
    "content is a number": ("body", b'{"choices": [{"message": {"content": 7}}]}'),
    "web page": ("typed", "text/html", f"<html>{KEY}</html>".encode()),
    "stream": ("typed", "text/event-stream", f'data: {{"choices": [], "key": "{KEY}"}}\n\n'.encode()),
    "too short": http(f"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: {len(WHOLE) - 9}", WHOLE),
    "too long": http(f"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: {len(WHOLE) + 9}", WHOLE),
    "negative length": http("HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: -1", WHOLE),
    "two lengths": http("HTTP/1.1 200 OK\ncontent-length: 5\ncontent-length: 6", WHOLE),
    "header flood": ("flood", b"x-more: " + KEY.encode() * 100 + b"\r\n"),
    "long header": ("flood", b"x" * 65536),
    "wrong gzip": http("HTTP/1.1 200 OK\ncontent-encoding: gzip", KEY.encode()),
    "slow": ("slow", 30.0),
    "drip": ("dribble", 300.0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_one_sentence_without_the_key_and_nothing_hangs(
    name: str,
    endpoint: Endpoint,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("MY_KEY", f" {KEY}\r\n")  # As a mounted secret has it.
    endpoint.faults, shown = [FAULTS[name]], ""
    provider = OpenAICompatible("tiny", base_url=address, key_variable="MY_KEY")
    limit = 0.4 if name in ("slow", "drip") else 20.0
    store = Store(tmp_path / "a.sqlite")
    with Service(provider, store=store, retries=Retries(tries=1), timeout=limit) as service:
        try:
            (answer,) = service.ask([ChatRequest(say("hello"), max_tokens=50)])
            assert isinstance(answer, Failed)
            shown += repr(answer)
            sentence = answer.detail
        except UsageError as error:
            shown += "".join(traceback.format_exception(error))
            sentence = str(error)
        shown += repr(vars(provider)) + repr(service.notes()) + repr(service.counters())
        # The service goes on.
        (answer,) = service.ask([ChatRequest(say("and now?"), max_tokens=50)])
        assert isinstance(answer, ChatAnswer)
        files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    files += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert endpoint.headers[0].get("Authorization", endpoint.headers[0].get("authorization")) == f"Bearer {KEY}"
    assert len(sentence) < 900
    assert sentence.isprintable()
    for text in (shown, caplog.text, *capfd.readouterr(), files.decode("latin-1")):
        assert KEY not in text
        assert KEY[:12] not in text


@pytest.mark.parametrize("key", ["sk-aaaa\nbbbb-0123456789", "sk-aaaa\x00bbbb-0123456789", "sk-aaaäbbbb-0123456789"])
def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it(
    key: str, endpoint: Endpoint, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Environment(dict):  # type: ignore[type-arg]
        """A variable of the environment cannot hold a zero byte; one of a program's own mapping can."""

    monkeypatch.setattr(openai_compatible.os, "environ", Environment(MY_KEY=key))
    with pytest.raises(UsageError, match="MY_KEY") as refused:
        ask(address, provider={"key_variable": "MY_KEY"})
    assert "bbbb" not in "".join(traceback.format_exception(refused.value))
    assert endpoint.bodies == []


@pytest.mark.parametrize("zipped", [False, True])
def test_an_answer_of_50_megabytes_is_not_read(endpoint: Endpoint, address: str, zipped: bool) -> None:
    body = b'{"choices": [{"message": {"content": "' + b"a" * (50 * 2**20)
    fault: Any = ("body", body)
    if zipped:
        fault = http("HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-encoding: gzip", gzip.compress(body, 1))
    endpoint.faults = [fault]
    (answer,), counters = ask(address)
    assert "32 MiB" in answer.detail
    assert counters.called == 1


def test_prompts_do_not_follow_a_redirect(endpoint: Endpoint, address: str) -> None:
    other = Endpoint()
    with other.listening() as elsewhere:
        endpoint.faults = [("status", code, {"location": f"{elsewhere}/x"}, "") for code in (301, 302, 303, 307, 308)]
        for _ in range(5):
            with pytest.raises(UsageError, match=re.escape(elsewhere.split("/")[2])):
                ask(address)
    assert other.bodies == []
    assert len(endpoint.bodies) == 5


# ---- what is sent, and what is tried again ---------------------------------------------------------------------------


def test_a_parameter_that_nobody_set_is_not_sent(endpoint: Endpoint, address: str) -> None:
    for sampling in ({}, {"temperature": 0.0}, {"top_p": 0.5}, {"temperature": 1.0, "top_p": 1.0}):
        ask(address, request=sampling)
        body = endpoint.bodies[-1]
        assert {name: body[name] for name in ("temperature", "top_p") if name in body} == sampling


def test_a_request_with_a_set_value_is_another_one_than_without() -> None:
    assert ChatRequest(say("x")) != ChatRequest(say("x"), temperature=1.0)


def strict(code: int, message: str, wrong: Any) -> Any:
    """Reply of an endpoint that refuses some bodies: a fault for those, none for others."""
    return lambda body: ("status", code, {}, message) if wrong(body) else None


@pytest.mark.parametrize(
    ("message", "code", "parameter", "instead"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            400,
            "max_tokens",
            "max_completion_tokens",
        ),
        ("body.seed: Extra inputs are not permitted", 422, "seed", None),
    ],
)
def test_an_endpoint_that_wants_another_parameter_gets_it_from_then_on(
    endpoint: Endpoint, address: str, message: str, code: int, parameter: str, instead: str | None
) -> None:
    endpoint.fault_of = strict(code, message, lambda body: parameter in body)
    answers, counters = ask(address, 3, request={"seed": 1})
    assert all(isinstance(answer, ChatAnswer) for answer in answers)
    assert [parameter in body for body in endpoint.bodies] == [True, False, False, False]
    assert instead is None or endpoint.bodies[-1][instead] == 50
    assert counters.spent_calls == 3


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "temperature"),
        ("Unsupported value: 'top_p' does not support 0.9 with this model.", "top_p"),
    ],
)
def test_a_refused_parameter_that_was_set_stops_at_once_and_is_named(
    endpoint: Endpoint, address: str, message: str, named: str
) -> None:
    endpoint.fault_of = strict(400, message, lambda _: True)
    with pytest.raises(UsageError, match=named):
        ask(address, 30, request={"temperature": 0.5, "top_p": 0.9})
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize(
    ("code", "message", "calls"),
    [
        (429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 45411. Reduce it.", 1),
        (429, "Request too large for m. Limit: 30,000, Requested: 45,411.", 1),
        (429, "Rate limit reached for m on tokens per min: Limit 250000, Used 249900, Requested 546.", 2),
        (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.", 1),
        (400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens", 1),
        (413, "payload", 1),
        (500, "the request exceeds the available context size", 1),
        (503, "overloaded", 2),
    ],
)
def test_only_a_request_that_may_fit_later_is_tried_again(
    endpoint: Endpoint, address: str, code: int, message: str, calls: int
) -> None:
    endpoint.faults = [("status", code, {}, message)]
    (answer,), counters = ask(address)
    assert counters.called == calls
    assert isinstance(answer, ChatAnswer) or answer.reason == "too_large"
    assert isinstance(answer, ChatAnswer) is (calls == 2)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7", "retry-after-ms": "40"}, 0.04),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 999999 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_an_endpoint_asks_for(headers: dict[str, str], wait: float | None) -> None:
    assert openai_compatible._wait_of(headers) == wait


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://no-such-host.invalid/v1", "cannot be resolved"),
        ("https://HOST/v1", "http://"),
    ],
)
def test_a_wrong_address_stops_at_once(address: str, url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ask(url.replace("HOST", address.split("/")[2]), 30)


# ---- the same questions at another address ---------------------------------------------------------------------------


def test_questions_that_a_new_address_repeats_are_counted(
    endpoint: Endpoint, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.sqlite"
    _, counters = ask(address, 3, store=Store(path))
    assert counters.repeated == 0
    _, counters = ask(address.replace("127.0.0.1", "localhost"), 4, store=Store(path))
    assert (counters.repeated, counters.called, len(endpoint.bodies)) == (3, 4, 7)
    assert caplog.text.count("Give the old address") == 1
    _, counters = ask(address, 4, store=Store(path))
    assert (counters.repeated, counters.called) == (1, 1)
