"""Somebody else's server of the same protocol, `transformers serve`, gives what our local model gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.llm.models import chatting

from pilotage.engines import build_engine
from pilotage.llm import ChatAnswer, ChatRequest, LocalModel, OpenAICompatible, Retries, Service, say
from pilotage.types import Failed

for name in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(name, reason=f"transformers serve needs {name} (extra test)")

pytestmark = pytest.mark.slow  # It takes half a minute to start.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served") / "tiny"
    chatting().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    log = folder.parent / "log.txt"
    with log.open("wb") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        for _ in range(1800):
            if server.poll() is not None:
                pytest.fail(f"transformers serve ended: {log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def test_greedy_answers_and_usage_agree_with_our_engine(folder: Path, address: str) -> None:
    requests = [
        ChatRequest(say(f"number {number}", system="be brief"), temperature=0.0, max_tokens=10) for number in range(4)
    ]
    policy = chatting()
    with Service(LocalModel(policy, build_engine("auto", policy.model, policy.tokenizer))) as service:
        expected = service.ask(requests)
    with Service(OpenAICompatible(str(folder), base_url=address), concurrency=2) as service:
        answers = service.ask(requests)
    for answer, own in zip(answers, expected, strict=True):
        assert isinstance(answer, ChatAnswer)
        assert isinstance(own, ChatAnswer)
        assert answer.text.strip() == own.text.strip()
        assert (answer.usage, answer.stop) == (own.usage, own.stop)


def test_log_probabilities_that_the_server_does_not_give_are_a_failure(folder: Path, address: str) -> None:
    with Service(OpenAICompatible(str(folder), base_url=address), retries=Retries(tries=2, first=0.1)) as service:
        (answer,) = service.ask([ChatRequest(say("hello"), max_tokens=4, alternatives=3)])
        assert isinstance(answer, Failed)
        assert answer.reason in ("no_logprobs", "bad_request")
        assert service.counters().called == 1
