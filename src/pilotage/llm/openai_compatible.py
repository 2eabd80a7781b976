"""Provider for endpoints of OpenAI's chat completions: vLLM, Ollama, `transformers serve`, and vendors."""

from __future__ import annotations

import asyncio
import email.utils
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pilotage.core.errors import UsageError
from pilotage.llm.chat import ChatAnswer, ChatRequest, Refused, Source, Token, Usage, seed_of, with_schema_in_words

ROOM = 64
"""Tokens that a chat template may add to a conversation and to each message; most add under 30."""
FATAL_STATUS = {401, 403, 404}
"""Status codes of a wrong key, address or model, for which no other request would succeed."""
NO_KEY = "none"
"""Placeholder where the endpoint needs no key."""
SECRET_FROM = 16
"""Length from which a key is a secret. Servers without keys are given words such as EMPTY, and removing these from
answers would change them."""


class OpenAICompatible:
    """Provider that asks a model of an endpoint through the official SDK, whose own retries are switched off.

    Args:
        model: its name at the endpoint.
        base_url: such as "http://127.0.0.1:8000/v1"; the vendor's own when None.
        key_variable: the environment variable that holds the key. It is read when the first call is sent, and its text
            is neither written nor shown; where the endpoint repeats a key of 16 characters or more, it is removed.
        response_format: whether the endpoint takes a JSON schema as a parameter; else the prompt states it.
        limit_parameter: name of the endpoint's limit of completion tokens; newer models of OpenAI want
            "max_completion_tokens".
        room: most tokens that the endpoint's chat template adds to a conversation, and to each message.

    Raises:
        UsageError: an address with a name, password or query in it, which would end up in records.
    """

    source: Source = "endpoint"
    kept = True

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        response_format: bool = False,
        limit_parameter: str = "max_tokens",
        room: int = ROOM,
    ) -> None:
        parts = urlsplit(base_url or "https://api.openai.com/v1")
        if parts.scheme not in ("http", "https") or parts.username or parts.password or parts.query or parts.fragment:
            raise UsageError(
                "base_url has to be an address such as http://127.0.0.1:8000/v1, without name, password or query; "
                f"put keys into the environment variable {key_variable}"
            )
        self.name, self.base_url = model, parts.geturl().rstrip("/")
        self.key_variable, self.response_format = key_variable, response_format
        self.limit_parameter, self.room = limit_parameter, room
        self._client: Any = None
        self._key = ""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return address, model and options of the endpoint."""
        return {
            "source": self.source,
            "base_url": self.base_url,
            "model": self.name,
            "response_format": self.response_format,
            "limit_parameter": self.limit_parameter,
        }

    def max_usage(self, request: ChatRequest) -> Usage:
        """Return an upper bound: a token holds at least one byte; the template adds at most `room`."""
        messages = with_schema_in_words(request)
        size = sum(len(message.content.encode()) for message in messages)
        return Usage(size + self.room * (1 + len(messages)), request.max_tokens, counted=False)

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send one call. Raises Refused or UsageError, without the key in the message."""
        self.open()
        self._refuse_key_in(request)
        failure: Exception
        # Raised outside the block, so that the exception of the SDK, which may hold the key, is not its context.
        try:
            return self._answer(await self._client.chat.completions.create(**self._parameters(request)), request)
        except Refused as refusal:
            failure = refusal
        except asyncio.CancelledError:
            raise
        except Exception as error:
            failure = self._refusal(error)
        raise failure

    def open(self) -> None:
        """Read the key and make the client, when there is none yet. Raises UsageError without a key or the SDK."""
        if self._client is None:
            openai = _sdk()
            key = os.environ.get(self.key_variable, "")
            if not key and self.base_url == "https://api.openai.com/v1":
                raise UsageError(f"no key: set the environment variable {self.key_variable}, or give a base_url")
            self._key = key if len(key) >= SECRET_FROM else ""
            self._client = openai.AsyncOpenAI(
                api_key=key or NO_KEY, base_url=self.base_url, max_retries=0, timeout=None
            )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _refuse_key_in(self, request: ChatRequest) -> None:
        if self._key and self._key in request.text:
            raise UsageError(f"a request holds the key of {self.key_variable}; it would be written to disk; remove it")

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        messages = request.messages if self.response_format else with_schema_in_words(request)
        chosen: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            self.limit_parameter: request.max_tokens,
        }
        if request.stop:
            chosen["stop"] = list(request.stop)
        if request.seed is not None:
            chosen["seed"] = seed_of(request.seed, request.draw)
        if request.alternatives is not None:
            chosen |= {"logprobs": True, "top_logprobs": request.alternatives}
        if request.schema is not None and self.response_format:
            form = {"name": str(request.schema.get("title", "answer")), "schema": dict(request.schema)}
            chosen["response_format"] = {"type": "json_schema", "json_schema": form}
        return chosen | {"extra_body": dict(request.extra)} if request.extra else chosen

    def _answer(self, said: Any, request: ChatRequest) -> ChatAnswer:
        """Return the answer in the SDK's object. Raises Refused when it holds none."""
        try:
            choice = said.choices[0]
            text, stop = choice.message.content, choice.finish_reason
            refusal = getattr(choice.message, "refusal", None)
            usage = said.usage
            counted = usage is not None
            used = Usage(int(usage.prompt_tokens), int(usage.completion_tokens)) if counted else self.max_usage(request)
            tokens = None if request.alternatives is None else tuple(self._tokens(choice.logprobs))
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            found = f"the answer is no chat completion ({type(error).__name__})"
            raise Refused("malformed", found, paid=True) from None
        if text is not None and not isinstance(text, str):
            raise Refused("malformed", f"the text of the answer is a {type(text).__name__}", paid=True)
        return ChatAnswer(self._clean(text or refusal or ""), self.source, self.name, str(stop or "stop"), used, tokens)

    def _tokens(self, given: Any) -> Iterator[Token]:
        if given is None or given.content is None:
            said = f"{self.base_url} gives no log-probabilities for {self.name}; leave alternatives at None"
            raise Refused("no_logprobs", said, again=False, paid=True)
        for token in given.content:
            likely = {self._clean(other.token): float(other.logprob) for other in token.top_logprobs or []}
            yield Token(self._clean(token.token), float(token.logprob), likely)

    def _refusal(self, error: Exception) -> Exception:
        """Return the error for an exception of the SDK."""
        openai = _sdk()
        detail = self._clean(f"{type(error).__name__}: {error}")[:500]
        if isinstance(error, UsageError):
            return error
        if isinstance(error, openai.APITimeoutError):
            return Refused("timeout", detail, paid=True)
        if isinstance(error, openai.APIStatusError):
            return self._status(error, detail)
        if isinstance(error, openai.APIConnectionError):
            # Without a connection nothing was sent.
            sent = type(error.__cause__).__name__ != "ConnectError"
            cause = self._clean(f"{type(error.__cause__).__name__}: {error.__cause__}")
            return Refused("connection", f"{detail} ({cause})", paid=sent)
        if isinstance(error, openai.APIError | ValueError):
            return Refused("malformed", detail, paid=True)
        return RuntimeError(f"the openai package failed: {detail}")

    def _status(self, error: Any, detail: str) -> Exception:
        code = int(error.status_code)
        if code in FATAL_STATUS:
            return UsageError(
                f"{self.base_url} refuses {self.name} with {code}: {detail}. See that the address and the model's name "
                f"are right and that {self.key_variable} holds its key"
            )
        if code == 429:
            # Exhausted quota also answers 429; do not retry.
            empty = error.code == "insufficient_quota"
            return Refused("rate_limit", detail, again=not empty, wait=_wait_of(error.response.headers))
        if code in (408, 409) or code >= 500:
            return Refused("server_error", detail, wait=_wait_of(error.response.headers))
        return Refused("bad_request", detail, again=False)

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _wait_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for: a number, or a date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date = email.utils.parsedate_tz(value)
        if date is None:
            return None
        seconds = email.utils.mktime_tz(date) - time.time()
    return max(0.0, seconds) if seconds == seconds else None


def _sdk() -> Any:
    try:
        import openai
    except ModuleNotFoundError:
        raise UsageError("endpoints need the extra llm: pip install 'pilotage[llm]'") from None
    return openai
