"""A provider that takes what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pilotage.llm import ChatAnswer, ChatRequest, Usage


class Playing:
    """Counts as an endpoint. `play(request)` is awaited first and may raise; then the answer uses `usage(request)`."""

    source = "endpoint"
    name = "playing"
    kept = True

    def __init__(
        self,
        usage: Callable[[ChatRequest], Usage] = lambda request: Usage(len(request.messages[-1].content), 1),
        play: Callable[[ChatRequest], Any] | None = None,
    ) -> None:
        self.usage, self.play = usage, play
        self.called: list[ChatRequest] = []
        self.answer = ""
        """Text of all answers; one that repeats the question when empty."""
        self.charged = Usage()

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"source": self.source, "name": self.name}

    def max_usage(self, request: ChatRequest) -> Usage:
        return Usage(len(request.messages[-1].content), request.max_tokens)

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        self.called.append(request)
        if self.play is not None:
            await self.play(request)
        else:
            await asyncio.sleep(0)
        used = self.usage(request)
        self.charge(used)
        return ChatAnswer(self.answer or f"re: {request.messages[-1].content}", "endpoint", self.name, usage=used)

    def charge(self, used: Usage) -> None:
        """What the vendor writes on the bill."""
        self.charged = Usage(self.charged.prompt + used.prompt, self.charged.completion + used.completion)
