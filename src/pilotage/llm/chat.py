"""Requests to a language model, its answers, and the protocol of providers."""

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
"""Part of every key: answers kept under another format are asked for again."""
MAX_TOKEN_COUNT = 10**9
"""Largest number of tokens of a call that is believed."""


@dataclass(frozen=True)
class Message:
    """Turn of a conversation, as text. Raises UsageError for another role, or text that UTF-8 cannot hold."""

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
    """Request for one answer. Two requests are equal when all fields are, and then share an answer.

    Raises:
        UsageError: a value is out of range.
    """

    messages: tuple[Message, ...]
    """The conversation so far; the last message is usually the user's."""
    temperature: float | None = None
    """Sampling temperature; 0 is greedy. None: not sent, so that the endpoint's own holds; 1 for a local model."""
    top_p: float | None = None
    """Probability mass of nucleus sampling, in (0, 1]. None: not sent, so that the endpoint's own holds; 1 for a local
    model."""
    max_tokens: int = 512
    """Largest number of tokens of the answer; the budget reserves them, so a small number allows more calls at once."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    seed: int | None = None
    """Seed of sampling. Endpoints that take seeds get one that depends on it and on `draw`."""
    alternatives: int | None = None
    """Number of alternatives with log-probabilities at each token, 0 to 20; None: no log-probabilities."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer; `structured` sets it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of the endpoint, such as {"reasoning_effort": "low"}, as JSON."""
    draw: int = 0
    """Index of the answer among several to the same prompt; draws 0, 1, 2, … are asked and kept apart."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "messages", tuple(self.messages))
        put(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        # 1 and 1.0, 0.0 and -0.0 are the same request, and JSON writes them differently.
        put(self, "temperature", None if self.temperature is None else float(self.temperature) + 0.0)
        put(self, "top_p", None if self.top_p is None else float(self.top_p))
        if not self.messages or not all(isinstance(message, Message) for message in self.messages):
            raise UsageError("a request needs at least one Message; say(system=…, user=…) makes them")
        temperature, top_p = self.sampling
        if not (0 <= temperature < math.inf and 0 < top_p <= 1):
            raise UsageError(
                f"temperature is {temperature} and top_p {top_p}; give temperature >= 0 and top_p in (0, 1], or None"
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
        """Return the whole request as one line of JSON, the same for equal requests."""
        return self._text  # type: ignore[attr-defined]

    @property
    def sampling(self) -> tuple[float, float]:
        """Return temperature and top-p for a provider without values of its own: 1 for what is not set."""
        temperature, top_p = self.temperature, self.top_p
        return 1.0 if temperature is None else temperature, 1.0 if top_p is None else top_p

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChatRequest) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def say(user: str, system: str = "") -> tuple[Message, ...]:
    """Return the messages of a new conversation: instructions, if any, and the text of the user."""
    return (*([Message("system", system)] if system else []), Message("user", user))


@dataclass(frozen=True)
class Token:
    """Token of an answer, with log-probabilities of the model before temperature and top-p."""

    text: str
    """Text of the token."""
    logp: float
    """Log-probability of the token."""
    alternatives: Mapping[str, float] = field(default_factory=dict)
    """Log-probabilities of the likeliest tokens at its place."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one call."""

    prompt: int = 0
    """Prompt tokens."""
    completion: int = 0
    """Completion tokens."""
    counted: bool = True
    """Whether the provider counted them; otherwise they are an upper bound."""

    @property
    def believable(self) -> bool:
        """Return whether both numbers are whole, not negative and at most MAX_TOKEN_COUNT."""
        numbers: tuple[object, object] = (self.prompt, self.completion)
        return all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_TOKEN_COUNT for n in numbers)


@dataclass(frozen=True)
class ChatAnswer:
    """Answer of a provider; an answer of a scripted stand-in is marked wherever it is written down."""

    text: str
    """Text of the answer; what a `Service` returns is without the model's reasoning."""
    source: Source
    """Kind of provider."""
    name: str
    """Name of the model or of the stand-in."""
    stop: str = "stop"
    """Reason of the end: stop, length, or another word of the endpoint (content_filter)."""
    usage: Usage = Usage()
    """Tokens of the call."""
    tokens: tuple[Token, ...] | None = None
    """Tokens with log-probabilities, where the request asked for them."""
    reasoning: str = ""
    """Reasoning before the answer, from a field of its own or from between tags such as <think> and </think>."""

    @property
    def scripted(self) -> bool:
        """Return whether a scripted stand-in answered."""
        return self.source == "scripted"

    def __str__(self) -> str:
        return f"[scripted stand-in {self.name}] {self.text}" if self.scripted else self.text

    def record(self) -> dict[str, Any]:
        """Return a line for `rollouts.jsonl` or `events.jsonl`; a scripted text is marked."""
        line = {"completion": str(self), "source": self.source, "model": self.name, "stop": self.stop}
        return line | {"reasoning": self.reasoning} if self.reasoning else line


class Provider(Protocol):
    """Provider of answers. One call answers one request once, without trying again; `Service` does the rest.

    A provider may have `open()`, which is called before a call is sent and timed, and `async close()`.
    """

    source: Source
    name: str
    kept: bool
    """Whether answers are worth keeping on disk."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return what decides the answer beside the request: model and address, never a key or a header."""
        ...

    def max_usage(self, request: ChatRequest) -> Usage:
        """Return an upper bound of the tokens of a request."""
        ...

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Answer a request. Raises Refused without an answer, UsageError where asking again would fail too."""
        ...


class Refused(Exception):  # noqa: N818 - the provider's word, not an error of the program
    """Error of a call without an answer.

    Args:
        reason: a short word for counting: rate_limit, server_error, timeout, connection, malformed, bad_request,
            too_large, unfinished_reasoning.
        detail: message, without secrets.
        again: whether another try may help.
        paid: whether the call may have been charged for.
        wait: seconds that the endpoint asks to wait.
        usage: tokens of the call, where it was paid and they are known; None: the largest possible number.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        again: bool = True,
        paid: bool = False,
        wait: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.again, self.paid, self.wait = reason, detail, again, paid, wait
        self.usage = usage


def key_of(identity: Mapping[str, Any], request: ChatRequest) -> str:
    """Return the key under which an answer is kept: SHA-256 of the provider's identity and the whole request."""
    return hashlib.sha256(f"{FORMAT}\n{_canonical(identity)}\n{request.text}".encode()).hexdigest()


def question_of(name: str, request: ChatRequest) -> str:
    """Return a hash of a request to a model of this name, whatever its address and the options of its provider."""
    return hashlib.sha256(f"{name}\n{request.text}".encode()).hexdigest()


def seed_of(seed: int | None, *parts: object) -> int:
    """Return a seed of 31 bits from a seed and further values that tell draws apart."""
    text = repr((seed or 0, *parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") & 0x7FFFFFFF


def with_schema_in_words(request: ChatRequest) -> tuple[Message, ...]:
    """Return the messages with the schema in the last one, for models that take no schema as a parameter."""
    if request.schema is None:
        return request.messages
    words = f"Answer with one JSON object and nothing else. It must fit this JSON schema: {_canonical(request.schema)}"
    last = request.messages[-1]
    return (*request.messages[:-1], Message(last.role, f"{last.content}\n\n{words}"))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
