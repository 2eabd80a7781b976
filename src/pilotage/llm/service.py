"""A language model as a service: asks a provider for many answers at a time, keeps them, and respects the budget."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from pilotage.core.errors import UsageError
from pilotage.llm.budget import Budget, BudgetReached, Counters, Prices, Spent
from pilotage.llm.chat import ChatAnswer, ChatRequest, Provider, Refused, Usage, key_of, question_of
from pilotage.llm.reading import read_answer
from pilotage.llm.retries import Retries
from pilotage.llm.store import Kept, Store
from pilotage.types import Failed

logger = logging.getLogger("pilotage.llm")
T = TypeVar("T")
SHUTDOWN_SECONDS = 10.0
"""Seconds that an interrupt waits for calls in flight to be written down."""
POLL_SECONDS = 0.2
"""Seconds after which an interrupt is noticed that came just before the wait for an answer began."""

_NOTES = {
    "fallen_back": "answers could not be read, also when asked for again, and were replaced",
    "repaired": "answers could be read only when asked for again",
    "estimated": "calls came without a believable count of tokens and were charged with their largest possible cost",
    "underestimated": "calls took more tokens than had been reserved for them",
    "repeated": "requests were asked again although the store holds answers from another address or other options",
    "maybe_paid_twice": "calls were in flight when a process was killed and may have been paid for twice",
}
"""Counters that a run's events explain, in words that follow the number."""


class ProviderDown(RuntimeError):  # noqa: N818 - its state
    """Error of too many requests in a row without an answer after all tries. Answers so far are kept."""


class Service:
    """Service that asks a provider. Equal requests are asked once; kept answers are never asked for again.

    Args:
        provider: `OpenAICompatible`, `LocalModel` or `Scripted`.
        store: where answers and accounts live; in memory when None. Processes may share one.
        account: name of the budget, such as a run; it outlives the process, as the store does.
        budget: limits of the account.
        prices: prices of a million tokens.
        retries: waiting times before a call is sent again.
        concurrency: largest number of calls in flight.
        timeout: seconds for one call to an endpoint, its whole answer included; None: no limit.
        max_consecutive_failures: this many requests in a row without an answer raise ProviderDown.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        store: Store | None = None,
        account: str = "default",
        budget: Budget | None = None,
        prices: Prices | None = None,
        retries: Retries | None = None,
        concurrency: int = 8,
        timeout: float | None = 120.0,
        max_consecutive_failures: int = 20,
    ) -> None:
        if concurrency < 1 or max_consecutive_failures < 1 or (timeout is not None and timeout <= 0):
            raise UsageError(
                f"concurrency is {concurrency}, max_consecutive_failures {max_consecutive_failures}, timeout "
                f"{timeout}; give at least 1, at least 1, and more than 0 seconds or None"
            )
        self.provider = provider
        self.store = store or Store()
        self.account = account
        self.budget, self.prices = budget or Budget(), prices or Prices()
        self.retries = retries or Retries()
        self.concurrency, self.timeout = concurrency, timeout
        self.max_consecutive_failures = max_consecutive_failures
        self.failures: Counter[str] = Counter()
        """Requests without an answer, by reason."""
        self._count: Counter[str] = Counter()
        self._noise = random.Random()
        self._in_a_row = 0
        self._paused_until = 0.0
        self._told_of_repeats = False
        self._calls_in_flight = 0
        self._in_flight: dict[str, asyncio.Future[ChatAnswer | Failed]] = {}
        self._loop = _Loop()
        self._loop.run(self._open())
        self.interrupted = self.store.settle_abandoned(account)
        """Number of calls in flight when earlier processes of this account were killed."""
        if self.interrupted:
            logger.warning(
                "%d calls of %s were in flight when their process was killed: at most so many are paid for twice",
                self.interrupted,
                account,
            )

    # ---- interface ---------------------------------------------------------------------------------------------------

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | Failed]:
        """Return an answer for each request, in order; Failed with the reason where all tries failed.

        Raises:
            BudgetReached: the next call could pass the budget; the exception holds the answers so far.
            ProviderDown: `max_consecutive_failures` requests in a row failed.
            UsageError: the endpoint refuses the key or the model, or a request cannot work.

        In each case earlier answers are kept, and calls in flight are waited for.
        """
        return self._loop.run(self._ask(list(requests)))

    def missing(self, requests: Sequence[ChatRequest]) -> list[ChatRequest]:
        """Return the different requests without an answer: those that `ask` would send."""
        return [request for key, request in self._by_key(requests).items() if self._kept(key) is None]

    def counters(self) -> Counters:
        """Return the counts so far."""
        spent = self.store.spent(self.account)
        return Counters(
            **self._count,
            failed=sum(self.failures.values()),
            maybe_paid_twice=self.store.interrupted(self.account),
            spent_calls=spent.calls,
            spent_prompt_tokens=spent.prompt,
            spent_completion_tokens=spent.completion,
            spent_money=spent.money,
        )

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the `Counters`; for functions on top of a service, such as `structured`."""
        self._count[name] += number

    def notes(self) -> list[str]:
        """Return a sentence on each thing that a reader of the numbers should know, for the events of a run."""
        counters, found = self.counters(), []
        if self.failures:
            reasons = ", ".join(f"{number} {reason}" for reason, number in self.failures.most_common())
            found.append(f"{counters.failed} of {counters.asked} requests got no answer that can be used: {reasons}")
        for name, words in _NOTES.items():
            number = getattr(counters, name)
            if number:
                found.append(f"{number} {words}")
        return found

    def scripted_components(self) -> list[str]:
        """Return what was scripted in place of a model, in words, for `run.json` and the head of the report."""
        scripted = self.provider.source == "scripted"
        return [f"the language model is the scripted stand-in {self.provider.name!r}"] if scripted else []

    def close(self) -> None:
        """Log the notes as warnings, end the thread, and close connections and the store."""
        for note in self.notes():
            logger.warning("%s: %s", self.provider.name, note)
        closing = getattr(self.provider, "close", None)
        if closing is not None:
            self._loop.run(closing())
        self._loop.close()
        self.store.close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- internals, which run in the thread of the loop -------------------------------------------------------------

    async def _open(self) -> None:
        self._semaphore = asyncio.Semaphore(self.concurrency)
        self._lock = asyncio.Lock()
        self._settled = asyncio.Event()

    def _by_key(self, requests: Sequence[ChatRequest]) -> dict[str, ChatRequest]:
        identity = self.provider.identity
        return {key_of(identity, request): request for request in requests}

    def _kept(self, key: str) -> ChatAnswer | None:
        return self.store.answer(key) if self.provider.kept else None

    async def _ask(self, requests: list[ChatRequest]) -> list[ChatAnswer | Failed]:
        identity = self.provider.identity
        keys = [key_of(identity, request) for request in requests]
        different = dict(zip(keys, requests, strict=True))
        self.count("asked", len(requests))
        self.count("shared", len(requests) - len(different))
        found: dict[str, ChatAnswer | Failed] = {}
        stops: list[Exception] = []
        queue = iter(different.items())
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.concurrency, len(different))):
                group.create_task(self._work(queue, found, stops))
        for stop in stops:
            if not isinstance(stop, _Full):
                raise stop
        if stops:
            answers = [found.get(key) for key in keys]
            raise BudgetReached(str(stops[0]), self.store.spent(self.account), answers)
        return [found[key] for key in keys]

    async def _work(
        self, queue: Iterator[tuple[str, ChatRequest]], found: dict[str, ChatAnswer | Failed], stops: list[Exception]
    ) -> None:
        """Take requests in order until there are none, or one of the workers has to stop."""
        for key, request in queue:
            try:
                found[key] = await self._one(key, request)
            except Exception as error:
                stops.append(error)
            if stops:
                return

    async def _one(self, key: str, request: ChatRequest) -> ChatAnswer | Failed:
        """Answer from disk, from an equal request in flight, or from the provider."""
        kept = self._kept(key)
        if kept is not None:
            self.count("cached")
            return kept
        if key in self._in_flight:
            self.count("shared")
            return await asyncio.shield(self._in_flight[key])
        self._count_repeat(request)
        mine = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._call(key, request)
        except BaseException as error:
            mine.set_exception(error if isinstance(error, Exception) else RuntimeError("the first asker was stopped"))
            mine.exception()  # Mark the exception as retrieved, also when no other request waits.
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            del self._in_flight[key]

    def _count_repeat(self, request: ChatRequest) -> None:
        """Count a request that an endpoint of another address, or with other options, has answered before."""
        if self.provider.source != "endpoint" or not self.store.answered(question_of(self.provider.name, request)):
            return
        self.count("repeated")
        if not self._told_of_repeats:
            self._told_of_repeats = True
            logger.warning(
                "the store holds answers of %s from another address, or with other options of the endpoint; they are "
                "asked for, and paid, again. Give the old address to use them",
                self.provider.name,
            )

    async def _call(self, key: str, request: ChatRequest) -> ChatAnswer | Failed:
        """Call the provider until there is an answer or no further try."""
        tried = 0
        while True:
            tried += 1
            try:
                answer = await self._try(key, request)
            except Refused as refusal:
                wait = self.retries.wait(refusal, tried, self._noise)
                if wait is None:
                    return self._fail(refusal)
                if refusal.wait is not None:
                    self._paused_until = max(self._paused_until, self._now() + refusal.wait)
                failed = refusal
            else:
                self._in_a_row = 0
                return answer
            logger.info(
                "try %d of %s failed (%s); the next one follows in %.1f s", tried, key[:12], failed.reason, wait
            )
            await asyncio.sleep(wait)
            self.count("retried")

    async def _try(self, key: str, request: ChatRequest) -> ChatAnswer:
        """Send one call, reserved before and settled after. Raises Refused."""
        async with self._semaphore:
            # Where the endpoint asked one call to wait, the others wait as well.
            while (pause := self._paused_until - self._now()) > 0:
                await asyncio.sleep(pause)
            opening = getattr(self.provider, "open", None)
            if opening is not None:
                opening()
            max_usage = self.provider.max_usage(request)
            most = Spent.of(max_usage, self.prices)
            reservation = await self._admit(key, most)
            took, kept = most, None
            limit = self.timeout if self.provider.source == "endpoint" else None
            try:
                self.count("called")
                async with asyncio.timeout(limit):
                    answer = await self.provider.complete(request)
                answer = read_answer(answer, request, max_usage)
                took = self._cost(answer.usage, most)
                kept = Kept(key, question_of(self.provider.name, request), request, answer)
                return answer
            except Refused as refusal:
                if refusal.usage is not None:
                    took = self._cost(refusal.usage, most)
                elif not refusal.paid:
                    took = Spent()
                raise
            except TimeoutError:
                if limit is None:
                    raise
                raise Refused("timeout", f"no whole answer within {limit:g} s", paid=True) from None
            except UsageError:
                took = Spent()
                raise
            finally:
                try:
                    self.store.settle(reservation, self.account, took, kept if self.provider.kept else None)
                finally:
                    self._calls_in_flight -= 1
                    self._settled.set()

    def _cost(self, usage: Usage, most: Spent) -> Spent:
        """Return the cost of the tokens of a call, and count what is odd about them."""
        took = Spent.of(usage, self.prices)
        self.count("estimated", not usage.counted)
        self.count("underestimated", took.prompt > most.prompt or took.completion > most.completion)
        return took

    async def _admit(self, key: str, most: Spent) -> int:
        """Return the number of the reservation once the budget has room, in the order of requests.

        Raises _Full when there is no room and no call is in flight that could give some back.
        """
        async with self._lock:
            while True:
                reservation = self.store.reserve(self.account, key, most, self.budget)
                if isinstance(reservation, int):
                    self._calls_in_flight += 1
                    return reservation
                if not self._calls_in_flight:
                    raise _Full(reservation)
                self._settled.clear()
                await self._settled.wait()

    def _fail(self, refusal: Refused) -> Failed:
        self.failures[refusal.reason] += 1
        self._in_a_row += 1
        if self._in_a_row >= self.max_consecutive_failures:
            down = refusal.reason in ("connection", "timeout", "server_error")
            remedy = "Check that the endpoint is running and ask again" if down else "Ask again when that is changed"
            raise ProviderDown(
                f"{self._in_a_row} requests in a row got no answer from {self.provider.name}, the last for {refusal}; "
                f"answers so far are kept. {remedy}"
            )
        return Failed(refusal.reason, refusal.detail)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Full(Exception):  # noqa: N818 - becomes BudgetReached, which knows the answers
    """Signal that the budget has no room; the limit in words."""


class _Loop:
    """Event loop in its own thread: `run` is a plain call, also in a notebook, and connections stay open."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pilotage-llm", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`. An interrupt (Ctrl-C) cancels it and waits until it has cleaned up."""
        if os.getpid() != self._process:
            work.close()
            raise UsageError("a service does not work in a forked process; make it in the process that asks")
        if not self._thread.is_alive():
            work.close()
            raise UsageError("the service is closed; make a new one")
        result: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is None:
                result.set_result(task.result())
            else:
                result.set_exception(error)

        def stop() -> None:
            for task in tasks:
                task.cancel()
            if not tasks:
                work.close()
                result.set_exception(asyncio.CancelledError())

        # An interrupt may come at any point, so that `stop` uses only names defined above.
        try:
            self._loop.call_soon_threadsafe(begin)
            while not wait([result], POLL_SECONDS).done:
                pass
            return result.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(stop)
            wait([result], SHUTDOWN_SECONDS)
            raise

    def close(self) -> None:
        """Stop the loop and join the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
