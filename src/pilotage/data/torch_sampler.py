"""A curriculum as batch sampler of torch's DataLoader, for trainers that are not ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Sampler as TorchSampler

from pilotage.interfaces import Sampler


class CurriculumBatchSampler(TorchSampler[list[int]]):
    """Yields batches of positions as its sampler selects them: `DataLoader(data, batch_sampler=...)`.

    A batch is selected when it is asked for; a loader with workers asks ahead of the updates by what it prefetches.

    sampler: such as BetaThompsonSampler(len(data)); batch: prompts per step; steps: batches per iteration."""

    def __init__(self, sampler: Sampler, batch: int, steps: int) -> None:
        self.sampler, self.batch, self.steps = sampler, batch, steps

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.steps):
            yield self.sampler.select(self.batch).tolist()

    def __len__(self) -> int:
        return self.steps

    def update(self, ids: np.ndarray, n_right: np.ndarray, n: np.ndarray) -> None:
        """After a step: [B] positions, sums of scores, numbers of answers."""
        self.sampler.update(ids, n_right, n)

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sampler.load_state_dict(state)
