"""Answers of a provider made ready for their readers: text that files can hold, reasoning apart, counts checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pilotage.core.model_text import read_model_text
from pilotage.core.text import printable
from pilotage.llm.chat import ChatAnswer, ChatRequest, Refused, Token, Usage


def read_answer(answer: ChatAnswer, request: ChatRequest, most: Usage) -> ChatAnswer:
    """Return the answer with its reasoning, and the tokens of the reasoning, apart from its text.

    Args:
        answer: as the provider gave it.
        request: the request.
        most: upper bound of the tokens of the call, which replaces numbers that cannot be true.

    Raises:
        Refused: with the reason "unfinished_reasoning" where there is no answer because the model was still reasoning,
            or wrote nothing but reasoning.
    """
    usage = answer.usage if answer.usage.believable else replace(most, counted=False)
    tokens = None if answer.tokens is None else tuple(_printable(token) for token in answer.tokens)
    parts = read_model_text(printable(answer.text), printable(answer.reasoning))
    cut = answer.stop == "length"
    if not parts.complete or (cut and not parts.answer and not tokens):
        where = f"was cut at max_tokens={request.max_tokens}" if cut else f"ended ({answer.stop})"
        said = "before the answer began" if parts.reasoning else "without any text"
        raise Refused(
            "unfinished_reasoning",
            f"the reply of {answer.name} {where} {said}; a model that reasons needs a larger max_tokens, or less "
            "reasoning where its endpoint has an option for that",
            again=False,
            paid=True,
            usage=usage,
        )
    if tokens is not None and parts.reasoning:
        tokens = _tokens_of(parts.answer, tokens)
    return replace(
        answer,
        text=parts.answer,
        reasoning=parts.reasoning,
        stop=printable(answer.stop),
        usage=usage,
        tokens=tokens,
    )


def _tokens_of(answer: str, tokens: Sequence[Token]) -> tuple[Token, ...]:
    """Return the tokens from the beginning of the answer on; none where they do not hold it."""
    begin = "".join(token.text for token in tokens).rfind(answer)
    if begin < 0:
        return ()
    end = 0
    for place, token in enumerate(tokens):
        end += len(token.text)
        if end > begin:
            return tuple(tokens[place:])
    return ()


def _printable(token: Token) -> Token:
    return Token(
        printable(token.text), token.logp, {printable(text): logp for text, logp in token.alternatives.items()}
    )
