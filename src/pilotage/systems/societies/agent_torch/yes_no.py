"""Yes-or-no questions to a language model: its probability of yes, from draws or from the first token."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilotage.core.errors import UsageError
from pilotage.core.model_text import read_model_text
from pilotage.llm.chat import ChatAnswer, ChatRequest, Message, Role, Token, Usage
from pilotage.llm.first_token import first_token_shares
from pilotage.llm.scripted import Scripted
from pilotage.llm.service import Service
from pilotage.types import Failed

Conversation = Sequence[tuple[Role, str]]
"""(role, text) of each turn; the last one asks."""
_FIRST = re.compile(r"\W*(?:answer|final answer)?\W*(yes|no)\b(?!\s*/|\s+(?:idea|opinion|way to)\b)", re.IGNORECASE)
_LATER = re.compile(
    r"\b(?:answer(?:\s+is)?|i(?:['’]d|\s+would|\s+will)\s+(?:say|answer))\W{0,4}\b(yes|no)\b(?!\s*/|\s+(?:more|one)\b)",
    re.IGNORECASE,
)
AGAIN = "Answer with the single word Yes or No."
LEAST_COVERED = 0.1
"""Least probability of both words together for the first token to be used."""


@dataclass(frozen=True)
class Poll:
    """Answers to one question."""

    yes: int
    no: int
    unclear: int
    """Number of answers that were neither after asking again, and of questions without any answer."""
    share: float
    """Estimate of the probability of yes: (1 + yes)/(2 + yes + no), the mean of Beta(1 + yes, 1 + no); or that of the
    first token; or the prior where there is nothing else."""
    text: str
    """The first answer that could be read; empty when there was none."""
    scripted: bool
    """Whether a scripted stand-in answered."""


def read_yes_no(text: str) -> bool | None:
    """Return True for yes, False for no, None for an answer that is neither.

    Reasoning before the answer is not read. An answer counts that begins with yes or no, or contains "the answer is" or
    "I would say" and one of them. "Yes/No", "no idea" and "not sure" are neither.
    """
    answer = read_model_text(text).answer
    found = _FIRST.match(answer) or _LATER.search(answer)
    return None if found is None else found.group(1).lower() == "yes"


def poll(
    service: Service,
    questions: Sequence[Conversation],
    *,
    draws: int = 1,
    first_token: bool = False,
    again: int = 1,
    prior: float = 0.5,
    temperature: float | None = None,
    max_tokens: int = 60,
) -> list[Poll]:
    """Return a poll for each question, in order; equal questions are asked once and share their poll.

    `Service.counters` counts answers repaired by asking again, and questions that fell back to the prior.

    Args:
        service: answers the questions.
        questions: conversations whose last turn asks.
        draws: number of answers to each question.
        first_token: whether one call replaces the draws, of whose first token the probabilities of Yes and No are
            taken; needs a provider with log-probabilities.
        again: how often an answer that is neither is asked for again.
        prior: share of yes where no answer could be read.
        temperature: sampling temperature of the draws; None: the provider's own.
        max_tokens: largest length of an answer in tokens, reasoning included.

    Raises:
        UsageError: a setting is out of range; and what `Service.ask` raises.
    """
    if draws < 1 or again < 0 or not 0 <= prior <= 1:
        raise UsageError(f"expected draws ≥ 1, again ≥ 0 and a prior in [0, 1]; got {draws}, {again}, {prior}")
    different = list(dict.fromkeys(tuple(question) for question in questions))
    requests = _requests(
        different, draws=draws, first_token=first_token, temperature=temperature, max_tokens=max_tokens
    )
    answers = service.ask(requests)
    if first_token:
        polls = [_of_first_token(service, answer, prior) for answer in answers]
    else:
        read = _read(service, requests, answers, again)
        polls = [_counted(read[place * draws : (place + 1) * draws], prior) for place in range(len(different))]
    found = dict(zip(different, polls, strict=True))
    return [found[tuple(question)] for question in questions]


def _requests(
    questions: Sequence[Conversation],
    *,
    draws: int,
    first_token: bool,
    temperature: float | None,
    max_tokens: int,
) -> list[ChatRequest]:
    """Return the requests of a poll: question by question, the draws of each side by side."""
    made = [tuple(Message(role, text) for role, text in question) for question in questions]
    if first_token:
        return [ChatRequest(messages, max_tokens=1, alternatives=20) for messages in made]
    return [
        ChatRequest(messages, temperature=temperature, max_tokens=max_tokens, draw=draw)
        for messages in made
        for draw in range(draws)
    ]


def scripted_yes_no(
    probability: Callable[[str], float | None], name: str, *, reason: str = "That is what I would do.", seed: int = 0
) -> Scripted:
    """Return a scripted stand-in that answers yes with `probability(question)`.

    The question is the last turn for which the probability is a number. At temperature 0 the likelier word is the
    answer. With log-probabilities the first token has those of Yes and No.

    Args:
        probability: probability of yes to a text; None for a text that is no known question.
        name: name of the stand-in.
        reason: sentence after the yes or no.
        seed: seed of the draws.

    Raises:
        UsageError: (when asked) no turn of the conversation is a known question.
    """

    def script(request: ChatRequest, seed: int) -> ChatAnswer:
        asked = (probability(turn.content) for turn in reversed(request.messages) if turn.role == "user")
        chance = next((number for number in asked if number is not None), None)
        if chance is None:
            raise UsageError(
                f"the scripted stand-in {name!r} knows no such question: {request.messages[-1].content[:80]!r}"
            )
        # 31 bits of the seed; 0 is below every probability but 0, and 1 − 2⁻³¹ below 1 alone.
        yes = chance >= 0.5 if request.temperature == 0 else (seed + 0.5) / 2**31 < chance
        word = "Yes" if yes else "No"
        tokens = None
        if request.alternatives is not None:
            logs = {"Yes": math.log(max(chance, 1e-12)), "No": math.log(max(1 - chance, 1e-12))}
            tokens = (Token(word, logs[word], logs),)
        return ChatAnswer(f"{word}. {reason}", "scripted", name, usage=Usage(), tokens=tokens)

    return Scripted(script, name, seed)


def _read(
    service: Service, requests: Sequence[ChatRequest], answers: Sequence[ChatAnswer | Failed], again: int
) -> list[tuple[bool | None, ChatAnswer | Failed]]:
    """Return each answer with its reading, asked again where it is neither."""
    asked, given = list(requests), list(answers)
    read = [read_yes_no(answer.text) if isinstance(answer, ChatAnswer) else None for answer in given]
    for _ in range(again):
        unclear = [
            (place, answer)
            for place, (word, answer) in enumerate(zip(read, given, strict=True))
            if word is None and isinstance(answer, ChatAnswer)
        ]
        if not unclear:
            break
        for place, answer in unclear:
            before = asked[place]
            turns = (*before.messages, Message("assistant", answer.text or "(nothing)"), Message("user", AGAIN))
            asked[place] = ChatRequest(
                turns, temperature=before.temperature, max_tokens=before.max_tokens, draw=before.draw
            )
        repaired = service.ask([asked[place] for place, _ in unclear])
        for (place, _), better in zip(unclear, repaired, strict=True):
            given[place] = better
            read[place] = read_yes_no(better.text) if isinstance(better, ChatAnswer) else None
            service.count("repaired", read[place] is not None)
    service.count("fallen_back", sum(word is None for word in read))
    return list(zip(read, given, strict=True))


def _counted(read: Sequence[tuple[bool | None, ChatAnswer | Failed]], prior: float) -> Poll:
    yes, no = sum(word is True for word, _ in read), sum(word is False for word, _ in read)
    share = (1 + yes) / (2 + yes + no) if yes + no else prior
    texts = [answer for word, answer in read if word is not None and isinstance(answer, ChatAnswer)]
    scripted = any(isinstance(answer, ChatAnswer) and answer.scripted for _, answer in read)
    return Poll(yes, no, len(read) - yes - no, share, texts[0].text if texts else "", scripted)


def _of_first_token(service: Service, answer: ChatAnswer | Failed, prior: float) -> Poll:
    """Return the probability of yes, or the prior where the first token stands for neither word."""
    scripted = isinstance(answer, ChatAnswer) and answer.scripted
    share = None
    if isinstance(answer, ChatAnswer):
        if answer.tokens is None:
            raise UsageError(f"{answer.name} gives no log-probabilities; ask by draws instead (first_token=False)")
        try:
            shares, covered = first_token_shares(answer, ("Yes", "No"))
            share = shares["Yes"] if covered >= LEAST_COVERED else None
        except UsageError:
            share = None
    if share is None:
        service.count("fallen_back")
        return Poll(0, 0, 1, prior, "", scripted)
    word = "Yes" if share >= 0.5 else "No"
    return Poll(share >= 0.5, share < 0.5, 0, share, word, scripted)
