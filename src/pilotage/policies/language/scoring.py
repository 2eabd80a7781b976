"""Log-probabilities of sampled answers under a causal LM, in length-sorted micro-batches of the stock forward pass.

Each row stands in its micro-batch without padding on the left: prompt, answer, then padding. Causal attention never
looks right, so no mask is needed, the fast attention kernel runs, and what stands in padding cannot matter.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.engines.noise import agreement
from pilotage.types import Rollouts, Sampling

SHARE_FROM = 48
"""Prompt tokens from which computing a prompt once for its group is faster than computing it with each answer."""


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of a batch of roll-outs, ready for one forward and backward pass."""

    rows: Tensor
    """[m] int64, indices into the roll-outs, longest answer last."""
    width: int
    """Tokens of the longest answer, at least 1; `column[rows, :width]` is the part of a column that belongs here."""
    prompt_ids: Tensor
    """[m, p] int64, right-padded with 0; [u, p] for the different prompts when they are shared."""
    prompt_length: Tensor
    """[m] (or [u]) int64."""
    ids: Tensor
    """[m, width] int64, 0 where masked."""
    length: Tensor
    """[m] int64, number of positions up to and including the last token that the policy wrote."""
    owner: Tensor | None = None
    """[m] int64, position in `prompt_ids` of each row's prompt; None when every row brings its own."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Return the number of positions that the forward pass works through, padding included."""
        if self.owner is None:
            return len(self) * int((self.prompt_length + self.length).max())
        return self.prompt_ids.numel() + len(self) * self.width


@dataclass(frozen=True)
class Scored:
    """`logp` [n, T] float32, log-probability of each sampled token at the sampling temperature, 0 where masked;
    `entropy` [n, T] float32 in nats, 0 where masked, or None.
    """

    logp: Tensor
    entropy: Tensor | None


@dataclass(frozen=True)
class SamplerGap:
    """Distance of the sampler's log-probabilities from the trainer's on the same tokens, in nats per token."""

    mean: float
    """Mean absolute difference."""
    largest: float
    """Largest absolute difference."""

    def alarming(self, limit: float) -> bool:
        """Return whether the mean is over `limit`, or not a number: the sampler runs on other weights."""
        return not self.mean <= limit


def sampler_gap(logp_sampled: Tensor, logp: Tensor, mask: Tensor) -> SamplerGap:
    """Return the gap between `logp_sampled` and `logp`, both [n, T], over the tokens of `mask` [n, T]; 0 without
    tokens.
    """
    difference = (logp_sampled - logp)[mask].abs()
    if not difference.numel():
        return SamplerGap(0.0, 0.0)
    return SamplerGap(float(difference.mean()), float(difference.max()))


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings under which the trainer could not recompute the distribution sampled from.

    Raises UsageError for temperature 0, top-p below 1 and top-k.
    """
    if not 0 < sampling.temperature < float("inf"):
        raise UsageError(
            f"training needs a finite temperature above 0, {sampling.temperature} was given; "
            "greedy answers have no gradient"
        )
    if sampling.top_p < 1 or sampling.top_k > 0:
        raise UsageError(
            f"top_p={sampling.top_p} and top_k={sampling.top_k} cut the distribution that answers are drawn from, and "
            "importance ratios against the whole distribution would be wrong; train with top_p=1 and top_k=0"
        )


def microbatches(
    rollouts: Rollouts,
    rows: Tensor | None = None,
    *,
    tokens_per_batch: int = 4096,
    share_prompt: bool | None = None,
) -> list[MicroBatch]:
    """Cut rows of a batch into micro-batches of about equal cost, each of rows of similar length.

    Args:
        rollouts: the batch.
        rows: [n] int64 indices; all rows by default.
        tokens_per_batch: positions of a micro-batch, padding included; a single longer row is a micro-batch.
        share_prompt: whether a prompt is computed once for all rows that have it; by default where prompts have at
            least `SHARE_FROM` tokens and some are repeated.

    Raises UsageError for a row without a prompt token.
    """
    chosen = torch.arange(len(rollouts)) if rows is None else rows
    if not len(chosen):
        return []
    prompt_length = rollouts.prompt_mask[chosen].sum(-1)
    if bool((prompt_length == 0).any()):
        row = int(chosen[prompt_length == 0][0])
        raise UsageError(f"row {row} has an empty prompt; a causal model needs at least one token, such as BOS")
    mask = rollouts.mask[chosen]
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    length = (mask * positions).amax(-1) if mask.shape[1] else torch.zeros_like(prompt_length)
    prompt = _prompt_numbers(rollouts, chosen)
    if share_prompt is None:
        repeated = int(prompt.max()) + 1 < len(chosen)
        share_prompt = repeated and float(prompt_length.float().mean()) >= SHARE_FROM
    if not share_prompt:
        cuts = _cut_rows(prompt_length, length, tokens_per_batch)
        return [_microbatch(rollouts, chosen[cut], prompt_length[cut], length[cut], None) for cut in cuts]
    cuts = _cut_groups(prompt, prompt_length, length, tokens_per_batch)
    return [_microbatch(rollouts, chosen[cut], prompt_length[cut], length[cut], prompt[cut]) for cut in cuts]


def _prompt_numbers(rollouts: Rollouts, rows: Tensor) -> Tensor:
    """Return [n] int64, equal for rows with equal prompts: sharing goes by content, never by group."""
    prompts = rollouts.prompt_ids[rows].masked_fill(~rollouts.prompt_mask[rows], -1)
    return prompts.unique(dim=0, return_inverse=True)[1]


def _cut_rows(prompt_length: Tensor, length: Tensor, tokens_per_batch: int) -> list[Tensor]:
    """Return positions sorted by whole length, cut where the padded size would pass the limit."""
    total = prompt_length + length
    order = torch.argsort(total, stable=True)
    cuts, start = [], 0
    widths = total[order].tolist()
    for end, width in enumerate(widths):
        if end > start and (end - start + 1) * width > tokens_per_batch:
            cuts.append(order[start:end])
            start = end
    return [*cuts, order[start:]]


def _cut_groups(prompt: Tensor, prompt_length: Tensor, length: Tensor, tokens_per_batch: int) -> list[Tensor]:
    """Return all rows of a prompt together, sorted by lengths, cut before the limit is passed."""
    members = [torch.nonzero(prompt == number).flatten() for number in prompt.unique().tolist()]
    members = [part[torch.argsort(length[part], stable=True)] for part in members]
    members.sort(key=lambda part: (int(prompt_length[part[0]]), int(length[part[-1]])))
    cuts: list[Tensor] = []
    current: list[Tensor] = []
    for part in members:
        candidate = torch.cat([*current, part])
        size = (len(current) + 1) * int(prompt_length[candidate].max()) + len(candidate) * int(length[candidate].max())
        if current and size > tokens_per_batch:
            cuts.append(torch.cat(current))
            current = []
        current.append(part)
    return [*cuts, torch.cat(current)]


def _microbatch(
    rollouts: Rollouts, rows: Tensor, prompt_length: Tensor, length: Tensor, prompt: Tensor | None
) -> MicroBatch:
    width = max(1, int(length.max()))
    ids = rollouts.ids[rows, :width]
    inside = torch.arange(width, device=ids.device) < length[:, None]
    ids = ids.masked_fill(~inside, 0)
    owner = None
    prompt_rows = rows
    if prompt is not None:
        owner = prompt.unique(return_inverse=True)[1]
        first = torch.full((int(owner.max()) + 1,), len(rows), device=owner.device)
        first.scatter_reduce_(0, owner, torch.arange(len(rows), device=owner.device), "amin")
        prompt_rows, prompt_length = rows[first], prompt_length[first]
    longest = int(prompt_length.max())
    mask = rollouts.prompt_mask[prompt_rows]
    # Stable sort by "is padding" moves the tokens to the front and keeps their order, whatever side the padding was on.
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[:, :longest]
    prompt_ids = rollouts.prompt_ids[prompt_rows].masked_fill(~mask, 0).gather(1, order)
    return MicroBatch(rows, width, prompt_ids, prompt_length, ids, length, owner)


def logprobs(
    model: Any, batch: MicroBatch, *, temperature: float = 1.0, entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the log-probability, at `temperature`, of every sampled token of a micro-batch, with gradient.

    Args:
        model: a Hugging Face causal LM.
        batch: from `microbatches`.
        temperature: of the sampling, above 0.
        entropy: whether the entropy of the distribution is wanted, too.

    Returns:
        (logp [m, width], entropy [m, width] in nats or None); finite but meaningless beyond a row's length.
    """
    if batch.owner is not None:
        return _logprobs_shared(model, batch, temperature, entropy)
    sequence, places = _sequences(batch)
    start = int(batch.prompt_length.min()) - 1
    kept = torch.arange(start, sequence.shape[1] - 1, device=sequence.device)
    logits = _logits(model, kept, input_ids=sequence[:, :-1])
    logp, nats = _token_logprobs(logits, sequence[:, start + 1 :], temperature, entropy)
    places = (places - 1 - start).clamp(max=logp.shape[1] - 1)
    return logp.gather(1, places), None if nats is None else nats.gather(1, places)


def _sequences(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Return (ids [m, l], places [m, width]): prompt and answer in one row, and where each answer token stands."""
    rows, shift = torch.arange(len(batch), device=batch.ids.device)[:, None], torch.arange(batch.width)
    shift = shift.to(batch.ids.device)
    longest = int((batch.prompt_length + batch.length).max())
    sequence = torch.zeros((len(batch), max(longest, batch.prompt_ids.shape[1] + 1)), dtype=torch.long).to(batch.ids)
    sequence[:, : batch.prompt_ids.shape[1]] = batch.prompt_ids
    places = batch.prompt_length[:, None] + shift
    inside = shift < batch.length[:, None]
    sequence[rows.expand_as(places)[inside], places[inside]] = batch.ids[inside]
    return sequence, places


def hidden_states(body: Any, batch: MicroBatch) -> Tensor:
    """Return the body's last hidden states before each answer token, for heads such as a critic's: [m, width, hidden].

    body: the Hugging Face model without its language head; batch: from `microbatches` with share_prompt=False.
    Finite but meaningless beyond a row's length.
    """
    if batch.owner is not None:
        raise ValueError("hidden_states needs micro-batches cut with share_prompt=False")
    sequence, places = _sequences(batch)
    states = body(input_ids=sequence[:, :-1], use_cache=False).last_hidden_state
    before = (places - 1).clamp(max=states.shape[1] - 1)
    return states.gather(1, before[..., None].expand(-1, -1, states.shape[-1]))


def _logprobs_shared(model: Any, batch: MicroBatch, temperature: float, entropy: bool) -> tuple[Tensor, Tensor | None]:
    """Compute the prompt of a group once and repeat its keys and values for the answers, with gradient."""
    from transformers.cache_utils import DynamicCache

    assert batch.owner is not None
    device = batch.ids.device
    # Here the prompt's padding would stand between prompt and answer, so it goes to the left and is masked.
    longest = batch.prompt_ids.shape[1]
    column = torch.arange(longest, device=device) - (longest - batch.prompt_length[:, None])
    prompt = batch.prompt_ids.gather(1, column.clamp(min=0)).masked_fill(column < 0, 0)
    padded = bool((column < 0).any())
    cache = DynamicCache(config=model.config)
    first = _logits(
        model,
        torch.tensor([longest - 1], device=device),
        input_ids=prompt,
        attention_mask=(column >= 0).long() if padded else None,
        position_ids=column.clamp(min=0) if padded else None,
        past_key_values=cache,
        use_cache=True,
    )
    logits = first[batch.owner]
    if batch.width > 1:
        cache.batch_select_indices(batch.owner)
        answer = batch.ids[:, :-1]
        known = (column >= 0)[batch.owner]
        rest = _logits(
            model,
            torch.arange(batch.width - 1, device=device),
            input_ids=answer,
            attention_mask=torch.cat([known, torch.ones_like(answer, dtype=torch.bool)], 1).long() if padded else None,
            position_ids=batch.prompt_length[batch.owner][:, None] + torch.arange(batch.width - 1, device=device),
            past_key_values=cache,
            use_cache=True,
        )
        logits = torch.cat([logits, rest], 1)
    return _token_logprobs(logits, batch.ids, temperature, entropy)


def _logits(model: Any, kept: Tensor, **inputs: Any) -> Tensor:
    """Return logits [m, len(kept), vocabulary] at the positions `kept`; the head runs on these alone where it can."""
    inputs = {name: value for name, value in inputs.items() if value is not None}
    inputs.setdefault("use_cache", False)
    if "logits_to_keep" in inspect.signature(_inner(model).forward).parameters:
        return model(**inputs, logits_to_keep=kept).logits
    return model(**inputs).logits[:, kept]


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


_SHARES: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""Models that were tried, and whether they can share prompts."""


@torch.no_grad()
def can_share_prompts(model: Any) -> bool:
    """Return whether prompts may be computed once for all their answers; each model is tried once, on two short ones.

    That takes a cache of keys and values, which can be repeated. Recurrent and hybrid models keep states instead, and
    each of their answers is computed with its prompt.
    """
    if model not in _SHARES:
        _SHARES[model] = _share_alike(model)
    return _SHARES[model]


def _share_alike(model: Any) -> bool:
    """Return whether log-probabilities of short texts are the same with shared prompts as without."""
    device = next(iter(model.parameters())).device
    vocabulary = _inner(model).config.get_text_config().vocab_size
    texts = torch.tensor([[5, 3, 6, 4, 5, 3, 4, 6]]) % vocabulary
    prompt = texts[:, :5].repeat(4, 1)
    mask = torch.ones_like(prompt, dtype=torch.bool)
    mask[2:, :2] = False
    ids = torch.stack([texts[0, :3], texts[0, 3:6]]).repeat(2, 1)
    rows = torch.arange(4)
    texts_of = Rollouts(
        prompt_ids=prompt.to(device),
        prompt_mask=mask.to(device),
        ids=ids.to(device),
        mask=torch.ones_like(ids, dtype=torch.bool, device=device),
        group=rows // 2,
        item=rows // 2,
        stop=torch.zeros_like(rows),
        logp_sampled=torch.zeros(ids.shape),
    )
    alone = score(model, texts_of, share_prompt=False).logp
    try:
        shared = score(model, texts_of, share_prompt=True).logp
    except Exception:  # what a foreign forward pass raises when it is given another kind of cache
        return False
    return not sampler_gap(shared, alone, torch.ones_like(alone, dtype=torch.bool)).alarming(agreement(model.dtype))


def _token_logprobs(logits: Tensor, targets: Tensor, temperature: float, entropy: bool) -> tuple[Tensor, Tensor | None]:
    scaled = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if temperature != 1:
        scaled = scaled / temperature
    logp = torch.log_softmax(scaled, -1)
    chosen = logp.gather(-1, targets[..., None]).squeeze(-1)
    return chosen, -(logp.exp() * logp).sum(-1) if entropy else None


@torch.no_grad()
def score(
    model: Any,
    rollouts: Rollouts,
    rows: Sequence[int] | Tensor | None = None,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    tokens_per_batch: int = 4096,
    share_prompt: bool | None = None,
) -> Scored:
    """Return log-probabilities of whole roll-outs without gradient: `logp_old`, a reference's, or another model's.

    Args:
        model: a Hugging Face causal LM.
        rollouts: the batch of N rows and T tokens.
        rows: [n] indices; all rows by default.
        temperature: of the sampling, above 0.
        entropy: whether the entropy is wanted, too.
        tokens_per_batch: positions of a micro-batch.
        share_prompt: as in `microbatches`; by default only for models that can.

    Returns:
        Columns of n rows in the order of `rows`.
    """
    chosen = torch.arange(len(rollouts)) if rows is None else torch.as_tensor(rows, dtype=torch.long)
    part = rollouts if rows is None else rollouts.select(chosen)
    logp = torch.zeros(part.ids.shape, device=part.ids.device)
    nats = torch.zeros_like(logp) if entropy else None
    if share_prompt is None and not can_share_prompts(model):
        share_prompt = False
    for batch in microbatches(part, tokens_per_batch=tokens_per_batch, share_prompt=share_prompt):
        values, uncertainty = logprobs(model, batch, temperature=temperature, entropy=entropy)
        mask = part.mask[batch.rows, : batch.width]
        logp[batch.rows, : batch.width] = values.float().masked_fill(~mask, 0.0)
        if nats is not None and uncertainty is not None:
            nats[batch.rows, : batch.width] = uncertainty.float().masked_fill(~mask, 0.0)
    return Scored(logp, nats)
