"""Scripted stand-ins: a Python function in place of a language model, whose answers are marked as scripted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.llm.chat import ChatAnswer, ChatRequest, Source, Usage, seed_of

Script = Callable[[ChatRequest, int], "str | Mapping[str, Any] | ChatAnswer"]
"""`script(request, seed)` returns the text, or a mapping that becomes JSON, or a ChatAnswer with log-probabilities."""


class Scripted:
    """Provider that answers by a function of the request and a seed, without a model.

    Answers are never kept on disk: they cost nothing, and a changed function must not give old ones.

    Args:
        script: see `Script`. Equal requests get equal seeds; different draws get different ones.
        name: name of the role, such as "trader"; every record carries it.
        seed: seed of all answers.
    """

    source: Source = "scripted"
    kept = False

    def __init__(self, script: Script, name: str, seed: int = 0) -> None:
        if not name:
            raise UsageError("a scripted stand-in has no name; say what it plays, such as name='trader'")
        self.script, self.name, self.seed = script, name, seed

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return name and seed."""
        return {"source": self.source, "name": self.name, "seed": self.seed}

    def max_usage(self, request: ChatRequest) -> Usage:  # noqa: ARG002 - the protocol's
        """Return no tokens."""
        return Usage()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Return the script's answer, marked as scripted."""
        temperature, top_p = request.sampling
        asked = replace(request, temperature=temperature, top_p=top_p)
        answer = self.script(asked, seed_of(self.seed, asked.text))
        if isinstance(answer, ChatAnswer):
            return replace(answer, source=self.source, name=self.name, usage=Usage())
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        return ChatAnswer(text, self.source, self.name)
