"""Pieces that steer a coefficient from what they measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pilotage.core.ranges import PositiveFloat
from pilotage.objectives.divergences import AdaptiveKL, k1
from pilotage.objectives.penalties import kl_in_reward
from pilotage.objectives.shapes import masked


class AdaptiveKLPenalty:
    """A KL penalty in the reward whose coefficient keeps the measured KL per token near `target`.

    Args:
        coefficient: β at the start, above 0.
        target: KL per token that is aimed at, in nats.
        horizon: number of samples over which the coefficient adapts.
    """

    def __init__(
        self, *, coefficient: PositiveFloat = 0.001, target: PositiveFloat = 0.1, horizon: PositiveFloat = 1e4
    ) -> None:
        self.controller = AdaptiveKL(coefficient=coefficient, target=target, horizon=horizon)

    def __call__(self, reward: Tensor, logp_old: Tensor, logp_ref: Tensor, mask: Tensor) -> Tensor:
        """token_reward [N, T]: the reward on the last token minus coefficient times k1 on every token."""
        return kl_in_reward(reward, logp_old, logp_ref, mask, coefficient=self.controller.coefficient)

    def update(self, logp_old: Tensor, logp_ref: Tensor, mask: Tensor) -> None:
        """Move the coefficient by what this batch measured."""
        measured = masked(k1(logp_old, logp_ref, mask), mask).sum() / mask.sum().clamp(min=1)
        self.controller.update(float(measured), len(mask))

    def state_dict(self) -> dict[str, Any]:
        """Return the coefficient as it stands."""
        return self.controller.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        self.controller.load_state_dict(state)
