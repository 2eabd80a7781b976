"""A client killed in the middle of its requests: nothing lost, and what may be paid twice is known."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.llm.asking import questions
from tests.llm.endpoint import Endpoint

from pilotage.llm import Budget, OpenAICompatible, Service, Spent, Store

pytest.importorskip("openai", reason="the extra llm is not installed")

COUNT, CONCURRENCY = 20, 4


class Killing(Endpoint):
    """Kills the client when call number `at` arrives: then the calls before it are answered or under way."""

    def __init__(self, at: int) -> None:
        super().__init__(self.said, delay=0.01)
        self.at, self.client, self.handed = at, 0, Counter[str]()
        self.armed = threading.Event()

    def said(self, body: dict[str, Any]) -> str:
        question = body["messages"][-1]["content"]
        self.armed.wait()
        with self.lock:
            self.handed[question] += 1
            if self.client and len(self.handed) >= self.at:
                os.kill(self.client, signal.SIGKILL)
                self.client = 0
        return f"re: {question}"


@pytest.mark.parametrize("at", [1, 9, 20])
def test_killed_in_the_middle_nothing_is_lost_and_at_most_the_calls_under_way_are_paid_twice(
    at: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint, path = Killing(at), tmp_path / "a.sqlite"
    with endpoint.listening() as address:
        command = [sys.executable, "-m", "tests.llm.asking", address, str(path), str(COUNT), str(CONCURRENCY)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])}
        client = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE)
        assert client.stdout is not None
        assert client.stdout.readline() == b"asking\n"
        endpoint.client = client.pid
        endpoint.armed.set()
        assert client.wait() == -signal.SIGKILL
        client.stdout.close()
        before = len(endpoint.handed)
        with (
            caplog.at_level(logging.WARNING, "pilotage.llm"),
            Service(
                OpenAICompatible("tiny", base_url=address), store=Store(path), account="run", concurrency=CONCURRENCY
            ) as service,
        ):
            left = len(service.missing(questions(COUNT)))
            answers = service.ask(questions(COUNT))
            counters = service.counters()
            interrupted = service.interrupted
    # Nothing lost: what had been written down is not asked again, and all of it is answered.
    assert [answer.text for answer in answers] == [f"re: question {number}" for number in range(COUNT)]
    assert counters.called == left
    assert counters.cached == COUNT - left
    # Paid twice: at most the calls that were in flight, which are reported.
    twice = sum(number - 1 for number in endpoint.handed.values())
    assert twice <= interrupted <= CONCURRENCY
    assert interrupted > 0
    assert counters.maybe_paid_twice == interrupted
    assert f"{interrupted} calls of run were in flight" in caplog.text
    # They count against the budget with the most that they can have taken.
    assert counters.spent_calls == COUNT + interrupted
    assert counters.spent_calls >= sum(endpoint.handed.values())
    assert before >= at


def test_the_next_start_reports_nothing_twice(tmp_path: Path) -> None:
    endpoint, path = Endpoint(delay=30.0), tmp_path / "a.sqlite"
    with endpoint.listening() as address:
        command = [sys.executable, "-m", "tests.llm.asking", address, str(path), "3", "3"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])}
        client = subprocess.Popen(command, env=environment, cwd=ROOT)
        while len(endpoint.bodies) < 3:
            assert client.poll() is None
        # While the client lives, its calls are its own.
        with Service(OpenAICompatible("tiny", base_url=address), store=Store(path), account="run") as beside:
            assert beside.interrupted == 0
        client.kill()
        client.wait()
        for expected in (3, 0):
            with Service(OpenAICompatible("tiny", base_url=address), store=Store(path), account="run") as service:
                assert service.interrupted == expected
                assert service.counters().maybe_paid_twice == 3
                assert service.counters().spent_completion_tokens == 150


def test_calls_of_another_host_are_abandoned_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container was killed and begins again under another host name."""
    store = Store(tmp_path / "a.sqlite")
    for _ in range(2):
        store.reserve("run", "key", Spent(1, 2, 3, 4), Budget())
    store.close()
    monkeypatch.setattr("pilotage.llm.store.socket.gethostname", lambda: "another")
    again = Store(tmp_path / "a.sqlite")
    assert again.settle_abandoned("run") == 0
    now = time.time()
    monkeypatch.setattr("pilotage.llm.store.time.time", lambda: now + 3601)
    assert again.settle_abandoned("run") == 2
    assert again.spent("run") == Spent(2, 4, 6, 8)
    assert again.interrupted("run") == 2
