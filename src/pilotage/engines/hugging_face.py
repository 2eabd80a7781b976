"""The reference engine: any causal LM of transformers, its stock forward pass and growing cache.

How a model remembers what it has read is tried on two short texts when the engine is made: prompts of different lengths
side by side where padding on the left changes nothing, prompts of one length where it does, and the whole text again
for each token where what the model remembers cannot be handed back to it. Noise is that of our decoder: the same seeds
give the same tokens, near-ties aside.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.engines.noise import agreement, check_distribution, draw, entropy_of, log_distribution, uniforms
from pilotage.engines.stopping import StopStrings, check_request, context_length, end_ids
from pilotage.types import Completion, Meter, Request, Sampling

Memory = Literal["padded", "aligned", "whole"]
"""How texts are read: of different lengths side by side, with what the model remembers; of one length; all of the text
again for each token. Fastest first."""
STATES = ("past_key_values", "cache_params", "state")
"""Names under which forward passes return, and take, what they remember: attention, state spaces, RWKV."""


@dataclass(frozen=True)
class _Row:
    """One answer to sample."""

    request: int
    sample: int
    seed: int
    ids: list[int]
    limit: int


def empty_model(config: Any, dtype: torch.dtype) -> Any:
    """Return a model of this configuration whose weights are about to be overwritten.

    The configuration is copied, and the global generator, from which initial weights are drawn, is left as it was.
    """
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)


def load_weights(model: Any, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Copy all weights of a model, under their Hugging Face names.

    Weights that the model ties are given once, or each under its own name: then they are tied no longer. Raises
    UsageError when some are missing or unknown.
    """
    every = dict(model.named_parameters(remove_duplicate=False))
    given: set[int] = set()
    with torch.no_grad():
        for name, tensor in named_tensors:
            if name not in every:
                raise UsageError(f"the {model.config.model_type} model has no weight {name!r}")
            if id(every[name]) in given:
                every[name] = _untied(model, name)
            every[name].copy_(tensor)
            given.add(id(every[name]))
    missing = [name for name, parameter in every.items() if id(parameter) not in given]
    if missing:
        raise UsageError(f"{len(missing)} weights are missing, such as {missing[0]}; hand over all of them")


def _untied(model: Any, name: str) -> torch.nn.Parameter:
    """Replace a tied weight of a model by a copy of its own, and return it."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    shared = getattr(module, leaf)
    setattr(module, leaf, torch.nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad))
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    return getattr(module, leaf)


class TransformersEngine:
    """Engine that samples with a copy of the model, whose weights arrive by `load`.

    Every prompt is computed with each of its answers, and finished rows stay in the batch until the last one ends.

    Args:
        model: a Hugging Face causal LM; its weights are copied.
        tokenizer: for end-of-sequence and beginning-of-sequence ids and stop strings; None if there are none.
        weights: (name, tensor) pairs to use instead of the model's own, such as merged adapters.
        max_rows: most answers that are sampled at a time.

    Raises:
        UsageError: the model's forward pass does not run on a text alone.
    """

    capabilities = frozenset({"entropy", "deterministic"})

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        weights: Iterable[tuple[str, Tensor]] | None = None,
        max_rows: int = 256,
    ) -> None:
        self.tokenizer = tokenizer
        self.eos_ids = end_ids(model, tokenizer)
        self.bos_id = getattr(tokenizer, "bos_token_id", None)
        self.context = context_length(model.config)
        self.max_rows = max_rows
        self.meter = Meter()
        self.version = 0
        self.device = next(iter(model.parameters())).device
        own = empty_model(model.config, next(iter(model.parameters())).dtype)
        self.model = own.to(self.device).eval().requires_grad_(False)
        self.inputs = frozenset(inspect.signature(own.forward).parameters)
        self.load(0, model.named_parameters() if weights is None else weights)
        self.memory = self._find_memory()
        self.meter = Meter()

    def load(self, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy new weights under their Hugging Face names. Raises UsageError when some are missing or unknown."""
        load_weights(self.model, named_tensors)
        self.version = version

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Return for each request its `n` completions, in order.

        Raises UsageError for a prompt that is empty or fills the context, a parent handle (this engine keeps none), and
        sampling settings out of range.
        """
        check_distribution(sampling)
        if any(request.parent is not None for request in requests):
            raise UsageError(
                "the transformers engine keeps no prefixes; give the whole text, or take the decoder engine"
            )
        rows = []
        for index, request in enumerate(requests):
            ids, limit = check_request(request, self.context, self.bos_id)
            rows += [_Row(index, sample, request.seed, ids, limit) for sample in range(request.n)]
        answers: list[dict[int, Completion]] = [{} for _ in requests]
        for wave in self._waves(rows):
            for row, completion in zip(wave, self._wave(wave, sampling), strict=True):
                answers[row.request][row.sample] = completion
        return [[found[sample] for sample in range(len(found))] for found in answers]

    def _waves(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Yield the rows that are sampled together."""
        if self.memory != "padded":
            rows = sorted(rows, key=lambda row: len(row.ids))
        for _, alike in groupby(rows, lambda row: 0 if self.memory == "padded" else len(row.ids)):
            part = list(alike)
            yield from (part[start : start + self.max_rows] for start in range(0, len(part), self.max_rows))

    def _find_memory(self) -> Memory:
        """Return the fastest way of sampling that gives the log-probabilities of the plain forward pass.

        Raises UsageError when there is none.
        """
        texts = [[5, 4, 3], [6, 3, 5, 4, 6, 5, 3]]
        vocabulary = self.model.config.get_text_config().vocab_size
        requests = [Request([token % vocabulary for token in text], 3, n=2) for text in texts]
        tolerance = agreement(self.model.dtype)
        failure = ""
        for self.memory in get_args(Memory):
            try:
                answers = self.generate(requests, Sampling(ignore_eos=True))
                gaps = [self._gap(r, c) for r, completions in zip(requests, answers, strict=True) for c in completions]
            except Exception as error:  # what a foreign forward pass raises when it is called as another one
                failure = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            if max(gaps) <= tolerance:
                return self.memory
            failure = f"log-probabilities differ by {max(gaps):.3g} nats from those of the plain forward pass"
        raise UsageError(
            f"the {self.model.config.model_type} model cannot be sampled from ({failure}); expected a causal language "
            "model whose forward pass takes input_ids alone"
        )

    def _gap(self, request: Request, completion: Completion) -> float:
        """Return the mean difference of log-probabilities between an answer as sampled and the plain forward pass."""
        whole = torch.tensor([[*request.ids, *completion.ids]], device=self.device)
        logits = self.model(input_ids=whole, use_cache=False).logits[0, len(request.ids) - 1 : -1].float()
        logp = torch.log_softmax(logits, -1).gather(1, whole[0, len(request.ids) :, None])[:, 0]
        return float((logp - torch.from_numpy(completion.logp).to(logp)).abs().mean())

    def _wave(self, rows: Sequence[_Row], sampling: Sampling) -> list[Completion]:
        """Sample some answers together, until the last one ends."""
        steps = max(row.limit for row in rows)
        noise = torch.from_numpy(uniforms([row.seed for row in rows], [row.sample for row in rows], steps))
        noise, limits = noise.to(self.device), np.array([row.limit for row in rows])
        text = _Text(self, [row.ids for row in rows])
        self.meter.prefilled += sum(len(row.ids) for row in rows)
        written = np.zeros((len(rows), steps), dtype=np.int64)
        logp, nats = np.zeros((2, len(rows), steps), dtype=np.float32)
        length, reason = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), "length")
        stops = self._stop_strings(sampling.stop)
        for step in range(steps):
            distribution = log_distribution(text.logits().float(), sampling)
            greedy = sampling.temperature == 0
            chosen = distribution.argmax(-1) if greedy else draw(distribution, noise[:, step])
            written[:, step] = chosen.cpu().numpy()
            logp[:, step] = distribution.gather(1, chosen[:, None])[:, 0].cpu().numpy()
            nats[:, step] = entropy_of(distribution).cpu().numpy()
            alive = length == 0
            self.meter.thrown_away += int((~alive).sum())
            ended = np.isin(written[:, step], () if sampling.ignore_eos else self.eos_ids)
            stopped = np.zeros_like(ended)
            if stops is not None:
                stopped = stops.hits(chosen, written, np.full(len(rows), step + 1))
            reason[alive & stopped], reason[alive & ended] = "stop", "eos"
            length[alive & (ended | stopped | (limits <= step + 1))] = step + 1
            if (length > 0).all():
                break
            text.append(chosen)
        self.meter.decoded += int(length.sum())
        return [
            Completion(written[r, :end].copy(), logp[r, :end].copy(), str(why), self.version, nats[r, :end].copy())  # type: ignore[arg-type]
            for r, (end, why) in enumerate(zip(length.tolist(), reason, strict=True))
        ]

    def _stop_strings(self, stops: tuple[str, ...]) -> StopStrings | None:
        if not stops:
            return None
        if self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer; give the engine one, or leave them out")
        return StopStrings(stops, self.tokenizer.decode, self.model.config.get_text_config().vocab_size)


class _Text:
    """Texts that grow by a token at a time, and what the model remembers of them."""

    def __init__(self, engine: TransformersEngine, prompts: Sequence[Sequence[int]]) -> None:
        self.engine = engine
        width = max(len(prompt) for prompt in prompts)
        ids, mask = np.zeros((2, len(prompts), width), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        # Padded on the left with 0; `tokens` are those that the model has not read.
        self.tokens, self.seen = torch.from_numpy(ids).to(engine.device), torch.from_numpy(mask).to(engine.device)
        self.positions = (self.seen.cumsum(1) - 1).clamp(min=0)
        self.states: dict[str, Any] = {}

    def logits(self) -> Tensor:
        """Return the logits [rows, vocabulary] after the last token."""
        given: dict[str, Any] = {"input_ids": self.tokens, "use_cache": self.engine.memory != "whole", **self.states}
        if self.engine.memory == "padded":
            given |= {"attention_mask": self.seen, "position_ids": self.positions}
        if "position_ids" not in self.engine.inputs:
            given.pop("position_ids", None)
        output = self.engine.model(**given)
        if self.engine.memory != "whole":
            kept = [name for name in STATES if name in self.engine.inputs and getattr(output, name, None) is not None]
            if not kept:
                raise UsageError("the model returns nothing that it remembers")
            self.states = {name: getattr(output, name) for name in kept}
        return output.logits[:, -1]

    def append(self, chosen: Tensor) -> None:
        """Add one token to each text."""
        fresh = chosen[:, None]
        self.tokens = torch.cat([self.tokens, fresh], 1) if self.engine.memory == "whole" else fresh
        self.positions = self.positions[:, -1:] + 1
        self.seen = torch.cat([self.seen, torch.ones_like(self.seen[:, :1])], 1)
