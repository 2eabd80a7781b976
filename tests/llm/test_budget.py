"""A budget is never passed, whatever order answers come in and whatever goes wrong."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.llm.playing import Playing

from pilotage.core.errors import UsageError
from pilotage.llm import (
    Budget,
    BudgetReached,
    ChatRequest,
    Prices,
    Refused,
    Retries,
    Service,
    Store,
    Usage,
    say,
)

AT_ONCE = Retries(tries=3, first=0.0, longest=0.0)


@dataclass(frozen=True)
class Course:
    """How one request goes: turns of the loop until its answer, the tokens of it, and failures before."""

    turns: int
    prompt: int
    most: int
    used: float
    """Share of the most tokens that the answer takes."""
    failures: tuple[str, ...]


COURSES = st.lists(
    st.builds(
        Course,
        turns=st.integers(0, 6),
        prompt=st.integers(1, 9),
        most=st.integers(1, 9),
        used=st.floats(0, 1),
        failures=st.lists(st.sampled_from(["refused", "charged", "lost"]), max_size=3).map(tuple),
    ),
    max_size=8,
)
LIMIT = st.none() | st.integers(0, 60)
MONEY = st.none() | st.decimals(0, 40, places=6).map(float)
PRICE = st.sampled_from([0.0, 0.1, 0.15, 1.0, 3.000001])


def playing(courses: list[Course]) -> Playing:
    """The requests are numbered by their seed."""
    left = [list(course.failures) for course in courses]

    async def play(request: ChatRequest) -> None:
        number = request.seed or 0
        for _ in range(courses[number].turns):
            await asyncio.sleep(0)
        if left[number]:
            failure = left[number].pop()
            if failure != "refused":
                # The vendor may charge all the same: everything, or nothing.
                provider.charge(provider.max_usage(request) if failure == "charged" else Usage())
                provider.calls_charged += failure == "charged"
                raise Refused("timeout", paid=True)
            raise Refused("rate_limit")
        provider.calls_charged += 1

    provider = Playing(lambda request: _used(courses[request.seed or 0]), play)
    provider.calls_charged = 0
    return provider


def _used(course: Course) -> Usage:
    return Usage(course.prompt, int(course.used * course.most))


@settings(max_examples=80)
@given(COURSES, LIMIT, LIMIT, MONEY, PRICE, PRICE, st.integers(1, 4), st.integers(0, 8))
def test_what_the_vendor_charges_never_passes_the_budget(
    courses: list[Course],
    calls: int | None,
    tokens: int | None,
    money: float | None,
    prompt_price: float,
    completion_price: float,
    concurrency: int,
    cut: int,
) -> None:
    """Over two services on one store, as over a restart."""
    requests = [
        ChatRequest(say("p" * course.prompt), max_tokens=course.most, seed=number)
        for number, course in enumerate(courses)
    ]
    provider = playing(courses)
    money = None if money is None else money / 1e6
    budget, prices = Budget(calls, tokens, money), Prices(prompt_price, completion_price)
    stopped = False
    with tempfile.TemporaryDirectory() as folder:
        for part in (requests[:cut], requests):
            store = Store(Path(folder) / "a.sqlite")
            with Service(
                provider, store=store, budget=budget, prices=prices, retries=AT_ONCE, concurrency=concurrency
            ) as service:
                try:
                    answers = service.ask(part)
                except BudgetReached as reached:
                    stopped, answers = True, reached.answers
                counters = service.counters()
            assert len(answers) == len(part)
    charged = provider.charged
    cost = (Fraction(str(prompt_price)) * charged.prompt + Fraction(str(completion_price)) * charged.completion) / 10**6
    assert calls is None or provider.calls_charged <= calls
    assert tokens is None or charged.prompt + charged.completion <= tokens
    assert money is None or cost <= Fraction(str(money)) + Fraction(1, 10**12)
    # The account never says less than what the vendor charged.
    assert counters.spent_calls >= provider.calls_charged
    assert counters.spent_prompt_tokens >= charged.prompt
    assert counters.spent_completion_tokens >= charged.completion
    assert counters.underestimated == 0
    if calls is tokens is money is None:
        assert not stopped


def test_room_that_calls_under_way_give_back_is_used() -> None:
    """Each reserves 100 tokens and takes 10: after the first, the others fit one by one into 130."""
    provider = Playing(lambda _: Usage(1, 9))
    requests = [ChatRequest(say("x"), max_tokens=99, seed=number) for number in range(4)]
    with Service(provider, budget=Budget(tokens=130), concurrency=4) as service:
        assert len(service.ask(requests)) == 4
    with (
        Service(Playing(lambda _: Usage(1, 9)), budget=Budget(tokens=129), concurrency=4) as service,
        pytest.raises(BudgetReached) as stopped,
    ):
        service.ask(requests)
    assert [answer is not None for answer in stopped.value.answers] == [True, True, True, False]


def test_the_message_says_what_was_spent_and_how_far_it_came() -> None:
    with (
        Service(Playing(), budget=Budget(money=2e-6), prices=Prices(completion=1.0), concurrency=1) as service,
        pytest.raises(BudgetReached, match=r"2e-06 of money.*2 calls.*2 of 3 requests"),
    ):
        service.ask([ChatRequest(say("x"), max_tokens=1, draw=draw) for draw in range(3)])


def test_two_services_on_one_account_share_its_budget_and_other_accounts_have_their_own(tmp_path: Path) -> None:
    def service(account: str) -> Service:
        return Service(Playing(), store=Store(tmp_path / "a.sqlite"), account=account, budget=Budget(calls=3))

    with service("run-1") as first, service("run-1") as second, service("run-2") as other:
        first.ask([ChatRequest(say("x"), draw=draw) for draw in range(2)])
        with pytest.raises(BudgetReached):
            second.ask([ChatRequest(say("x"), draw=draw) for draw in range(2, 4)])
        other.ask([ChatRequest(say("x"), draw=draw) for draw in range(10, 13)])
        assert first.counters().spent_calls == second.counters().spent_calls == 3
        assert other.counters().spent_calls == 3


def test_a_call_that_takes_more_than_its_most_is_counted_as_such() -> None:
    with Service(Playing(lambda _: Usage(1000, 1))) as service:
        service.ask([ChatRequest(say("x"))])
        assert service.counters().underestimated == 1


@pytest.mark.parametrize("wrong", [{"calls": -1}, {"tokens": -1}, {"money": -0.1}, {"money": float("nan")}])
def test_a_negative_budget_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Budget(**wrong)


@pytest.mark.parametrize("wrong", [(-1.0, 0.0), (0.0, float("nan"))])
def test_a_negative_price_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(UsageError):
        Prices(*wrong)
