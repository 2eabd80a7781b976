"""Resuming a world with hidden state: by its log, since restoring positions is not exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from pilotage.core.errors import UsageError


class ActionLog(gymnasium.Wrapper):
    """Remembers how the episode began and every action since. A solver's caches and contacts cannot be set from
    outside; resetting as before and repeating the actions brings them back bit for bit.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._began: tuple[int, dict[str, Any] | None] | None = None
        self._actions: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Raises UsageError without a seed: what is drawn from a running generator cannot be drawn again."""
        if seed is None:
            raise UsageError("an episode that shall be resumed is reset with a seed; none was given")
        self._began, self._actions = (seed, options), []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._actions.append(np.array(action))
        return self.env.step(action)

    def state_dict(self) -> dict[str, Any]:
        """The seed, the options and the actions so far."""
        if self._began is None:
            raise UsageError("no episode has begun: reset the environment first")
        seed, options = self._began
        return {"seed": seed, "options": options, "actions": [action.tolist() for action in self._actions]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resets as the log began and takes its steps again."""
        self.reset(seed=state["seed"], options=state["options"])
        for action in state["actions"]:
            self.step(np.asarray(action, dtype=self.action_space.dtype))
