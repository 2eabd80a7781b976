"""Noise from counters, for millions of agents: a uniform number is a hash of (seed, step, purpose, agent, other agent).

No generator has a state. An agent's draws depend neither on who else is drawn for nor in which order, so that shards
and permutations change nothing and two scenarios under one seed share all the noise that both use.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from pilotage.random.counters import GOLDEN, MASK, splitmix64

BITS = 24
"""Bits of a uniform number: what float32 holds exactly in [0, 1)."""
_RANGE = 1 << BITS


def _signed(word: int) -> int:
    """Return the int32 with the same 32 bits."""
    return ((word & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


_FIRST, _SECOND, _ODD = 0x7FEB352D, _signed(0x846CA68B), _signed(0x9E3779B1)


def _mix(words: Tensor) -> Tensor:
    """Apply a bijection of 32 bits in place on int32 (Wellons, «Prospecting for hash functions», 2018)."""
    if words.device.type == "cpu":
        # numpy has shifts without sign, in place, at a fifth of the time; the bits are the same.
        bits = words.numpy().view(np.uint32)
        bits ^= bits >> 16
        bits *= np.uint32(_FIRST)
        bits ^= bits >> 15
        bits *= np.uint32(_SECOND & 0xFFFFFFFF)
        bits ^= bits >> 16
        return words
    words ^= (words >> 16) & 0xFFFF
    words *= _FIRST
    words ^= (words >> 15) & 0x1FFFF
    words *= _SECOND
    words ^= (words >> 16) & 0xFFFF
    return words


class Noise:
    """Noise of one step; `step` is a day, a month, or -1 before the first."""

    def __init__(self, seed: int, step: int) -> None:
        self.seed, self.step = seed, step

    def at(self, step: int) -> Noise:
        """Return the noise of another step under the same seed."""
        return Noise(self.seed, step)

    def integer(self, purpose: str, index: int = 0) -> int:
        """Return one number in [0, 2^64) for the whole step."""
        word = splitmix64((self.seed * GOLDEN + 1) & MASK)
        for part in (self.step, zlib.crc32(purpose.encode()), index):
            word = splitmix64((word ^ (part & MASK)) + GOLDEN & MASK)
        return word

    def random_bits(self, purpose: str, agents: Tensor, others: Tensor | None = None, *, index: int = 0) -> Tensor:
        """Return 24 random bits per row: int32 in [0, 2^24), [rows].

        Args:
            purpose: name of the draw.
            agents: ids below 2^31 [rows].
            others: ids of partners [rows]; (a, b) and (b, a) differ. None: no partners.
            index: index of the draw within the purpose.
        """
        key = self.integer(purpose, index)
        low, high = _signed(key), _signed(key >> 32)
        words = _mix((agents.to(torch.int32) + low) * _ODD)
        words ^= high
        if others is not None:
            words += others.to(torch.int32)
        return (_mix(words) >> (32 - BITS)) & (_RANGE - 1)

    def uniforms(self, purpose: str, agents: Tensor, others: Tensor | None = None, *, index: int = 0) -> Tensor:
        """Return float32 in [0, 1), 0 included, [rows]; arguments as for `random_bits`."""
        return self.random_bits(purpose, agents, others, index=index).to(torch.float32) * (1.0 / _RANGE)


def thresholds(probability: Tensor) -> Tensor:
    """Return int32 T with P(random bits < T) = probability, rounded up to 2^-24; 0 and 1 are exact."""
    return (probability.detach().double().clamp(0, 1) * _RANGE).ceil().to(torch.int32)
