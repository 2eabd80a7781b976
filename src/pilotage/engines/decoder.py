"""Our own sampling engine for Llama, Qwen2, Qwen3 and Mistral models on the CPU.

A prompt is computed once, however often it is asked for; finished rows leave the batch; the cache never grows by
copying. Answers depend on (seed, index, position) alone, so that how requests are batched changes nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.engines.decoder_model import Cache, FusedModel
from pilotage.engines.noise import check_distribution, draw, entropy_of, log_distribution, uniforms
from pilotage.engines.stopping import StopStrings, check_request, end_ids
from pilotage.networks.products import resolve_products
from pilotage.types import Completion, Meter, Request, Sampling

PREFILL_TOKENS = 8192
"""Most tokens of prompts in one forward pass."""


@dataclass(eq=False)
class Handle:
    """A text whose keys and values are kept: `tokens`, of which the first `cached` have been computed.

    `keys` and `values` hold one tensor [kv heads, cached, head size] per layer.
    """

    tokens: tuple[int, ...]
    cached: int
    keys: list[Tensor] = field(repr=False)
    values: list[Tensor] = field(repr=False)
    gone: str = ""
    """Why it cannot be used any more; empty while it can."""

    def drop(self, reason: str) -> None:
        """Free the memory and keep the reason."""
        self.gone = self.gone or reason
        self.keys, self.values = [], []


@dataclass(frozen=True)
class _Prompt:
    """One text to compute: a parent's first `cached` tokens, and `ids` after them."""

    parent: Handle | None
    cached: int
    ids: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.cached + len(self.ids)

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*(self.parent.tokens[: self.cached] if self.parent else ()), *self.ids)


@dataclass(frozen=True)
class _Row:
    """One answer to sample."""

    request: int
    sample: int
    seed: int
    limit: int
    prompt: _Prompt


class DecoderEngine:
    """Engine that samples from fused copies of a model's weights.

    Args:
        model: a Hugging Face causal LM; its weights are copied, later changes arrive by `load`.
        tokenizer: for end-of-sequence and beginning-of-sequence ids and stop strings; None if there are none.
        weights: (name, tensor) pairs to use instead of the model's own, such as merged adapters.
        products: "float32", "bfloat16", or "auto" for what the processor does well.
        max_rows: most answers that are sampled at a time.
        keep_prefixes: whether completions carry a handle, for `Request.parent`, `append` and `fork`.
        entropy: whether completions carry the entropy of each distribution.

    Raises:
        UsageError: an architecture that it does not run (the message names the transformers engine).
    """

    capabilities = frozenset({"fork", "entropy", "deterministic"})

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        weights: Iterable[tuple[str, Tensor]] | None = None,
        products: str = "float32",
        max_rows: int = 256,
        keep_prefixes: bool = False,
        entropy: bool = True,
    ) -> None:
        self.config = model.config
        self.tokenizer = tokenizer
        self.eos_ids = end_ids(model, tokenizer)
        self.bos_id = getattr(tokenizer, "bos_token_id", None)
        self.context = int(self.config.max_position_embeddings)
        self.products = resolve_products(products)
        self.max_rows = max_rows
        self.keep_prefixes = keep_prefixes
        self.entropy = entropy
        self.meter = Meter()
        self.version = 0
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self.load(0, model.named_parameters() if weights is None else weights)

    def load(self, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy new weights, under their Hugging Face names, and drops every cached prefix."""
        with torch.no_grad():
            self.model = FusedModel(self.config, dict(named_tensors), self.products)
        self.version = version
        for handle in list(self._handles):
            handle.drop("the weights have changed since")

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Return for each request its `n` completions, in order.

        Raises UsageError for a prompt that is empty or fills the context, a handle that is stale or released, and
        sampling settings out of range.
        """
        check_distribution(sampling)
        rows = [row for index, request in enumerate(requests) for row in self._plan(index, request)]
        # Prompts of like length side by side: all rows of a wave write the same column, and shorter ones are padded.
        rows.sort(key=lambda row: row.prompt.length)
        answers: list[list[Any]] = [[None] * request.n for request in requests]
        for start in range(0, len(rows), self.max_rows):
            wave = rows[start : start + self.max_rows]
            for row, completion in zip(wave, _Wave(self, wave, sampling).run(), strict=True):
                answers[row.request][row.sample] = completion
        return answers

    def _plan(self, index: int, request: Request) -> Iterator[_Row]:
        parent = request.parent
        self._check_handle(parent)
        begun = () if parent is None else parent.tokens
        ids, limit = check_request(request, self.context, self.bos_id, prefix=len(begun))
        cached = 0 if parent is None else min(parent.cached, len(begun) + len(ids) - 1)
        prompt = _Prompt(parent, cached, (*begun[cached:], *ids))
        for sample in range(request.n):
            yield _Row(index, sample, request.seed, limit, prompt)

    def _check_handle(self, handle: Handle | None) -> None:
        if handle is not None and handle.gone:
            raise UsageError(f"this handle cannot be continued: {handle.gone}; sample its text anew")

    def append(self, handle: Handle | None, ids: Sequence[int]) -> Handle:
        """Return a handle of the text of `handle` (None: nothing) followed by `ids`, computed now and kept."""
        self._check_handle(handle)
        begun = () if handle is None else handle.tokens
        tokens = (*begun, *(int(token) for token in ids))
        if not 0 < len(tokens) <= self.context:
            raise UsageError(f"a text of {len(tokens)} tokens cannot be kept; the context holds 1 to {self.context}")
        cached = 0 if handle is None else min(handle.cached, len(tokens) - 1)
        with torch.inference_mode():
            cache, _, _ = self.prefill([_Prompt(handle, cached, tokens[cached:])])
        return self.keep(tokens, cache, 0, 0, len(tokens))

    def fork(self, handle: Handle, at: int) -> Handle:
        """Return a handle of the first `at` tokens of a text, sharing memory."""
        self._check_handle(handle)
        if not 0 < at <= len(handle.tokens):
            raise UsageError(f"cannot fork at token {at} of a text of {len(handle.tokens)} tokens")
        cached = min(handle.cached, at)
        keys, values = ([tensor[:, :cached] for tensor in kind] for kind in (handle.keys, handle.values))
        return self._registered(Handle(handle.tokens[:at], cached, keys, values))

    def release(self, handle: Handle) -> None:
        """Forget a handle; its memory is free once no fork shares it."""
        handle.drop("it was released")

    def keep(self, tokens: tuple[int, ...], cache: Cache, row: int, begin: int, end: int) -> Handle:
        """Return a handle of copies of columns `begin`...`end - 1` of a row."""
        keys, values = ([t[row, :, begin:end].clone() for t in kind] for kind in (cache.keys, cache.values))
        return self._registered(Handle(tokens, end - begin, keys, values))

    def _registered(self, handle: Handle) -> Handle:
        self._handles.add(handle)
        return handle

    def prefill(self, prompts: Sequence[_Prompt]) -> tuple[Cache, Tensor, Tensor]:
        """Compute prompts, aligned on the right. Returns their cache, the column at which each begins, and the logits
        [prompts, vocabulary] after each.
        """
        width = max(prompt.length for prompt in prompts)
        longest = max(len(prompt.ids) for prompt in prompts)
        self.model.reserve(width)
        cache = Cache.cleared(self.model, len(prompts), width)
        ids = np.zeros((len(prompts), longest), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.ids) :] = prompt.ids
            if prompt.parent is not None and prompt.cached:
                place = slice(width - prompt.length, width - len(prompt.ids))
                for layer in range(len(self.model.layers)):
                    cache.keys[layer][row, :, place] = prompt.parent.keys[layer][:, : prompt.cached]
                    cache.values[layer][row, :, place] = prompt.parent.values[layer][:, : prompt.cached]
        tokens, device = torch.from_numpy(ids), self.model.device
        tokens = tokens.to(device)
        begin = torch.tensor([width - prompt.length for prompt in prompts], device=device)
        cached = torch.tensor([prompt.cached for prompt in prompts], device=device)
        size = max(1, PREFILL_TOKENS // longest)
        logits = []
        for low in range(0, len(prompts), size):
            part = slice(low, low + size)
            logits.append(self.model.prefill(tokens[part], begin[part], cached[part], cache.rows(low, low + size)))
        self.meter.prefilled += sum(len(prompt.ids) for prompt in prompts)
        return cache, begin, torch.cat(logits)

    def stop_strings(self, stops: tuple[str, ...]) -> StopStrings | None:
        """Return the finder of these stop strings; made once, because it looks at the whole vocabulary."""
        if stops and self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer; give the engine one, or leave them out")
        if stops not in self._stops:
            decode = self.tokenizer.decode if stops else str
            self._stops[stops] = StopStrings(stops, decode, self.config.vocab_size)
        return self._stops[stops] if stops else None


class _Wave:
    """The answers that are sampled together. Rows 0...live-1 of every tensor are still being written; a row that ends
    gives its place to the last one.
    """

    def __init__(self, engine: DecoderEngine, rows: Sequence[_Row], sampling: Sampling) -> None:
        self.engine, self.sampling, self.rows = engine, sampling, rows
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        number = {prompt: index for index, prompt in enumerate(prompts)}
        device = engine.model.device
        owner = torch.tensor([number[row.prompt] for row in rows], device=device)
        self.steps = max(row.limit for row in rows)
        prefix, begin, logits = engine.prefill(prompts)
        self.width = prefix.columns
        self.begin = begin[owner]
        self.logits = logits[owner]
        self.cache = prefix.repeated(engine.model, owner, self.width + self.steps - 1)
        engine.model.reserve(self.width + self.steps)
        columns = torch.arange(self.cache.columns, device=device)
        self.hidden: Tensor | None = None
        if bool(self.begin.any()):
            before = columns < self.begin[:, None, None]
            self.hidden = torch.zeros(before.shape, device=device).masked_fill_(before, -torch.inf)
        self.slot = torch.arange(len(rows), device=device)
        self.limit = torch.tensor([row.limit for row in rows], device=device)
        noise = uniforms([row.seed for row in rows], [row.sample for row in rows], self.steps)
        self.noise = torch.from_numpy(noise).to(device)
        self.ends = torch.zeros(logits.shape[-1], dtype=torch.bool, device=device)
        if not sampling.ignore_eos:
            self.ends[[token for token in engine.eos_ids if token < len(self.ends)]] = True
        self.stops = engine.stop_strings(sampling.stop)
        shape = (self.steps, len(rows))
        self.ids = torch.zeros(shape, dtype=torch.int64, device=device)
        self.logp = torch.zeros(shape, device=device)
        self.nats = torch.zeros(shape, device=device) if engine.entropy else None
        self.length = np.zeros(len(rows), dtype=np.int64)
        self.reason = ["length"] * len(rows)
        self.handles: list[Handle | None] = [None] * len(rows)

    def run(self) -> list[Completion]:
        """Sample until every row has ended."""
        logits = self.logits
        for step in range(self.steps):
            tokens = self._sample(logits, step)
            tokens = self._leave(tokens, step)
            if not len(self.slot):
                break
            column = self.width + step
            logits = self.engine.model.step(tokens, column - self.begin, column, self.hidden, self.cache)
        self.engine.meter.decoded += int(self.length.sum())
        return [self._completion(row) for row in range(len(self.rows))]

    def _sample(self, logits: Tensor, step: int) -> Tensor:
        distribution = log_distribution(logits, self.sampling)
        if self.sampling.temperature == 0:
            tokens = distribution.argmax(-1)
        else:
            tokens = draw(distribution, self.noise[self.slot, step])
        self.ids[step, self.slot] = tokens
        self.logp[step, self.slot] = distribution.gather(1, tokens[:, None])[:, 0]
        if self.nats is not None:
            self.nats[step, self.slot] = entropy_of(distribution)
        return tokens

    def _leave(self, tokens: Tensor, step: int) -> Tensor:
        """Take out the rows that end with this token. Returns the tokens of those that go on."""
        ended = self.ends[tokens]
        stopped = torch.zeros_like(ended)
        if self.stops is not None:
            answers = self.ids[: step + 1].t()[self.slot].cpu().numpy()
            found = self.stops.hits(tokens, answers, np.full(len(answers), step + 1))
            stopped = torch.from_numpy(found).to(ended.device)
        finished = ended | stopped | (self.limit <= step + 1)
        if not bool(finished.any()):
            return tokens
        for row in torch.nonzero(finished).flatten().tolist():
            slot = int(self.slot[row])
            self.length[slot] = step + 1
            self.reason[slot] = "eos" if ended[row] else "stop" if stopped[row] else "length"
            if self.engine.keep_prefixes:
                written = (*self.rows[slot].prompt.tokens, *self.ids[: step + 1, slot].tolist())
                begin = int(self.begin[row])
                self.handles[slot] = self.engine.keep(written, self.cache, row, begin, self.width + step)
        left = int((~finished).sum())
        holes = torch.nonzero(finished[:left]).flatten()
        movers = left + torch.nonzero(~finished[left:]).flatten()
        if len(movers):
            self.cache.move_rows(movers, holes, self.width + step)
            for tensor in (tokens, self.slot, self.begin, self.limit, self.hidden):
                if tensor is not None:
                    tensor[holes] = tensor[movers]
        self.slot, self.begin, self.limit = self.slot[:left], self.begin[:left], self.limit[:left]
        self.hidden = None if self.hidden is None else self.hidden[:left]
        return tokens[:left]

    def _completion(self, row: int) -> Completion:
        end = int(self.length[row])
        return Completion(
            ids=self.ids[:end, row].cpu().numpy().copy(),
            logp=self.logp[:end, row].cpu().numpy().copy(),
            stop=self.reason[row],  # type: ignore[arg-type]
            version=self.engine.version,
            entropy=None if self.nats is None else self.nats[:end, row].cpu().numpy().copy(),
            handle=self.handles[row],
        )
