"""Noise from counters, and tokens from noise.

A uniform number is a hash of (request seed, index of the answer, position in the answer). No generator has a state, so
batching, order and rows that leave change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.random.counters import GOLDEN, splitmix64
from pilotage.types import Sampling

_GOLDEN, _STEP = np.uint64(GOLDEN), np.uint64(0x94D049BB133111EB)
_BITS = 40
"""Bits of a uniform number: fine enough for any vocabulary, and u·Σp stays below Σp in float64."""


def _keys(seeds: Sequence[int], samples: Sequence[int]) -> np.ndarray:
    """Return [rows] uint64, one number for each (request seed, index of the answer)."""
    with np.errstate(over="ignore"):
        key = splitmix64(np.array([seed % 2**64 for seed in seeds], dtype=np.uint64) + _GOLDEN)
        return splitmix64(key ^ splitmix64(np.asarray(samples, dtype=np.uint64) * _GOLDEN + _STEP))


def sample_seed(seed: int, sample: int) -> int:
    """Return a seed in [0, 2^63) for one answer of a request, for engines that draw their own noise."""
    return int(_keys([seed], [sample])[0] >> np.uint64(1))


def uniforms(seeds: Sequence[int], samples: Sequence[int], count: int, start: int = 0) -> np.ndarray:
    """Return uniform numbers in (0, 1) for positions `start`...`start + count - 1` of each answer.

    Args:
        seeds: [rows] seed of the request; any integer, taken modulo 2^64.
        samples: [rows] index of the answer within its request.
        count: positions wanted.
        start: first position.

    Returns:
        [rows, count] float64.
    """
    with np.errstate(over="ignore"):
        counters = np.arange(start + 1, start + count + 1, dtype=np.uint64) * _GOLDEN
        words = splitmix64(_keys(seeds, samples)[:, None] + counters)
    return ((words >> np.uint64(64 - _BITS)).astype(np.float64) + 0.5) * 2.0**-_BITS


def check_distribution(sampling: Sampling) -> None:
    """Raise UsageError for a temperature below 0, top_p outside (0, 1] or a negative top_k."""
    if not sampling.temperature >= 0:
        raise UsageError(f"temperature must be 0 (greedy) or more, {sampling.temperature} was given")
    if not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1, {sampling.top_p} was given")
    if sampling.top_k < 0:
        raise UsageError(f"top_k must be 0 (off) or more, {sampling.top_k} was given")


def log_distribution(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return log-probabilities [rows, vocabulary] of the distribution that tokens are drawn from.

    Temperature first, then the `top_k` likeliest, then the smallest set of likeliest tokens whose probability reaches
    `top_p`; what is cut has -inf and the rest sums to 1. At temperature 0 all is on the likeliest token (the first of
    equals).
    """
    if sampling.temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter_(-1, best, 0.0)
    scaled = logits if sampling.temperature == 1 else logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = scaled.topk(sampling.top_k, -1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = scaled.sort(-1, descending=True)
        probability = torch.softmax(ordered, -1, dtype=torch.float64)
        reached_before = probability.cumsum(-1) - probability
        cut = torch.zeros_like(scaled, dtype=torch.bool).scatter_(-1, order, reached_before >= sampling.top_p)
        scaled = scaled.masked_fill(cut, -torch.inf)
    return torch.log_softmax(scaled, -1)


def draw(log_probability: Tensor, noise: Tensor) -> Tensor:
    """Return the token [rows] int64 at which the cumulative probability passes `noise` [rows] float64 in (0, 1).

    A token of probability 0 is never drawn.
    """
    cumulative = log_probability.exp().cumsum(-1, dtype=torch.float64)
    return (cumulative <= noise[:, None] * cumulative[:, -1:]).sum(-1)


def entropy_of(log_probability: Tensor) -> Tensor:
    """Return the entropy [rows] in nats; tokens that are cut (-inf) add nothing."""
    probability = log_probability.exp()
    return -(probability * log_probability.clamp(min=-1e30)).sum(-1)


def agreement(dtype: torch.dtype) -> float:
    """Return the mean difference of two log-probabilities, in nats a token, up to which they are the same number."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.05
