"""Scripted stand-ins: a Python function in the place of a language model, which says so in all that it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.llm.chat import ChatAnswer, ChatRequest, Source, Usage, seed_of

Script = Callable[[ChatRequest, int], "str | Mapping[str, Any] | ChatAnswer"]
"""`script(request, seed)` gives the text, or a mapping that becomes JSON, or a ChatAnswer for log-probabilities."""


class Scripted:
    """Answers by a function of the request and a seed, so that everything above it runs without a model.

    Its answers are never kept on disk: they cost nothing, and a changed function must not give old ones.

    Args:
        script: see `Script`. Equal requests get equal seeds; different draws get different ones.
        name: what it plays, such as "trader"; every record carries it.
        seed: of all its seeds."""

    source: Source = "scripted"
    kept = False

    def __init__(self, script: Script, name: str, seed: int = 0) -> None:
        if not name:
            raise UsageError("a scripted stand-in has no name; say what it plays, such as name='trader'")
        self.script, self.name, self.seed = script, name, seed

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"source": self.source, "name": self.name, "seed": self.seed}

    def most(self, request: ChatRequest) -> Usage:  # noqa: ARG002 - the protocol's
        return Usage()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """What the script says, as an answer of a scripted stand-in. Raises whatever the script raises."""
        said = self.script(request, seed_of(self.seed, request.text))
        if isinstance(said, ChatAnswer):
            return replace(said, source=self.source, name=self.name, usage=Usage())
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        return ChatAnswer(text, self.source, self.name)
