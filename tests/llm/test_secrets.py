"""The key's text appears nowhere: not in files, exceptions, logs, or what prints itself."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from tests.llm.endpoint import Endpoint, completion

from pilotage.core.errors import UsageError
from pilotage.llm import ChatAnswer, ChatRequest, OpenAICompatible, Retries, Service, Store, say
from pilotage.types import Failed

pytest.importorskip("openai", reason="the extra llm is not installed")

KEY = "sk-very-secret-0123456789"
ONCE = Retries(tries=1)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)


@pytest.mark.parametrize(
    "fault",
    [
        None,
        ("status", 401, {}, f"Incorrect API key provided: {KEY}"),
        ("status", 400, {}, f"you sent Authorization: Bearer {KEY}"),
        ("status", 500, {}, f"trace: Bearer {KEY}"),
        ("status", 429, {"retry-after": "9999"}, f"too many calls of {KEY}"),
        ("body", f"your key is {KEY}".encode()),
        ("body", json.dumps({"choices": [{"message": {"content": [KEY]}}]}).encode()),
        ("body", json.dumps(completion(f"your key is {KEY}", usage=None)).encode()),
        ("cut-body",),
        ("slow", 5.0),
    ],
    ids=lambda fault: "-".join(map(str, fault or ("none",)))[:24],
)
def test_the_key_is_sent_and_appears_nowhere_else(
    fault: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint, shown = Endpoint(), ""
    with endpoint.listening() as address:
        endpoint.faults = [fault]
        provider = OpenAICompatible("tiny", base_url=address, key_variable="MY_KEY")
        with Service(provider, store=Store(tmp_path / "run" / "a.sqlite"), retries=ONCE, timeout=1.0) as service:
            try:
                (answer,) = service.ask([ChatRequest(say("hello"))])
                shown += repr(answer)
            except UsageError as error:
                shown += "".join(traceback.format_exception(error)) + _whole_chain(error)
            shown += repr(vars(service.provider) | {"_client": None}) + repr(service.failures)
            shown += repr(provider) + repr(dict(provider.identity)) + repr(service.counters())
            # Also while the write-ahead log still stands beside the file.
            files = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert endpoint.headers[0]["authorization" if "authorization" in endpoint.headers[0] else "Authorization"].endswith(
        KEY
    )
    files += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in files
    assert KEY not in shown
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())


def _whole_chain(error: BaseException | None) -> str:
    """Also the contexts that a traceback would not show."""
    found = ""
    while error is not None:
        found += repr(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return found


def test_a_prompt_that_holds_the_key_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    endpoint = Endpoint()
    with endpoint.listening() as address:
        provider = OpenAICompatible("tiny", base_url=address, key_variable="MY_KEY")
        with (
            Service(provider, store=Store(tmp_path / "a.sqlite")) as service,
            pytest.raises(UsageError, match="holds the key of MY_KEY") as refused,
        ):
            service.ask([ChatRequest(say(f"my key is {KEY}"))])
    assert endpoint.bodies == []
    assert KEY not in _whole_chain(refused.value)
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_another_key_gets_the_same_kept_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint = Endpoint()
    with endpoint.listening() as address:
        for _ in range(2):
            provider = OpenAICompatible("tiny", base_url=address, key_variable="MY_KEY")
            with Service(provider, store=Store(tmp_path / "a.sqlite")) as service:
                service.ask([ChatRequest(say("hello"))])
            monkeypatch.setenv("MY_KEY", "another one")
    assert len(endpoint.bodies) == 1


def test_a_word_in_the_place_of_a_key_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "EMPTY")
    endpoint = Endpoint(lambda _: "EMPTY it")
    with endpoint.listening() as address:
        provider = OpenAICompatible("tiny", base_url=address, key_variable="MY_KEY")
        with Service(provider) as service:
            (answer,) = service.ask([ChatRequest(say("The bin is EMPTY?"))])
    assert isinstance(answer, ChatAnswer)
    assert answer.text == "EMPTY it"


def test_without_a_key_the_vendor_is_not_called_and_the_variable_is_named() -> None:
    with (
        Service(OpenAICompatible("gpt-4o-mini", key_variable="NO_SUCH_KEY")) as service,
        pytest.raises(UsageError, match="NO_SUCH_KEY"),
    ):
        service.ask([ChatRequest(say("hello"))])


def test_a_failure_says_what_happened_without_the_key() -> None:
    endpoint = Endpoint()
    with endpoint.listening() as address:
        endpoint.faults = [("status", 500, {}, f"no luck with {KEY} today")]
        provider = OpenAICompatible("tiny", base_url=address, key_variable="MY_KEY")
        with Service(provider, retries=ONCE) as service:
            (answer,) = service.ask([ChatRequest(say("hello"))])
    assert isinstance(answer, Failed)
    assert "no luck with [key] today" in answer.detail
