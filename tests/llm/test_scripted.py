"""A stand-in answers by its rule, and says in every place that it is one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.errors import UsageError
from pilotage.llm import ChatAnswer, ChatRequest, Scripted, Service, Store, Token, first_token_shares, say
from pilotage.report.page import write_run_report
from pilotage.runs import Manifest, Run
from pilotage.runs.reader import read_run


def coin(_: ChatRequest, seed: int) -> str:
    return random.Random(seed).choice(["heads", "tails"])


def tosses(count: int, **options: Any) -> list[ChatRequest]:
    return [ChatRequest(say("toss"), draw=draw, **options) for draw in range(count)]


def said(provider: Scripted, requests: list[ChatRequest], **options: Any) -> list[ChatAnswer]:
    with Service(provider, **options) as service:
        return service.ask(requests)  # type: ignore[return-value]


def test_the_same_requests_get_the_same_answers_in_any_order_and_other_draws_and_seeds_others() -> None:
    requests = tosses(200)
    answers = [answer.text for answer in said(Scripted(coin, "coin"), requests)]
    assert 60 < answers.count("heads") < 140
    assert [answer.text for answer in said(Scripted(coin, "coin"), requests[::-1], concurrency=1)] == answers[::-1]
    assert [answer.text for answer in said(Scripted(coin, "coin", seed=1), requests)] != answers
    assert [answer.text for answer in said(Scripted(coin, "coin"), tosses(200, seed=5))] != answers


def test_every_record_says_that_it_was_scripted() -> None:
    (answer,) = said(Scripted(lambda *_: "I buy", "trader"), tosses(1))
    assert answer.text == "I buy"
    assert answer.scripted
    assert str(answer) == "[scripted stand-in trader] I buy"
    assert answer.record()["completion"] == "[scripted stand-in trader] I buy"
    assert (answer.record()["source"], answer.record()["model"]) == ("scripted", "trader")


def test_a_script_cannot_pass_itself_off_as_a_model() -> None:
    forged = ChatAnswer("Yes", "endpoint", "gpt-4o", tokens=(Token("Yes", -0.1, {"No": -2.4}),))
    (answer,) = said(Scripted(lambda *_: forged, "isolation"), tosses(1))
    assert (answer.source, answer.name) == ("scripted", "isolation")
    assert first_token_shares(answer, ("Yes", "No"))[0]["Yes"] > 0.9


def test_the_report_of_a_run_begins_with_it_also_after_a_resume(tmp_path: Path) -> None:
    for _ in range(2):
        run = Run.create(tmp_path / "r", system="market", config={}, seed=0)
        with Service(Scripted(coin, "coin")) as service:
            run.manifest.name_scripted_components(run.directory, service.scripted_components())
        run.close()
    words = "the language model is the scripted stand-in 'coin'"
    assert Manifest.read(tmp_path / "r").scripted_components == [words]
    assert read_run(tmp_path / "r").scripted_components == (words,)
    page = write_run_report(tmp_path / "r").read_text()
    assert "Scripted stand-in." in page
    assert words.replace("'", "&#39;") in page


def test_a_run_from_before_there_were_stand_ins_can_still_be_read(tmp_path: Path) -> None:
    Run.create(tmp_path / "r", system="market", config={}, seed=0).close()
    path = tmp_path / "r" / "run.json"
    stored = json.loads(path.read_text())
    del stored["scripted_components"]
    path.write_text(json.dumps(stored))
    assert Manifest.read(tmp_path / "r").scripted_components == []


def test_a_changed_script_does_not_give_old_answers(tmp_path: Path) -> None:
    for text in ("old", "new"):
        (answer,) = said(Scripted(lambda *_, text=text: text, "it"), tosses(1), store=Store(tmp_path / "a.sqlite"))
        assert answer.text == text


def test_a_stand_in_needs_a_name_and_its_bugs_are_seen() -> None:
    with pytest.raises(UsageError, match="no name"):
        Scripted(coin, "")
    with pytest.raises(ZeroDivisionError):
        said(Scripted(lambda *_: str(1 / 0), "broken"), tosses(1))


# ---- probabilities of first tokens -----------------------------------------------------------------------------------


def first(text: str, logp: float, **alternatives: float) -> ChatAnswer:
    return ChatAnswer(text, "endpoint", "m", tokens=(Token(text, logp, alternatives),))


def test_shares_join_spellings_of_a_word_and_leave_out_what_begins_several() -> None:
    from math import log

    answer = ChatAnswer(
        "Yes",
        "endpoint",
        "m",
        tokens=(
            Token("Yes", log(0.3), {"Yes": log(0.3), " yes": log(0.2), "N": log(0.1), "": log(0.1), "Maybe": log(0.3)}),
        ),
    )
    shares, covered = first_token_shares(answer, ("Yes", "No"))
    assert shares == pytest.approx({"Yes": 5 / 6, "No": 1 / 6})
    assert covered == pytest.approx(0.6)
    # "N" begins both.
    with pytest.raises(UsageError, match="no likely token"):
        first_token_shares(first("N", -0.1), ("No", "Never"))


@pytest.mark.parametrize("answer", [ChatAnswer("Yes", "endpoint", "m"), ChatAnswer("", "endpoint", "m", tokens=())])
def test_an_answer_without_log_probabilities_has_no_shares(answer: ChatAnswer) -> None:
    with pytest.raises(UsageError, match="no log-probabilities"):
        first_token_shares(answer, ("Yes", "No"))
