"""Environments in which things are displaced and actions arrive late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import parse_term
from pilotage.rollouts.vector_envs import EpisodeStart
from pilotage.systems.robots.rti_dp.config import WarmStartConfig
from pilotage.systems.robots.rti_dp.disturbances import Delayed, Displaced
from pilotage.training.imitation.task import ControlTask

if TYPE_CHECKING:
    import gymnasium

BY_OPTION = ("slip", "nudge")
"""Disturbances that the environment pick-place has itself."""


class DisturbedTask(ControlTask):
    """Environment of a configuration with its disturbance and delay.

    Raises UsageError for an unknown disturbance.
    """

    def __init__(self, config: WarmStartConfig) -> None:
        super().__init__(config)
        self.disturbance = parse_term(config.disturbance) if config.disturbance else None
        self.delay = config.delay
        known = {"displaced": ("at", "size"), **dict.fromkeys(BY_OPTION, ())}
        if self.disturbance is not None:
            name, options = self.disturbance.reference, self.disturbance.options
            if name not in known or not set(options) <= set(known[name]):
                raise UsageError(
                    f"--disturbance {config.disturbance}: expected slip or nudge, or displaced:at=STEP,size=DISTANCE"
                )
            if name in BY_OPTION and config.env != "pick-place":
                raise UsageError(f"--disturbance {name} belongs to --env pick-place; in {config.env}: displaced")

    def make(self, **options: Any) -> gymnasium.Env:
        """Return one environment, disturbed and delayed."""
        env = super().make(**options)
        if self.disturbance is not None and self.disturbance.reference == "displaced":
            env = Displaced(env, **self.disturbance.options)
        return Delayed(env, self.delay) if self.delay else env

    def starts(self) -> Sequence[EpisodeStart]:
        """Return the starts of the evaluation, with the disturbance where the environment has it itself."""
        declared = super().starts()
        if self.disturbance is None or self.disturbance.reference not in BY_OPTION:
            return declared
        return [EpisodeStart(start.seed, {"disturbance": self.disturbance.reference}) for start in declared]
