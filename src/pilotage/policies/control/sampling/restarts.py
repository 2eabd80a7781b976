"""When a warm start should be given up: the situation jumped, or the last guess was far off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators
from pilotage.objectives.noise_paths import NoisePath
from pilotage.policies.control.sampling.sampling import InitialSample
from pilotage.policies.control.sampling.starts import ShiftedStart


class RestartingStart(ShiftedStart):
    """A ShiftedStart that gives a row up, so that its chunk is denoised in full, by two rules; each may be left out.

    jump: largest change of the newest state between decisions, root mean square of normalised units. The decision that
        sees a larger one is in full.
    residual: largest distance between a guess and what became of it, root mean square of normalised units. After a
        larger one the next decision is in full.
    `restarts` counts the decisions that either rule made full.
    """

    def __init__(
        self,
        levels: Sequence[int] | Sequence[float],
        *,
        executed: int = 1,
        renoise: NoisePath | None = None,
        alter: Callable[[Tensor], Tensor] | None = None,
        sampler: str | None = None,
        jump: float | None = None,
        residual: float | None = None,
    ) -> None:
        super().__init__(levels, executed=executed, renoise=renoise, alter=alter, sampler=sampler)
        for name, limit in (("jump", jump), ("residual", residual)):
            if limit is not None and limit < 0:
                raise UsageError(f"{name}={limit}: a distance is 0 or more")
        self.jump, self.residual = jump, residual
        self.restarts = 0
        self._seen: dict[int, Tensor] = {}
        self._guess: dict[int, Tensor] = {}

    def reset(self, rows: Sequence[int]) -> None:
        """Begin an episode."""
        super().reset(rows)
        for row in rows:
            self._seen.pop(row, None)
            self._guess.pop(row, None)

    def watch(self, rows: Sequence[int], observations: Mapping[str, Tensor]) -> None:
        """Sees what the rows are about to decide on; a row whose state jumped is no longer warm."""
        if self.jump is None or "state" not in observations:
            return
        for row, state in zip(rows, observations["state"][:, -1], strict=True):
            before = self._seen.get(row)
            if before is not None and _rms(state - before) > self.jump:
                self._give_up(row)
            self._seen[row] = state

    def start(self, rows: Sequence[int], generator: Generators) -> InitialSample:
        """Return where sampling begins for these rows."""
        start = super().start(rows, generator)
        if self.residual is not None:
            self._guess.update(zip(rows, start.chunk, strict=True))
        return start

    def keep(self, rows: Sequence[int], chunks: Tensor) -> None:
        """Remember the chunks that were decided."""
        super().keep(rows, chunks)
        for row, chunk in zip(rows, chunks, strict=True):
            guess = self._guess.pop(row, None)
            if self.residual is not None and guess is not None and _rms(chunk - guess) > self.residual:
                self._give_up(row)

    def _give_up(self, row: int) -> None:
        self.restarts += self.has_start(row)
        super().reset([row])


def _rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())
