"""Yes or no from a service: reading, asking again, priors, shares, and the first token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from pilotage.core.errors import UsageError
from pilotage.llm import ChatAnswer, ChatRequest, Scripted, Service
from pilotage.systems.societies.agent_torch.yes_no import AGAIN, poll, read_yes_no, scripted_yes_no

Opened = Callable[..., Service]


@pytest.fixture
def opened() -> Iterator[Opened]:
    services: list[Service] = []

    def make(provider: Scripted) -> Service:
        services.append(Service(provider))
        return services[-1]

    yield make
    for service in services:
        service.close()


def question(text: str) -> tuple[tuple[str, str], ...]:
    return (("user", text),)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Yes. Cases rise.", True),
        ("**No**, he works outside.", False),
        ("  yes", True),
        ("Answer: No. Reason: none", False),
        ("I think the answer is yes because …", True),
        ("I would say yes.", True),
        ("I'd say: no", False),
        ("I would say no more than that.", None),
        ("Probably not.", None),
        ("<think>Should I say yes? The answer is no... hm, cases are low.</think>\n\nYes", True),
        ("<think>The answer: No. But cases rise.</think>Yes, I stay at home.", True),
        ("Yes or no?</think>No.", False),
        ("<think>The answer is yes, or rather I have to think of my mother who", None),
        ("Yes/No", None),
        ("yes / no?", None),
        ("No idea.", None),
        ("Not sure.", None),
        ("Nothing", None),
        ("Yesterday I did.", None),
        ("Ja, natürlich.", None),
        ("", None),
    ],
)
def test_answers_are_read(text: str, meant: bool | None) -> None:
    assert read_yes_no(text) is meant


def test_shares_are_those_of_the_beta_mean_and_equal_questions_are_asked_once(opened: Opened) -> None:
    service = opened(scripted_yes_no(lambda text: 1.0 if "cautious" in text else 0.0, "citizen"))
    polls = poll(service, [question("cautious"), question("bold"), question("cautious")], draws=4)
    assert [found.share for found in polls] == pytest.approx([5 / 6, 1 / 6, 5 / 6])
    assert polls[0] is polls[2]
    assert (polls[0].yes, polls[0].no, polls[0].unclear) == (4, 0, 0)
    assert all(found.scripted for found in polls)
    assert service.counters().called == 8


def test_draws_follow_the_probability_and_the_first_token_says_it_in_one_call(opened: Opened) -> None:
    service = opened(scripted_yes_no(lambda _: 0.3, "citizen"))
    drawn = poll(service, [question("isolate?")], draws=400)[0]
    assert drawn.share == pytest.approx(0.3, abs=0.07)
    before = service.counters().called
    exact = poll(service, [question("isolate?")], first_token=True)[0]
    assert exact.share == pytest.approx(0.3)
    assert service.counters().called == before + 1
    assert poll(service, [question("isolate?")], draws=3, temperature=0)[0].yes == 0


def test_unclear_answers_are_asked_again_then_left_to_the_prior_and_counted(opened: Opened) -> None:
    def script(request: ChatRequest, _: int) -> str:
        asked_again = request.messages[-1].content == AGAIN
        if request.messages[0].content == "late":
            return "Yes" if asked_again else "It depends."
        return "Es kommt darauf an."

    service = opened(Scripted(script, "citizen"))
    late, never = poll(service, [question("late"), question("never")], draws=2, prior=0.2)
    assert (late.yes, late.unclear, late.share) == (2, 0, pytest.approx(3 / 4))
    assert (never.yes, never.no, never.unclear, never.share, never.text) == (0, 0, 2, 0.2, "")
    counters = service.counters()
    assert (counters.repaired, counters.fallen_back) == (2, 2)
    assert poll(service, [question("late")], again=0)[0].unclear == 1


def test_a_first_token_that_is_neither_word_gives_the_prior(opened: Opened) -> None:
    from pilotage.llm import Token

    def script(_: ChatRequest, __: int) -> ChatAnswer:
        logs = {"Maybe": math.log(0.95), "Yes": math.log(0.03)}
        return ChatAnswer("Maybe", "scripted", "x", tokens=(Token("Maybe", logs["Maybe"], logs),))

    service = opened(Scripted(script, "citizen"))
    found = poll(service, [question("?")], first_token=True, prior=0.4)[0]
    assert (found.share, found.unclear) == (0.4, 1)
    assert service.counters().fallen_back == 1


def test_a_provider_without_log_probabilities_is_named(opened: Opened) -> None:
    with pytest.raises(UsageError, match="citizen gives no log-probabilities"):
        poll(opened(Scripted(lambda _, __: "Yes", "citizen")), [question("?")], first_token=True)


def test_a_question_that_a_stand_in_does_not_know_is_an_error(opened: Opened) -> None:
    with pytest.raises(UsageError, match="knows no such question"):
        poll(opened(scripted_yes_no(lambda _: None, "citizen")), [question("?")])


def test_replies_that_end_in_their_reasoning_are_counted_and_no_silent_prior(opened: Opened) -> None:
    service = opened(Scripted(lambda *_: "<think>The answer is no, or", "thinker"))
    (found,) = poll(service, [question("Isolate?")], draws=5, again=1, prior=0.5)
    assert (found.unclear, found.share) == (5, 0.5)
    counters = service.counters()
    assert (counters.fallen_back, counters.failed) == (5, 5)
    assert any("5 unfinished_reasoning" in note for note in service.notes())
