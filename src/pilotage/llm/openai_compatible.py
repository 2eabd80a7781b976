"""Provider for endpoints of OpenAI's chat completions: vLLM, Ollama, `transformers serve`, and vendors."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pilotage.core.errors import UsageError
from pilotage.core.text import printable
from pilotage.llm.chat import ChatAnswer, ChatRequest, Refused, Source, Token, Usage, seed_of, with_schema_in_words

logger = logging.getLogger("pilotage.llm")

ROOM = 64
"""Tokens that a chat template may add to a conversation and to each message; most add under 30."""
FATAL_STATUS = {401, 403, 404}
"""Status codes of a wrong key, address or model, for which no other request would succeed."""
NO_KEY = "none"
"""Placeholder where the endpoint needs no key."""
SECRET_FROM = 16
"""Length from which a key is a secret. Servers without keys are given words such as EMPTY, and removing these from
answers would change them."""
MAX_REPLY_BYTES = 32 * 2**20
"""Largest reply of an endpoint that is read; log-probabilities of 20 alternatives take about 2 KB a token."""
MAX_DETAIL = 500
"""Largest number of characters of an endpoint's message that is repeated."""
OPTIONS = ("temperature", "top_p", "stop", "logprobs", "top_logprobs", "response_format")
"""Parameters that a caller can leave out where an endpoint refuses them."""
_TOO_LARGE = re.compile(
    r"context[ _](length|size|window)|maximum context|request too large|prompt is too long|reduce the length"
    r"|max_(completion_|new_)?tokens.{0,40}(too large|exceed|at most|greater than|less than)",
    re.IGNORECASE | re.DOTALL,
)
_QUOTA = re.compile(r"limit:?\s*(\d[\d,]*)\b.*?requested:?\s*(\d[\d,]*)", re.IGNORECASE | re.DOTALL)
_UNKNOWN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra|additional|instead"
    r"|deprecated|cannot both",
    re.IGNORECASE,
)
"""Words of endpoints for a parameter that they do not take."""


class OpenAICompatible:
    """Provider that asks a model of an endpoint through the official SDK, whose own retries are switched off.

    Args:
        model: its name at the endpoint.
        base_url: such as "http://127.0.0.1:8000/v1"; the vendor's own when None.
        key_variable: the environment variable that holds the key. It is read when the first call is sent, and its text
            is neither written nor shown; where the endpoint repeats a key of 16 characters or more, it is removed.
            Blanks and line breaks around it are left out.
        response_format: whether the endpoint takes a JSON schema as a parameter; else the prompt states it.
        limit_parameter: name of the endpoint's limit of completion tokens. Where an endpoint refuses "max_tokens" and
            asks for "max_completion_tokens", that is used from then on.
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
        self.host = parts.netloc
        self._client: Any = None
        self._secrets = _Secrets()
        self._sends_seeds = True
        self._has_answered = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return address, model and options of the endpoint."""
        return {
            "source": self.source,
            "base_url": self.base_url,
            "model": self.name,
            "response_format": self.response_format,
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
        parameters = self._parameters(request)
        failure: Exception
        # Raised outside the block, so that the exception of the SDK, which may hold the key, is not its context.
        try:
            try:
                given = await self._client.chat.completions.create(**parameters)
            except Exception as error:
                if not self._adapts(error, parameters):
                    raise
                given = await self._client.chat.completions.create(**self._parameters(request))
            answer = self._answer(given, request)
        except Refused as refusal:
            failure = refusal
        except asyncio.CancelledError:
            raise
        except Exception as error:
            failure = self._refusal(error, parameters)
        else:
            self._has_answered = True
            return answer
        raise failure

    def open(self) -> None:
        """Read the key and make the client, when there is none yet. Raises UsageError without a key or the SDK."""
        if self._client is None:
            openai = _sdk()
            key = os.environ.get(self.key_variable, "").strip()
            if not key and self.base_url == "https://api.openai.com/v1":
                raise UsageError(f"no key: set the environment variable {self.key_variable}, or give a base_url")
            if not (key.isascii() and key.isprintable()):
                raise UsageError(
                    f"the key in {self.key_variable} holds a character that no HTTP header can carry (a line break, a "
                    "control character, or a letter outside ASCII); set the variable to the key alone"
                )
            written = (key, json.dumps(key)[1:-1], repr(key)[1:-1], quote(key, safe=""))
            self._secrets = _Secrets(dict.fromkeys(written) if len(key) >= SECRET_FROM else ())
            self._client = openai.AsyncOpenAI(
                api_key=key or NO_KEY,
                base_url=self.base_url,
                max_retries=0,
                timeout=None,
                # Compressed replies would have no limit of size.
                default_headers={"Accept-Encoding": "identity"},
                http_client=_http_client(openai),
            )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _refuse_key_in(self, request: ChatRequest) -> None:
        if any(secret in request.text for secret in self._secrets):
            raise UsageError(f"a request holds the key of {self.key_variable}; it would be written to disk; remove it")

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        messages = request.messages if self.response_format else with_schema_in_words(request)
        chosen: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            self.limit_parameter: request.max_tokens,
        }
        if request.temperature is not None:
            chosen["temperature"] = request.temperature
        if request.top_p is not None:
            chosen["top_p"] = request.top_p
        if request.stop:
            chosen["stop"] = list(request.stop)
        if request.seed is not None and self._sends_seeds:
            chosen["seed"] = seed_of(request.seed, request.draw)
        if request.alternatives is not None:
            chosen |= {"logprobs": True, "top_logprobs": request.alternatives}
        if request.schema is not None and self.response_format:
            form = {"name": str(request.schema.get("title", "answer")), "schema": dict(request.schema)}
            chosen["response_format"] = {"type": "json_schema", "json_schema": form}
        return chosen | {"extra_body": dict(request.extra)} if request.extra else chosen

    def _answer(self, given: Any, request: ChatRequest) -> ChatAnswer:
        """Return the answer in the SDK's object. Raises Refused when it holds none."""
        choice = self._choice(given)
        message, usage = choice.message, getattr(given, "usage", None)
        text, reasoning = _parts(message.content)
        for name in ("reasoning_content", "reasoning"):
            field = getattr(message, name, None)
            if isinstance(field, str) and field and not reasoning:
                reasoning = field
        used = Usage(getattr(usage, "prompt_tokens", -1), getattr(usage, "completion_tokens", -1))
        try:
            tokens = None if request.alternatives is None else tuple(self._tokens(choice.logprobs))
        except (AttributeError, TypeError, ValueError) as error:
            raise _malformed(f"its log-probabilities cannot be read ({type(error).__name__})") from None
        refusal = getattr(message, "refusal", None)
        return ChatAnswer(
            text=self._clean(text or (refusal if isinstance(refusal, str) else "")),
            source=self.source,
            name=self.name,
            stop=self._clean(str(choice.finish_reason or "stop"))[:MAX_DETAIL],
            usage=used if used.believable else self._uncounted(request),
            tokens=tokens,
            reasoning=self._clean(reasoning),
        )

    def _choice(self, given: Any) -> Any:
        """Return the first choice of a reply. Raises Refused, or UsageError where no other reply can be hoped for."""
        if isinstance(given, str):
            begin = given.lstrip()[:200].lower()
            if begin.startswith(("data:", "event:", "id:", ":")):
                raise _malformed("it is a stream of events, which was not asked for; switch streaming off", again=False)
            if begin.startswith("<") and not self._has_answered:
                raise UsageError(
                    f"{self.base_url} answers with a web page and not with a chat completion; the address usually ends "
                    "in /v1"
                )
            raise _malformed("it is a web page" if begin.startswith("<") else "it is a text and not a chat completion")
        error = getattr(given, "error", None)
        if error:
            message = error.get("message") if isinstance(error, dict) else None
            raise _malformed(f"it holds an error: {self._line(str(message or error))}")
        choices = getattr(given, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise _malformed("it holds no choices")
        content = getattr(getattr(choices[0], "message", None), "content", _NOTHING)
        if content is _NOTHING:
            raise _malformed("its choice holds no message with content")
        if not isinstance(content, str | list | None):
            raise _malformed(f"the content of its message is a {type(content).__name__}")
        return choices[0]

    def _uncounted(self, request: ChatRequest) -> Usage:
        most = self.max_usage(request)
        return Usage(most.prompt, most.completion, counted=False)

    def _tokens(self, given: Any) -> Iterator[Token]:
        if given is None or given.content is None:
            said = f"{self.base_url} gives no log-probabilities for {self.name}; leave alternatives at None"
            raise Refused("no_logprobs", said, again=False, paid=True)
        for token in given.content:
            likely = {self._clean(other.token): _logp(other.logprob) for other in token.top_logprobs or []}
            yield Token(self._clean(token.token), _logp(token.logprob), likely)

    def _adapts(self, error: Exception, parameters: Mapping[str, Any]) -> bool:
        """Change the names of parameters as an error of the endpoint demands; return whether another try may help."""
        said = str(error)
        if getattr(error, "status_code", None) not in (400, 422) or not _UNKNOWN.search(said + _body_of(error)):
            return False
        if "max_tokens" in parameters and "max_completion_tokens" in said:
            self.limit_parameter = "max_completion_tokens"
            logger.info("%s wants max_completion_tokens; it is sent from now on", self.base_url)
            return True
        if "seed" in parameters and re.search(r"\bseed\b", said + _body_of(error)):
            self._sends_seeds = False
            logger.warning("%s takes no seed; none is sent from now on, so that its answers do not repeat", self.name)
            return True
        return False

    def _refusal(self, error: Exception, parameters: Mapping[str, Any]) -> Exception:
        """Return the error for an exception of the SDK."""
        openai = _sdk()
        if isinstance(error, UsageError):
            return error
        detail = self._line(f"{type(error).__name__}: {error}")
        if isinstance(error, openai.APITimeoutError):
            return Refused("timeout", detail, paid=True)
        if isinstance(error, openai.APIStatusError):
            return self._status(error, detail, parameters)
        if isinstance(error, openai.APIConnectionError):
            return self._connection(error)
        if isinstance(error, _ReplyTooLarge):
            return _malformed(f"it has more than {MAX_REPLY_BYTES // 2**20} MiB", again=False)
        if isinstance(error, openai.APIError | ValueError | RecursionError):
            return _malformed(detail)
        return RuntimeError(f"the openai package failed: {detail}")

    def _connection(self, error: Exception) -> Exception:
        """Return the error for a connection that could not be opened, or that broke."""
        causes = list(_causes(error))
        # Without a connection nothing was sent.
        sent = all(type(cause).__name__ != "ConnectError" for cause in causes)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            reason = next(cause.reason for cause in causes if isinstance(cause, ssl.SSLError)) or "TLS error"
            said = (
                f"no secure connection to {self.host} ({reason}): its certificate has to be valid and trusted (the "
                "variable SSL_CERT_FILE names further ones); a server without TLS has an address with http://"
            )
            return UsageError(said) if not sent and not self._has_answered else Refused("connection", said, paid=sent)
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            said = f"the name of the host {self.host} cannot be resolved; check base_url and the network"
            return Refused("connection", said) if self._has_answered else UsageError(said)
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return Refused("connection", f"nothing listens at {self.host}; start the endpoint, or check base_url")
        last = next((cause for cause in causes[1:] if str(cause)), causes[-1])
        # An invalid header would be repeated in the message.
        words = "" if type(last).__name__ == "LocalProtocolError" else f": {self._line(str(last))}"
        return Refused("connection", f"the connection to {self.host} broke ({type(last).__name__}{words})", paid=sent)

    def _status(self, error: Any, detail: str, parameters: Mapping[str, Any]) -> Exception:
        code, headers = int(error.status_code), error.response.headers
        if 300 <= code < 400:
            other = self._line(urlsplit(headers.get("location", "")).netloc) or "another address"
            return UsageError(
                f"{self.base_url} redirects to {other} ({code}), and prompts are not sent there; give the address of "
                "the endpoint itself as base_url"
            )
        if code in FATAL_STATUS:
            return UsageError(
                f"{self.base_url} refuses {self.name} with {code}: {detail}. See that the address and the model's name "
                f"are right and that {self.key_variable} holds its key"
            )
        if _never_fits(code, f"{error} {_body_of(error)}"):
            said = f"the request can never fit; shorten the prompt or lower max_tokens ({detail})"
            return Refused("too_large", said, again=False)
        if code in (400, 422) and (named := _named(error, parameters)):
            return UsageError(
                f"{self.base_url} refuses the parameter {named}={parameters[named]!r} of {self.name}: {detail}. Leave "
                f"it out (None, or none on the command line), or give another value"
            )
        if code == 429:
            # Exhausted quota also answers 429; do not retry.
            exhausted = error.code == "insufficient_quota"
            return Refused("rate_limit", detail, again=not exhausted, wait=_wait_of(headers))
        if code in (408, 409) or code >= 500:
            return Refused("server_error", detail, wait=_wait_of(headers))
        return Refused("bad_request", detail, again=False)

    def _clean(self, text: str) -> str:
        """Return a text of the endpoint that files can hold, without the key."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return printable(text)

    def _line(self, text: str) -> str:
        """Return a message of the endpoint as one line without control characters."""
        # The key is removed before the text is cut, so that no part of it stays.
        line = "".join(letter if letter.isprintable() else " " for letter in self._clean(text))
        return line[:MAX_DETAIL]


class _Secrets(tuple[str, ...]):
    """Spellings of a key, which do not print themselves."""

    def __repr__(self) -> str:
        return f"({len(self)} hidden)"


class _ReplyTooLarge(Exception):  # noqa: N818 - its state
    """Signal that a reply has more bytes than are read."""


_NOTHING = object()


def _http_client(openai: Any) -> Any:
    """Return a client of the SDK that follows no redirect and reads no more than MAX_REPLY_BYTES of a reply."""

    class Client(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            response = await super().send(request, **options | {"stream": True})
            body = bytearray()
            try:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_REPLY_BYTES:
                        raise _ReplyTooLarge
            finally:
                await response.aclose()
            names = ("content-encoding", "content-length", "transfer-encoding")
            headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in names]
            return type(response)(response.status_code, headers=headers, content=bytes(body), request=request)

    return Client(follow_redirects=False, timeout=None)


def _malformed(what: str, *, again: bool = True) -> Refused:
    return Refused("malformed", f"the reply is no chat completion that can be used: {what}", again=again, paid=True)


def _parts(content: Any) -> tuple[str, str]:
    """Return text and reasoning of a message's content: a text, nothing, or a list of typed parts."""
    if not isinstance(content, list):
        return content or "", ""
    text, reasoning = "", ""
    for part in content:
        if not isinstance(part, dict):
            raise _malformed(f"a part of its content is a {type(part).__name__}")
        kind = str(part.get("type"))
        said = part.get("text", part.get("thinking", part.get("reasoning")))
        said = _parts(said)[0] if isinstance(said, list) else said
        if not isinstance(said, str):
            raise _malformed(f"a part of its content is of the kind {kind[:40]!r}, without text")
        if kind == "text":
            text += said
        else:
            reasoning += said
    return text, reasoning


def _logp(value: Any) -> float:
    """Return a log-probability. Raises ValueError for a number above 0 or none."""
    logp = float(value)
    if math.isnan(logp) or logp > 1e-3:
        raise ValueError("no log-probability")
    return min(logp, 0.0)


def _never_fits(code: int, said: str) -> bool:
    """Return whether an error tells of a request that is too large, whatever one waits."""
    if code == 413:
        return True
    if code == 429:
        quota = _QUOTA.search(said)
        if quota is None:
            return "request too large" in said.lower()
        limit, requested = (int(number.replace(",", "")[:18]) for number in quota.groups())
        return requested > limit
    return (code in (400, 422) or code >= 500) and _TOO_LARGE.search(said) is not None


def _named(error: Any, parameters: Mapping[str, Any]) -> str:
    """Return the parameter that an error refuses and that a caller can leave out; empty when none."""
    sent = [name for name in OPTIONS if name in parameters]
    if error.param in sent:
        return str(error.param)
    said = f"{error} {_body_of(error)}"
    return next((name for name in sent if re.search(rf"\b{name}\b", said) and _UNKNOWN.search(said)), "")


def _body_of(error: Any) -> str:
    """Return the beginning of the body of an error: not every endpoint has its message where the SDK looks."""
    return str(getattr(error, "body", ""))[:2000]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those it came from, also from groups."""
    waiting, found = [error], list[int]()
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in found:
            continue
        found.append(id(one))
        yield one
        waiting += [one.__cause__ or one.__context__, *getattr(one, "exceptions", ())]


def _wait_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the endpoint asks to wait.

    Retry-After is a number of seconds, or a date (RFC 9110, section 10.2.3); some vendors add retry-after-ms.
    """
    try:
        seconds = float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        value = headers.get("retry-after")
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError, OverflowError):
                return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def _sdk() -> Any:
    try:
        import openai
    except ModuleNotFoundError:
        raise UsageError("endpoints need the extra llm: pip install 'pilotage[llm]'") from None
    return openai
