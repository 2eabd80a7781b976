"""Demonstrations in which every number tells the episode and the step that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pilotage.data.demonstrations import Demonstrations, Episode
from pilotage.data.frames import Frames


def state(episode: int, step: int) -> np.ndarray:
    return np.array([episode, step, 1000 * episode + step], dtype=np.float32)


def reward(episode: int, step: int) -> float:
    return 1000.0 * episode + step


def encoded(lengths: Sequence[int] = (7, 12, 5), *, last: bool = True, cameras: bool = False) -> Demonstrations:
    """One episode for each length T; actions are minus the state's first two entries, so that they pair up."""
    episodes = []
    for number, length in enumerate(lengths):
        steps = range(length)
        observations: dict[str, np.ndarray] = {"state": np.stack([state(number, step) for step in steps])}
        if cameras:
            observations["image/top"] = np.stack([picture(number, step) for step in steps])
        after = {"state": state(number, length)}
        if cameras:
            after["image/top"] = picture(number, length)
        episodes.append(
            Episode(
                observations=observations,
                actions=np.array([[-number, -step] for step in steps], dtype=np.float32),
                last_observations=after if last else None,
                rewards=np.array([reward(number, step) for step in steps]),
                terminated=number % 2 == 0,
                truncated=number % 2 == 1,
                meta={"seed": 40 + number},
            )
        )
    return Demonstrations.from_episodes(episodes, {"source": "encoded"})


def picture(episode: int, step: int) -> np.ndarray:
    """[4, 6, 3] uint8 whose first two channels are episode and step."""
    return np.tile(np.array([episode, step, 7], dtype=np.uint8), (4, 6, 1))


class CountingFrames(Frames):
    """Frames of an array that count what was decoded."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures, self.decoded, self.shape = pictures, [], pictures.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.decoded += rows.tolist()
        return self.pictures[rows]


def expect_same(given: Demonstrations, expected: Demonstrations) -> None:
    """Fail unless both hold the same numbers, types and flags, bit for bit."""
    assert sorted(given.observations) == sorted(expected.observations)
    for name in expected.observations:
        _equal(given.observations[name], expected.observations[name])
    assert (given.last_observations is None) == (expected.last_observations is None)
    for name, column in (expected.last_observations or {}).items():
        _equal(given.last_observations[name], column)
    for name in ("actions", "episode_ends", "rewards", "terminated", "truncated"):
        here, there = getattr(given, name), getattr(expected, name)
        assert (here is None) == (there is None), name
        if there is not None:
            _equal(here, there)


def _equal(given, expected) -> None:
    given, expected = given[:], expected[:]
    assert given.dtype == expected.dtype
    np.testing.assert_array_equal(given, expected)
