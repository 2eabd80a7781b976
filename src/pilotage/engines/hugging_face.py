"""The reference engine: any causal LM of transformers, its stock forward pass and growing cache.

It draws from the same noise as our decoder, so that the same seeds give the same tokens, near-ties aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.engines.noise import check_distribution, draw, entropy_of, log_distribution, uniforms
from pilotage.engines.stopping import StopStrings, check_request, end_ids
from pilotage.types import Completion, Meter, Request, Sampling


@dataclass(frozen=True)
class _Row:
    """One answer to sample."""

    request: int
    sample: int
    seed: int
    ids: list[int]
    limit: int


class TransformersEngine:
    """Engine that samples with a copy of the model, whose weights arrive by `load`.

    Every prompt is computed with each of its answers, and finished rows stay in the batch until the last one ends.

    Args:
        model: a Hugging Face causal LM; its weights are copied.
        tokenizer: for end-of-sequence and beginning-of-sequence ids and stop strings; None if there are none.
        weights: (name, tensor) pairs to use instead of the model's own, such as merged adapters.
        max_rows: most answers that are sampled at a time.
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
        from transformers import AutoModelForCausalLM

        self.tokenizer = tokenizer
        self.eos_ids = end_ids(model, tokenizer)
        self.bos_id = getattr(tokenizer, "bos_token_id", None)
        self.context = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
        self.max_rows = max_rows
        self.meter = Meter()
        self.version = 0
        self.device = next(iter(model.parameters())).device
        # A new model draws initial weights, which `load` overwrites; the caller's generator must not notice.
        with torch.random.fork_rng(devices=[]):
            own = AutoModelForCausalLM.from_config(model.config, dtype=next(iter(model.parameters())).dtype)
        self.model = own.to(self.device).eval().requires_grad_(False)
        self.load(0, model.named_parameters() if weights is None else weights)

    def load(self, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy new weights under their Hugging Face names. Raises UsageError when some are missing or unknown."""
        every = dict(self.model.named_parameters(remove_duplicate=False))
        given = set()
        with torch.no_grad():
            for name, tensor in named_tensors:
                if name not in every:
                    raise UsageError(f"the {self.model.config.model_type} model has no weight {name!r}")
                every[name].copy_(tensor)
                given.add(id(every[name]))
        missing = [name for name, parameter in every.items() if id(parameter) not in given]
        if missing:
            raise UsageError(f"{len(missing)} weights are missing, such as {missing[0]}; hand over all of them")
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
        answers: list[list[Completion]] = [[] for _ in requests]
        for start in range(0, len(rows), self.max_rows):
            wave = rows[start : start + self.max_rows]
            for row, completion in zip(wave, self._wave(wave, sampling), strict=True):
                answers[row.request].append(completion)
        return answers

    def _wave(self, rows: Sequence[_Row], sampling: Sampling) -> list[Completion]:
        """Sample some answers together, until the last one ends."""
        steps = max(row.limit for row in rows)
        noise = torch.from_numpy(uniforms([row.seed for row in rows], [row.sample for row in rows], steps))
        noise, limits = noise.to(self.device), np.array([row.limit for row in rows])
        tokens, seen = self._left_padded([row.ids for row in rows])
        self.meter.prefilled += int(seen.sum())
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        written = np.zeros((len(rows), steps), dtype=np.int64)
        logp, nats = np.zeros((2, len(rows), steps), dtype=np.float32)
        length, reason = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), "length")
        stops = self._stop_strings(sampling.stop)
        cache: Any = None
        for step in range(steps):
            output = self.model(
                input_ids=tokens, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
            )
            cache = output.past_key_values
            distribution = log_distribution(output.logits[:, -1].float(), sampling)
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
            tokens, positions = chosen[:, None], positions[:, -1:] + 1
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
        self.meter.decoded += int(length.sum())
        return [
            Completion(written[r, :end].copy(), logp[r, :end].copy(), str(why), self.version, nats[r, :end].copy())  # type: ignore[arg-type]
            for r, (end, why) in enumerate(zip(length.tolist(), reason, strict=True))
        ]

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return prompts [rows, width] int64, padded on the left with 0, and their mask."""
        width = max(len(prompt) for prompt in prompts)
        ids, mask = np.zeros((2, len(prompts), width), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _stop_strings(self, stops: tuple[str, ...]) -> StopStrings | None:
        if not stops:
            return None
        if self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer; give the engine one, or leave them out")
        return StopStrings(stops, self.tokenizer.decode, self.model.config.vocab_size)
