"""An OpenAI-compatible endpoint on loopback that can be told to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], str]
"""From the body of a call to the text of the answer."""


def echo(body: dict[str, Any]) -> str:
    """A text that depends on all that was sent."""
    return "said " + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


class Endpoint:
    """Answers by `reply`, after `delay` seconds, and with the next of `faults` where there is one.

    A fault is None (none), or a name with whatever it needs:
        ("status", code, headers, text), ("slow", seconds), ("dribble", seconds), ("cut",), ("cut-body",),
        ("body", bytes), ("answer", text), ("typed", content type, bytes),
        ("raw", bytes of the whole reply), ("flood", bytes of one header): headers without end."""

    def __init__(self, reply: Reply = echo, *, delay: float = 0.0) -> None:
        self.reply, self.delay = reply, delay
        self.delay_without_fault = 0.0
        self.faults: list[Any] = []
        self.fault_of: Callable[[dict[str, Any]], Any] = lambda _: None
        """From the body of a call to its fault, where the list has none."""
        self.bodies: list[dict[str, Any]] = []
        """Of all calls, in the order in which they came."""
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.finished = 0
        """Answers that were written out whole: what a vendor charges for."""
        self.together = self.most_together = 0
        self.usage: Callable[[dict[str, Any], str], dict[str, int] | None] = _usage
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Listens, on a free port of loopback; gives the base URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            self.closing.set()
            server.shutdown()
            thread.join()
            server.server_close()


def completion(text: str | None, *, usage: dict[str, int] | None, logprobs: Any = None) -> dict[str, Any]:
    """The body of an answer, as OpenAI's reference describes it."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}],
        "usage": usage,
    }


def _usage(body: dict[str, Any], text: str) -> dict[str, int]:
    prompt = sum(len(message["content"].split()) for message in body["messages"])
    return {"prompt_tokens": prompt, "completion_tokens": len(text.split()), "total_tokens": prompt + len(text.split())}


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with endpoint.lock:
                endpoint.bodies.append(body)
                endpoint.times.append(time.monotonic())
                endpoint.headers.append(dict(self.headers.items()))
                fault = endpoint.faults.pop(0) if endpoint.faults else endpoint.fault_of(body)
                endpoint.together += 1
                endpoint.most_together = max(endpoint.together, endpoint.most_together)
            try:
                endpoint.closing.wait(endpoint.delay + (endpoint.delay_without_fault if fault is None else 0.0))
                self.answer(body, fault or ("none",))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with endpoint.lock:
                    endpoint.together -= 1

        def answer(self, body: dict[str, Any], fault: tuple[Any, ...]) -> None:
            kind, *rest = fault
            text = rest[0] if kind == "answer" else endpoint.reply(body)
            logprobs = _logprobs(text, body) if body.get("logprobs") else None
            whole = json.dumps(completion(text, usage=endpoint.usage(body, text or ""), logprobs=logprobs)).encode()
            if kind == "status":
                code, headers, said = rest
                error = {"error": {"message": said, "type": "test", "code": headers.pop("error-code", None)}}
                self.send(code, json.dumps(error).encode(), headers)
            elif kind == "slow":
                endpoint.closing.wait(rest[0])
                self.send(200, whole)
            elif kind == "dribble":
                self.send(200, whole, pause=rest[0] / len(whole))
            elif kind == "cut":
                self.close_connection = True
                self.connection.shutdown(2)
            elif kind == "cut-body":
                self.send(200, whole[: len(whole) // 2], length=len(whole))
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(2)
            elif kind == "body":
                self.send(200, rest[0])
            elif kind == "typed":
                self.send(200, rest[1], {"content-type": rest[0]})
            elif kind == "raw":
                self.close_connection = True
                self.wfile.write(rest[0])
            elif kind == "flood":
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not endpoint.closing.is_set():
                    self.wfile.write(rest[0])
            else:
                self.send(200, whole)
                with endpoint.lock:
                    endpoint.finished += 1

        def send(
            self, code: int, data: bytes, headers: Any = None, *, length: int | None = None, pause: float = 0.0
        ) -> None:
            self.send_response(code)
            if "content-type" not in (headers or {}):
                self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data) if length is None else length))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if not pause:
                self.wfile.write(data)
                return
            for at in range(len(data)):
                if endpoint.closing.wait(pause):
                    return
                self.wfile.write(data[at : at + 1])
                self.wfile.flush()

    return Handler


def _logprobs(text: str, body: dict[str, Any]) -> Any:
    first = text.split()[0] if text.split() else ""
    likely = [{"token": first, "logprob": -0.25, "bytes": None}, {"token": "No", "logprob": -1.75, "bytes": None}]
    top = likely[: body.get("top_logprobs", 0)]
    return {"content": [{"token": first, "logprob": -0.25, "bytes": None, "top_logprobs": top}], "refusal": None}
