"""What goes to a language model and what comes back; and the protocol of whoever answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pilotage.core.errors import UsageError

Source = Literal["endpoint", "local", "scripted"]
Role = Literal["system", "user", "assistant"]
ROLES = ("system", "user", "assistant")
FORMAT = 1
"""Goes into every key: answers kept under another format are asked for again."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation, as text. Raises UsageError for another role, or text that UTF-8 cannot hold."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UsageError(f"a message has the role {self.role!r}; choose one of {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise UsageError(f"the content of a message is a {type(self.content).__name__}; give a string")
        try:
            self.content.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"a message holds half of a character (a lone surrogate): {error}; remove it") from None


@dataclass(frozen=True, eq=False)
class ChatRequest:
    """One answer that is asked for. Two requests are equal when all of their fields are, and then share an answer.

    Raises UsageError for values out of range."""

    messages: tuple[Message, ...]
    """The conversation so far; the last message is usually the user's."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """In (0, 1]."""
    max_tokens: int = 512
    """Most tokens of the answer. The budget reserves them, so a tight number lets more requests run side by side."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Of the noise. Endpoints that know seeds get one that depends on it and on `draw`."""
    alternatives: int | None = None
    """None: no log-probabilities. Else those of the answer's tokens, with this many alternatives at each, 0 to 20."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer should fit; `structured` sets it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of the endpoint, such as {"reasoning_effort": "low"}, as JSON."""
    draw: int = 0
    """Which of several answers to the same prompt: draws 0, 1, 2, … are asked and kept apart."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "messages", tuple(self.messages))
        put(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        # 1 and 1.0, 0.0 and -0.0 are the same request, and JSON writes them differently.
        put(self, "temperature", float(self.temperature) + 0.0)
        put(self, "top_p", float(self.top_p))
        if not self.messages or not all(isinstance(message, Message) for message in self.messages):
            raise UsageError("a request needs at least one Message; say(system=…, user=…) makes them")
        if not (0 <= self.temperature < math.inf and 0 < self.top_p <= 1):
            raise UsageError(
                f"temperature is {self.temperature} and top_p {self.top_p}; give temperature >= 0 and top_p in (0, 1]"
            )
        if self.max_tokens < 1 or self.draw < 0 or not 0 <= (self.alternatives or 0) <= 20:
            raise UsageError(
                f"max_tokens is {self.max_tokens}, draw {self.draw}, alternatives {self.alternatives}; "
                "give max_tokens >= 1, draw >= 0 and alternatives from 0 to 20 or None"
            )
        try:
            put(self, "_text", _canonical(dataclasses.asdict(self)))
        except (TypeError, ValueError) as error:
            raise UsageError(f"schema or extra holds what JSON cannot: {error}") from None

    @property
    def text(self) -> str:
        """The whole request as one line of JSON, the same for equal requests."""
        return self._text  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChatRequest) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def say(user: str, system: str = "") -> tuple[Message, ...]:
    """The messages of a conversation that begins: instructions, if any, and what the user says."""
    return (*([Message("system", system)] if system else []), Message("user", user))


@dataclass(frozen=True)
class Token:
    """One token of an answer: its text, its log-probability under the model before temperature and top-p, and those of
    the likeliest tokens at its place."""

    text: str
    logp: float
    alternatives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """Tokens that one call took. `counted`: whether the provider said so; else they are the most it can have been."""

    prompt: int = 0
    completion: int = 0
    counted: bool = True


@dataclass(frozen=True)
class ChatAnswer:
    """What was answered, and who answered: a scripted stand-in says so wherever the answer is written down."""

    text: str
    source: Source
    name: str
    """The model's, or the stand-in's."""
    stop: str = "stop"
    """Why it ended: stop, length, or another word of the endpoint (content_filter)."""
    usage: Usage = Usage()
    tokens: tuple[Token, ...] | None = None
    """Where the request asked for log-probabilities."""

    @property
    def scripted(self) -> bool:
        return self.source == "scripted"

    def __str__(self) -> str:
        return f"[scripted stand-in {self.name}] {self.text}" if self.scripted else self.text

    def record(self) -> dict[str, Any]:
        """A line for `rollouts.jsonl` or `events.jsonl`. The text says by itself that it was scripted."""
        return {"completion": str(self), "source": self.source, "model": self.name, "stop": self.stop}


class Provider(Protocol):
    """Whoever answers. One call answers one request once, without trying again; `Service` does the rest.

    It may have `open()`, which the service calls before a call is sent and its time runs, and `async close()`."""

    source: Source
    name: str
    kept: bool
    """Whether answers are worth keeping on disk."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What, beside the request, decides the answer: the model, the endpoint's address. Never a key or a header."""
        ...

    def most(self, request: ChatRequest) -> Usage:
        """The most tokens that the request can take."""
        ...

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Raises Refused where there is no answer, UsageError where asking again in the same way is useless."""
        ...


class Refused(Exception):  # noqa: N818 - the provider's word, not an error of the program
    """One call without an answer.

    Args:
        reason: a short word for counting: rate_limit, server_error, timeout, connection, malformed, bad_request.
        detail: what was said, without secrets.
        again: whether another try may help.
        paid: whether the call may have been charged for all the same.
        wait: seconds that the endpoint asks to wait."""

    def __init__(
        self, reason: str, detail: str = "", *, again: bool = True, paid: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.again, self.paid, self.wait = reason, detail, again, paid, wait


def key_of(identity: Mapping[str, Any], request: ChatRequest) -> str:
    """The name under which an answer is kept: SHA-256 of the provider's identity and the whole request."""
    return hashlib.sha256(f"{FORMAT}\n{_canonical(identity)}\n{request.text}".encode()).hexdigest()


def seed_of(seed: int | None, *parts: object) -> int:
    """A seed of 31 bits from a seed and whatever else tells draws apart."""
    text = repr((seed or 0, *parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") & 0x7FFFFFFF


def with_schema_in_words(request: ChatRequest) -> tuple[Message, ...]:
    """The messages, with the schema said in the last one, for models that take none as a parameter."""
    if request.schema is None:
        return request.messages
    words = f"Answer with one JSON object and nothing else. It must fit this JSON schema: {_canonical(request.schema)}"
    last = request.messages[-1]
    return (*request.messages[:-1], Message(last.role, f"{last.content}\n\n{words}"))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
