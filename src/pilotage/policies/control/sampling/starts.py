"""Initialisers: where the sampling of a chunk begins. Rows are lanes; each has its own memory of the last chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.noise_paths import NoisePath
from pilotage.policies.control.sampling.sampling import InitialSample


class Initialiser(Protocol):
    """The interface. A row without a start is sampled from noise, in full."""

    @property
    def executed(self) -> int | None:
        """Actions between decisions that it was made for; None when that does not matter."""
        ...

    def reset(self, rows: Sequence[int]) -> None:
        """Forgets the last chunks of these rows."""
        ...

    def has_start(self, row: int) -> bool:
        """Return whether there is a start for the row."""
        ...

    def start(self, rows: Sequence[int], generator: Generators) -> InitialSample:
        """Return the start of rows that are all warm."""
        ...

    def keep(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Takes in what was sampled: [n, T, A]."""
        ...


@runtime_checkable
class ObservationAware(Protocol):
    """An initialiser that looks at what is about to be decided on, and may then give a start up."""

    def watch(self, rows: Sequence[int], observations: Mapping[str, Tensor]) -> None:
        """Normalised windows "state" [n, To, S] and others, before each decision of the rows."""
        ...


def shifted(chunk: Tensor, executed: int) -> Tensor:
    """Return the chunk without its first `executed` actions, the last one repeated: [B, T, A] -> [B, T, A]."""
    if not 0 <= executed < chunk.shape[1]:
        raise UsageError(f"{executed} executed actions of a chunk of {chunk.shape[1]} leave nothing to start from")
    return torch.cat([chunk[:, executed:], chunk[:, -1:].expand(-1, executed, -1)], 1)


class FreshStart:
    """Always from noise."""

    executed = None

    def reset(self, rows: Sequence[int]) -> None:
        """Nothing is remembered."""

    def has_start(self, row: int) -> bool:  # noqa: ARG002
        """Return whether the row has a start of its own."""
        return False

    def start(self, rows: Sequence[int], generator: Generators) -> InitialSample:  # noqa: ARG002
        """Return where sampling begins for these rows."""
        raise UsageError("a fresh start begins from noise; no row is warm")

    def keep(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Nothing is remembered."""


class ShiftedStart:
    """The last chunk, shifted by the `executed` actions, denoised over the short list `levels`: RTI-DP.

    No noise is added to it (arXiv 2508.05396); with a `renoise` path it is first noised to the first of `levels`, which
    is SDEdit (arXiv 2108.01073). Without levels the shifted chunk itself is the answer. `alter` may change the guess,
    such as for dimensions with two values only. `sampler` walks the levels instead of the head's own. A row's first
    decision, and the one after a reset, is in full.
    """

    def __init__(
        self,
        levels: Sequence[int] | Sequence[float],
        *,
        executed: int = 1,
        renoise: NoisePath | None = None,
        alter: Callable[[Tensor], Tensor] | None = None,
        sampler: str | None = None,
    ) -> None:
        if renoise is not None and not levels:
            raise UsageError("re-noising needs a first level; give levels")
        self.levels, self.executed, self.renoise, self.alter = list(levels), executed, renoise, alter
        self.sampler = sampler
        self._last: dict[int, Tensor] = {}

    def reset(self, rows: Sequence[int]) -> None:
        """Begin an episode."""
        for row in rows:
            self._last.pop(row, None)

    def has_start(self, row: int) -> bool:
        """Return whether the row has a start of its own."""
        return row in self._last

    def start(self, rows: Sequence[int], generator: Generators) -> InitialSample:
        """Return where sampling begins for these rows."""
        guess = shifted(torch.stack([self._last[row] for row in rows]), self.executed)
        if self.alter is not None:
            guess = self.alter(guess)
        if self.renoise is not None:
            level = torch.full((len(guess),), self.levels[0], device=guess.device)
            guess = self.renoise.mix(guess, normal(guess.shape, generator, like=guess), level)
        return InitialSample(guess, self.levels, self.sampler)

    def keep(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Remember the chunks that were decided."""
        self._last.update(zip(rows, chunks, strict=True))
