"""What is known of the episodes that a policy ran in control environments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Episode:
    """What is known of one episode. Nothing in it depends on the clock or on the lanes beside it."""

    row: int
    """Position of its start in the declared list."""
    seed: int
    steps: int
    total_reward: float
    best_reward: float
    last_reward: float
    success: bool | None
    """Whether the environment said so ("success" or "is_success" in its info) at some step; None: it never speaks of
    success."""
    terminated: bool
    truncated: bool
    """Cut by a limit of steps: the environment's or the evaluator's."""
    mode: str | None
    """Which of several good ways was taken ("mode" in the last info)."""
    measures: Mapping[str, float]
    """`NAME/best` and `NAME/last` of the numbers in the info that were asked for."""
    calls: int | None
    """Passes of the network, where the policy counts them by row."""
    clipped: int
    """Steps at which the action was outside the environment's box and was clipped."""
    start: str
    """Digest of the first observation, equal for equal initial states."""


@dataclass(frozen=True)
class Trajectory:
    """One episode kept whole. `observations[name]` is [steps + 1, ...]: the last one is what the episode ended in."""

    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    """[steps, A] as executed, after clipping."""
    rewards: np.ndarray
    infos: Sequence[Mapping[str, Any]]
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class Seconds:
    """Where the time of one episode went. A decision for several rows counts for each in equal shares."""

    policy: float
    environment: float


@dataclass(frozen=True)
class Evaluation:
    """What a policy did. `episodes[i]` began at the i-th declared start."""

    episodes: Sequence[Episode]
    settings: Mapping[str, Any]
    """All that acts at evaluation: starts, lanes, window, limits."""
    seconds: Sequence[Seconds]
    trajectories: Mapping[int, Trajectory]
    frames: Mapping[int, Sequence[np.ndarray]]
    """Of the chosen rows: [height, width, 3] uint8 before the first step and after every `frame_every`-th."""

    def metrics(self, prefix: str = "evaluation") -> dict[str, float]:
        """Means over episodes; success only where the environment speaks of it; of the modes the entropy in bits."""
        episodes = self.episodes
        out = {
            f"{prefix}/return": float(np.mean([e.total_reward for e in episodes])),
            f"{prefix}/best_reward": float(np.mean([e.best_reward for e in episodes])),
            f"{prefix}/last_reward": float(np.mean([e.last_reward for e in episodes])),
            f"{prefix}/steps": float(np.mean([e.steps for e in episodes])),
            f"{prefix}/terminated": float(np.mean([e.terminated for e in episodes])),
            f"{prefix}/clipped": sum(e.clipped for e in episodes) / sum(e.steps for e in episodes),
        }
        successes = [e.success for e in episodes if e.success is not None]
        if successes:
            out[f"{prefix}/success"] = float(np.mean(successes))
        calls = [e.calls for e in episodes if e.calls is not None]
        if calls:
            out[f"{prefix}/calls_per_step"] = sum(calls) / sum(e.steps for e in episodes)
        for name in episodes[0].measures:
            out[f"{prefix}/{name}"] = float(np.mean([e.measures[name] for e in episodes]))
        if any(e.mode is not None for e in episodes):
            out[f"{prefix}/mode_entropy"] = entropy_of(list(self.modes().values()))
        return out

    def modes(self) -> dict[str, int]:
        """Return how many successful episodes took each mode (all episodes where there is no success to speak of)."""
        return dict(sorted(Counter(e.mode for e in self.episodes if e.mode and e.success is not False).items()))

    def records(self) -> list[dict[str, Any]]:
        """Return the episodes as plain dictionaries, for JSON Lines."""
        return [asdict(episode) for episode in self.episodes]


def entropy_of(counts: Sequence[int]) -> float:
    """Entropy in bits of the shares that these counts make; 0 where there are none."""
    shares = np.array([count for count in counts if count], dtype=float)
    shares /= max(shares.sum(), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0
