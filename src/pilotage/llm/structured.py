"""Answers as objects: validated by a pydantic model, asked for once more with what was wrong, else a fallback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pilotage.core.errors import UsageError
from pilotage.core.model_text import read_model_text
from pilotage.llm.chat import ChatAnswer, ChatRequest, Message
from pilotage.llm.service import Service
from pilotage.types import Failed

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")
_BEGINNING = re.compile(r"""\{\s*["'/#}]""")
"""Beginning of a JSON object. Where the object is broken, an object inside it is not the answer."""


@dataclass(frozen=True)
class Structured(Generic[M]):
    """Valid value, and how it was obtained."""

    value: M
    """The value."""
    how: Literal["first", "repaired", "fallback"]
    """Whether the first answer was valid, a repaired one, or the fallback was used."""
    answer: ChatAnswer | Failed
    """The last answer."""
    reason: str = ""
    """Fault of the first answer (repaired) or of the last one (fallback)."""


def structured(
    service: Service,
    requests: Sequence[ChatRequest],
    model: type[M],
    fallback: Callable[[ChatRequest, str], M],
    *,
    check: Callable[[ChatRequest, M], str] | None = None,
    repairs: int = 1,
) -> list[Structured[M]]:
    """Return a value of `model` for each request, in order.

    Args:
        service: asks.
        requests: their `schema` is set to that of the model.
        model: the pydantic model that an answer has to fit.
        fallback: `fallback(request, reason)` gives the value where no answer does; `Counters.fallen_back` counts them.
        check: `check(request, value)` returns the fault of a value that fits the model, such as a price above the cash
            at hand; "" for none.
        repairs: how often an answer is asked for again, with its fault.

    Raises:
        UsageError: the fallback's value is no instance of the model; and what `Service.ask` raises.
    """
    schema = model.model_json_schema()
    asked = [replace(request, schema=schema) for request in requests]
    answers = list(service.ask(asked))
    values: list[M | None] = [None] * len(asked)
    reasons = [""] * len(asked)
    repaired = [False] * len(asked)
    todo = list(range(len(asked)))
    for turn in range(repairs + 1):
        wrong = []
        for index in todo:
            value, reason = _read(answers[index], model, requests[index], check)
            values[index], repaired[index] = value, turn > 0 and value is not None
            if value is None:
                reasons[index] = reason
                wrong.append(index)
        # A request without any answer was tried often enough.
        todo = [index for index in wrong if isinstance(answers[index], ChatAnswer)]
        if not todo or turn == repairs:
            break
        again = []
        for index in todo:
            asked[index] = _once_more(asked[index], answers[index], reasons[index])
            again.append(asked[index])
        for index, answer in zip(todo, service.ask(again), strict=True):
            answers[index] = answer
    service.count("repaired", sum(repaired))
    found = []
    for request, answer, value, was, reason in zip(requests, answers, values, repaired, reasons, strict=True):
        if value is not None:
            found.append(Structured(value, "repaired" if was else "first", answer, reason))
            continue
        given = fallback(request, reason)
        if not isinstance(given, model):
            raise UsageError(f"the fallback gave a {type(given).__name__}; it has to give a {model.__name__}")
        service.count("fallen_back")
        found.append(Structured(given, "fallback", answer, reason))
    return found


def one_object(text: str) -> dict[str, Any] | str:
    """Return the one JSON object in an answer, whatever surrounds it; or the fault, in words. Reasoning is not read."""
    parts = read_model_text(text)
    if not parts.complete:
        return "unfinished reasoning: the answer is missing, since the reasoning was not closed"
    text = parts.answer
    found: list[dict[str, Any]] = []
    decoder, at, broken = json.JSONDecoder(parse_constant=_no_constant), 0, False
    while (begun := _BEGINNING.search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, begun.start())
        except (ValueError, RecursionError):
            broken = True
            break
        found.append(value)
    if not text.strip():
        return "empty: the answer has no text"
    if broken or not found:
        return "no JSON object: the answer holds none that is whole and well formed"
    return found[0] if len(found) == 1 else f"several JSON objects: the answer holds {len(found)} and must hold one"


def _read(
    answer: ChatAnswer | Failed, model: type[M], request: ChatRequest, check: Callable[[ChatRequest, M], str] | None
) -> tuple[M | None, str]:
    """Return the value in an answer, or the reason why there is none."""
    from pydantic import ValidationError

    if isinstance(answer, Failed):
        return None, f"{answer.reason}: {answer.detail}"
    given = one_object(answer.text)
    if isinstance(given, str):
        cut = " (it was cut at max_tokens)" if answer.stop == "length" else ""
        return None, given + cut
    try:
        value = model.model_validate(given)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'the object'}: {one['msg']}" for one in error.errors()]
        return None, "wrong schema: " + "; ".join(wrong)
    reason = check(request, value) if check is not None else ""
    return (None, f"refused: {reason}") if reason else (value, "")


def _once_more(request: ChatRequest, answer: ChatAnswer | Failed, reason: str) -> ChatRequest:
    """Return the request with the answer and its fault appended."""
    text = answer.text if isinstance(answer, ChatAnswer) else ""
    words = f"That answer cannot be used. {reason}. Give the corrected JSON object and nothing else."
    # Some endpoints refuse an empty turn.
    turns = (*request.messages, Message("assistant", text or "(nothing)"), Message("user", words))
    return replace(request, messages=turns)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
