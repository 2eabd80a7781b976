"""Asking many things at a time, and being stopped."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.llm.playing import Playing

from pilotage.core.errors import UsageError
from pilotage.llm import ChatRequest, Refused, Retries, Service, Store, Usage, say


def numbered(count: int) -> list[ChatRequest]:
    return [ChatRequest(say(f"question {number}")) for number in range(count)]


def test_equal_requests_in_one_batch_and_from_two_threads_are_asked_once() -> None:
    under_way, go_on = threading.Event(), threading.Event()

    async def play(_: ChatRequest) -> None:
        under_way.set()
        await asyncio.to_thread(go_on.wait)

    provider = Playing(play=play)
    provider.kept = False  # So that only sharing saves the second call.
    answers = []
    with Service(provider) as service:
        first = threading.Thread(target=lambda: answers.extend(service.ask(numbered(1) * 3)))
        second = threading.Thread(target=lambda: answers.extend(service.ask(numbered(1))))
        first.start()
        under_way.wait()
        second.start()
        for _ in range(1000):
            if service.counters().shared == 3:
                break
            time.sleep(0.01)
        go_on.set()
        first.join()
        second.join()
        counters = service.counters()
    assert len(provider.called) == counters.called == 1
    assert [answer.text for answer in answers] == ["re: question 0"] * 4
    assert (counters.asked, counters.shared) == (4, 3)


def test_asking_works_inside_a_running_loop_as_in_a_notebook() -> None:
    async def cell() -> str:
        with Service(Playing()) as service:
            return service.ask(numbered(1))[0].text

    assert asyncio.run(cell()) == "re: question 0"


def test_the_layer_is_light_until_it_is_used() -> None:
    code = "import sys, pilotage.llm; print([name for name in ('torch', 'openai', 'pydantic') if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_asked_is_nothing_answered() -> None:
    with Service(Playing()) as service:
        assert service.ask([]) == []


def test_an_exception_of_the_provider_reaches_the_caller_and_what_was_answered_is_kept() -> None:
    async def play(request: ChatRequest) -> None:
        if "2" in request.messages[-1].content:
            raise KeyError("a bug")

    provider = Playing(play=play)
    with Service(provider, concurrency=1) as service:
        with pytest.raises(KeyError, match="a bug"):
            service.ask(numbered(5))
        assert len(service.missing(numbered(5))) == 3


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests were started in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_waiting_and_charges_what_was_under_way() -> None:
    started = threading.Event()

    async def play(_: ChatRequest) -> None:
        started.set()
        await asyncio.sleep(3600)

    with Service(Playing(play=play), concurrency=2) as service:

        def interrupt() -> None:
            started.wait()
            # To this thread, so that it does not wake the waiting one: as when Ctrl-C comes just before the wait.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            service.ask(numbered(5))
        counters = service.counters()
        assert counters.spent_calls == counters.called
        assert counters.called in (1, 2)
        assert service.interrupted == 0


def test_a_forked_process_is_told_to_make_its_own() -> None:
    with Service(Playing()) as service:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                service.ask(numbered(1))
            except UsageError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as said:
            assert "forked" in said.read()
        os.waitpid(child, 0)
        assert len(service.ask(numbered(1))) == 1


def test_a_closed_service_says_so() -> None:
    service = Service(Playing())
    service.close()
    with pytest.raises(UsageError, match="closed"):
        service.ask(numbered(1))


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("hello " * 1000)
    with pytest.raises(UsageError, match="no store of answers"):
        Store(tmp_path / "a.sqlite")


def test_counters_go_into_metrics_by_name() -> None:
    with Service(Playing(lambda _: Usage(3, 4))) as service:
        service.ask(numbered(2))
        metrics = service.counters().metrics()
    assert metrics["llm/called"] == 2
    assert metrics["llm/spent_prompt_tokens"] == 6
    assert all(isinstance(value, int | float) for value in metrics.values())


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"max_consecutive_failures": 0}, {"timeout": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Service(Playing(), **wrong)


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_waits_double_up_to_the_longest_and_are_spread_over_the_whole_range() -> None:
    retries, noise = Retries(tries=10, first=1.0, longest=8.0), random.Random(0)
    for tried, longest in enumerate([1, 2, 4, 8, 8, 8], start=1):
        waits = [retries.wait(Refused("timeout"), tried, noise) or 0.0 for _ in range(500)]
        assert 0 <= min(waits) < 0.1 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_a_named_wait_is_never_cut_short() -> None:
    retries, noise = Retries(first=1.0, longest=30.0), random.Random(0)
    waits = [retries.wait(Refused("rate_limit", wait=20.0), 1, noise) or 0.0 for _ in range(200)]
    assert min(waits) >= 20.0
    assert max(waits) <= 21.0
    assert len(set(waits)) > 1


def test_no_wait_after_the_last_try_or_where_trying_again_is_useless() -> None:
    retries, noise = Retries(tries=3), random.Random(0)
    assert retries.wait(Refused("timeout"), 3, noise) is None
    assert retries.wait(Refused("bad_request", again=False), 1, noise) is None
    assert retries.wait(Refused("rate_limit", wait=61.0), 1, noise) is None


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"first": -1.0}, {"first": 2.0, "longest": 1.0}])
def test_retries_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Retries(**wrong)
