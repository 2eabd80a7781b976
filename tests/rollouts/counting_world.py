"""A world whose observation says which episode and which step it is, and policies that read it back."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from pilotage.rollouts.vector_envs import EpisodeStart

gymnasium = pytest.importorskip("gymnasium")

MODES = ("left", "right")


class CountingWorld(gymnasium.Env):
    """Observes [seed, step, a hidden random walk pushed by the action] in ONE array that it overwrites. Ends by itself
    after 3 to 12 steps, as the seed says; is cut at 8."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    made = 0

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.render_mode = render_mode
        self.shown = np.zeros(3)
        type(self).made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown[:] = (-1 if seed is None else seed, 0, self.np_random.normal())
        if options:
            self.shown[2] = options["place"]
        self.ends = int(self.np_random.integers(3, 13))
        return self.shown, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.shown[1] += 1
        self.shown[2] += 0.1 * self.np_random.normal() + float(action[0])
        seed, step, place = self.shown
        info = {"success": bool(place > 0.5), "place": place, "mode": MODES[int(place > 0)]}
        return self.shown, 100 * seed + step, bool(step >= self.ends), bool(step >= 8), info

    def render(self):
        return np.full((4, 4, 3), int(self.shown[1]), np.uint8) if self.render_mode else None


class CopyingWorld(CountingWorld):
    """The same with a new array for every observation."""

    def reset(self, *, seed=None, options=None):
        shown, info = super().reset(seed=seed, options=options)
        return shown.copy(), info

    def step(self, action):
        shown, *rest = super().step(action)
        return shown.copy(), *rest


class Noisy:
    """Acts by noise drawn from (seed, row, step), pulled by what it sees; counts its calls by row."""

    def __init__(self, seed: int = 0, scale: float = 0.3) -> None:
        self.seed, self.scale = seed, scale
        self.step: dict[int, int] = {}
        self.calls: dict[int, int] = {}
        self.windows: list[torch.Tensor] = []
        self.rows: list[list[int]] = []

    def reset(self, rows):
        assert not set(rows) & set(self.step)  # a row is never used again
        self.step.update(dict.fromkeys(rows, 0))

    def act(self, observations, rows):
        self.windows.append(observations["state"].clone())
        self.rows.append(list(rows))
        actions = []
        for state, row in zip(observations["state"], rows, strict=True):
            assert int(state[-1, 1]) == self.step[row]
            noise = np.random.default_rng([self.seed, row, self.step[row]]).normal(size=2)
            self.step[row] += 1
            self.calls[row] = self.calls.get(row, 0) + 1 + row % 3
            actions.append(self.scale * noise + 0.1 * np.tanh(state[:, 2].mean().item()))
        return torch.tensor(np.array(actions), dtype=torch.float32)


STARTS = [*range(11, 50), EpisodeStart(7), EpisodeStart(7, {"place": 2.0}), *range(50, 60)]
"""51 starts; two share a seed, one of them is put elsewhere."""
SEEDS = [start.seed if isinstance(start, EpisodeStart) else start for start in STARTS]
