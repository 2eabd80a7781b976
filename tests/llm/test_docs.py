"""The page on the service runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.llm.endpoint import Endpoint
from tests.llm.models import chatting

from pilotage.llm import ChatRequest, OpenAICompatible, Scripted, Service, say

pytest.importorskip("openai", reason="the extra llm is not installed")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/llm.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, providers, structure = blocks()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pilotage.policies.language.policy.LanguagePolicy.from_pretrained", lambda _: chatting())
    endpoint = Endpoint(lambda _: "Yes")
    with endpoint.listening() as address:
        monkeypatch.setattr("pilotage.llm.OpenAICompatible", lambda model: OpenAICompatible(model, base_url=address))
        names: dict[str, Any] = {}
        exec(first, names)
    assert capsys.readouterr().out.startswith("Yes\nYes\nYes\nCounters(asked=3")
    exec(providers, names)
    for name, source in (("local", "local"), ("stand_in", "scripted")):
        with Service(names[name]) as service:
            (answer,) = service.ask([ChatRequest(say("hello"), max_tokens=4)])
            assert answer.source == source
            print(answer)
    assert "[scripted stand-in worker] {" in capsys.readouterr().out
    with Service(Scripted(lambda *_: {"stock": "B", "amount": 2}, "trader")) as service:
        exec(structure, names := {"service": service, "requests": [ChatRequest(say("hello"))]})
    assert names["results"][0].value.amount == 2
