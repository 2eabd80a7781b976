"""A Hugging Face model in this process, sampled by one of our engines."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.model_text import read_model_text
from pilotage.llm.chat import ChatAnswer, ChatRequest, Source, Token, Usage, seed_of, with_schema_in_words
from pilotage.types import Completion, Engine, Request, Sampling


class LocalModel:
    """Provider that samples a local model with an engine; batching changes no answer.

    Answers are kept under the hash of the weights, so that another checkpoint of the same name never gives old ones.

    Args:
        policy: a language policy (`pilotage.policies.language.policy.LanguagePolicy`): model, tokenizer, encode_chat,
            decode.
        engine: made from its model (`pilotage.engines.build_engine`).

    Raises:
        UsageError: its tokenizer has no chat template (when asked).
    """

    source: Source = "local"
    kept = True

    def __init__(self, policy: Any, engine: Engine) -> None:
        self.policy, self.engine, self.name = policy, engine, str(policy.name)
        self._version, self._weights = engine.version, _hash_of(policy.model)
        self._waiting: list[tuple[ChatRequest, list[int], asyncio.Future[ChatAnswer]]] = []
        self._busy = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return the hash of the weights and the chat template."""
        if self.engine.version != self._version:
            raise UsageError(f"other weights were loaded into the engine of {self.name}; make a new LocalModel of them")
        return {"source": self.source, "weights": self._weights, "template": self.policy.tokenizer.chat_template}

    def max_usage(self, request: ChatRequest) -> Usage:
        """Return the tokens of the prompt and the largest answer."""
        return Usage(len(self._prompt(request)), request.max_tokens)

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Answer a request. Raises UsageError for a prompt that fills the context, and for parameters of endpoints."""
        if request.extra:
            raise UsageError(f"{self.name} is a local model and knows no extra parameters ({', '.join(request.extra)})")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((request, self._prompt(request), future))
        if not self._busy:
            self._busy = True
            self._task = asyncio.ensure_future(self._work())
        return await future

    async def _work(self) -> None:
        """Answer waiting requests until there are none."""
        await asyncio.sleep(0)  # Requests of the same moment are collected first.
        try:
            while self._waiting:
                first = _sampling(self._waiting[0][0])
                batch = [one for one in self._waiting if _sampling(one[0]) == first]
                self._waiting = [one for one in self._waiting if _sampling(one[0]) != first]
                try:
                    answers = await asyncio.to_thread(self._generate, [one[:2] for one in batch], first)
                except Exception as error:
                    for *_, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (*_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._busy = False

    def _generate(self, batch: Sequence[tuple[ChatRequest, list[int]]], sampling: Sampling) -> list[ChatAnswer]:
        asked = [Request(ids, request.max_tokens, seed=seed_of(request.seed, request.draw)) for request, ids in batch]
        completions = [one for (one,) in self.engine.generate(asked, sampling)]
        answers = []
        for (request, ids), completion in zip(batch, completions, strict=True):
            text, reasoning = self.policy.decode(completion.ids), ""
            if self._opens_reasoning(ids) and not read_model_text(text).reasoning:
                text, reasoning = "", text  # The reasoning that began in the prompt was not closed.
            answers.append(
                ChatAnswer(
                    text=text,
                    source=self.source,
                    name=self.name,
                    stop="length" if completion.stop == "length" else "stop",
                    usage=Usage(len(ids), len(completion.ids)),
                    tokens=None
                    if request.alternatives is None
                    else self._tokens(ids, completion, request.alternatives),
                    reasoning=reasoning,
                )
            )
        return answers

    def _opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Return whether the chat template ends with the tag that opens reasoning, such as <think>."""
        words = str(self.policy.tokenizer.decode(list(prompt[-8:]))).split()
        return bool(words) and not read_model_text(words[-1]).complete

    def _prompt(self, request: ChatRequest) -> list[int]:
        messages = [{"role": message.role, "content": message.content} for message in with_schema_in_words(request)]
        return [int(token) for token in self.policy.encode_chat(messages)]

    def _tokens(self, prompt: Sequence[int], completion: Completion, count: int) -> tuple[Token, ...]:
        """Return log-probabilities by one more forward pass: those of the engine are after temperature and top-p."""
        import torch

        ids = [int(token) for token in completion.ids]
        with torch.inference_mode():
            whole = torch.tensor([[*prompt, *ids]], device=self.policy.model.device)
            logits = self.policy.model(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1 : -1]
            logp = torch.log_softmax(logits.float(), -1)
        spell = self.policy.tokenizer.decode
        found = []
        for row, token in zip(logp, ids, strict=True):
            likely = torch.topk(row, min(count, len(row)))
            alternatives: dict[str, float] = {}
            for value, other in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
                alternatives.setdefault(spell([other]), value)
            found.append(Token(spell([token]), float(row[token]), alternatives))
        return tuple(found)


def _sampling(request: ChatRequest) -> Sampling:
    temperature, top_p = request.sampling
    return Sampling(temperature=temperature, top_p=top_p, stop=request.stop)


def _hash_of(model: Any) -> str:
    """Return the SHA-256 over names, types and bytes of the weights."""
    import torch

    found = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
