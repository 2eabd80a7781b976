"""Demonstrations: what they are made of, what is refused, parts and wholes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.encoded import CountingFrames, encoded, expect_same, reward

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations, Episode, Statistics


def test_sizes_returns_and_starts() -> None:
    data = encoded((3, 1, 2))
    assert (data.total_episodes, data.total_steps, data.action_size) == (3, 6, 2)
    assert data.episode_starts.tolist() == [0, 3, 4]
    assert data.lengths.tolist() == [3, 1, 2]
    assert data.returns.tolist() == [0 + 1 + 2, 1000, 2000 + 2001]
    with pytest.raises(UsageError, match="encoded has no rewards"):
        _ = replace(data, rewards=None).returns


def test_an_episode_holds_its_own_steps_and_what_came_after() -> None:
    episode = encoded((3, 4)).episode(1)
    assert len(episode) == 4
    assert episode.observations["state"][:, 1].tolist() == [0, 1, 2, 3]
    assert episode.last_observations["state"].tolist() == [1, 4, 1004]
    assert episode.rewards.tolist() == [reward(1, step) for step in range(4)]
    assert (episode.terminated, episode.truncated, episode.meta) == (False, True, {"seed": 41})


@settings(max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.booleans())
def test_episodes_make_up_the_whole(lengths: list[int], last: bool) -> None:
    data = encoded(lengths, last=last, cameras=True)
    expect_same(Demonstrations.from_episodes(data.episodes()), data)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.data())
def test_cutting_and_joining_give_the_whole_back(lengths: list[int], draw) -> None:
    data = encoded(lengths)
    cut = draw.draw(st.integers(1, len(lengths) - 1))
    parts = [data.subset(range(cut)), data.subset(range(cut, len(lengths)))]
    joined = Demonstrations.concatenate(parts)
    expect_same(joined, data)
    assert [m["seed"] for m in joined.episode_meta] == [40 + number for number in range(len(lengths))]


@settings(max_examples=25)
@given(st.integers(2, 40), st.floats(0.01, 0.9), st.integers(0, 5))
def test_a_split_is_by_trajectory_disjoint_complete_and_repeatable(episodes: int, share: float, seed: int) -> None:
    data = encoded([1 + number % 3 for number in range(episodes)])
    if round(share * episodes) >= episodes:
        return
    train, validation = data.split(share, torch.Generator().manual_seed(seed))
    sides = [set(part.observations["state"][:, 0]) for part in (train, validation)]
    assert sides[0].isdisjoint(sides[1])
    assert sides[0] | sides[1] == set(range(episodes))
    assert train.total_steps + validation.total_steps == data.total_steps
    assert validation.total_episodes == max(1, round(share * episodes))
    again = data.split(share, torch.Generator().manual_seed(seed))
    expect_same(again[1], validation)


def test_a_split_needs_both_sides() -> None:
    for share in (0.0, 1.0, 0.9):
        with pytest.raises(UsageError, match="episodes for both sides"):
            encoded((2, 2)).split(share, torch.Generator())


def test_frames_stay_undecoded_through_parts_and_wholes() -> None:
    data = encoded((3, 4), last=False, cameras=True)
    frames = CountingFrames(data.observations["image/top"])
    lazy = replace(data, observations={**data.observations, "image/top": frames})
    part = Demonstrations.concatenate([lazy.subset([1]), lazy.subset([0])])
    assert frames.decoded == []
    assert part.episode(0).observations["image/top"][2][0, 0].tolist() == [1, 2, 7]
    assert frames.decoded == [5]
    expect_same(lazy.loaded(), data)


def test_a_state_is_put_together_from_named_observations() -> None:
    data = encoded((2, 3))
    pairs = np.stack([data.observations["state"][:, :2]] * 2, axis=1)
    after = {"pairs": np.zeros((2, 2, 2), dtype=np.float32), "time": np.ones(2)}
    given = replace(data, observations={"pairs": pairs, "time": np.arange(5.0)}, last_observations=after)
    joined = given.with_state(["time", "pairs"])
    assert joined.observations["state"].shape == (5, 5)
    assert joined.observations["state"][3].tolist() == [3, 1, 1, 1, 1]
    assert joined.last_observations["state"].tolist() == [[1, 0, 0, 0, 0]] * 2
    with pytest.raises(UsageError, match="no observation 'state'; there are pairs, time: name those that make up"):
        given.column("state")
    with pytest.raises(UsageError, match="no observation 'pair'"):
        given.with_state(["pair"])
    with pytest.raises(UsageError, match="name the observations that make up the state"):
        given.with_state([])


def test_statistics_are_those_of_all_steps() -> None:
    found = encoded((3, 2)).statistics("action")
    assert found.low.tolist() == [-1, -2]
    assert found.high.tolist() == [0, 0]
    np.testing.assert_allclose(found.mean, [-0.4, -(0 + 1 + 2 + 0 + 1) / 5])
    np.testing.assert_allclose(found.std, [np.std([0, 0, 0, 1, 1]), np.std([0, 1, 2, 0, 1])])
    assert found.count == 5
    with pytest.raises(UsageError, match="no steps"):
        Statistics.of(np.zeros((0, 2)))


def changed(**values) -> Demonstrations:
    return replace(encoded((3, 4)), **values)


def with_nan(column: np.ndarray, *place: int) -> np.ndarray:
    column = column.copy()
    column[place] = np.nan
    return column


DATA = encoded((3, 4))
STATE = DATA.observations["state"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"actions": DATA.actions.astype(np.float64)}, r"actions are float64 \[7, 2\]; expected float32"),
        ({"actions": DATA.actions[:, 0]}, r"actions are float32 \[7\]"),
        ({"episode_ends": np.array([3.0, 7.0])}, r"episode_ends are float64 \[2\]; expected int64"),
        ({"episode_ends": np.array([3, 3])}, "episode 1 ends at step 3, 0 steps after the one before"),
        ({"episode_ends": np.array([5, 3])}, "episode 1 ends at step 3, -2 steps after"),
        ({"episode_ends": np.array([3, 6])}, r"last episode \(1\) ends at step 6, but there are 7 actions"),
        ({"observations": {"state": STATE[:6]}}, "observation 'state' has 6 steps, but there are 7 actions"),
        ({"actions": with_nan(DATA.actions, 4, 1)}, r"actions of episode 1, step 1 holds nan at entry \[1\]"),
        ({"observations": {"state": with_nan(STATE, 2, 0)}}, "observation 'state' of episode 0, step 2 holds nan"),
        ({"rewards": with_nan(DATA.rewards, 6)}, "rewards of episode 1, step 3 holds nan"),
        ({"rewards": DATA.rewards[:5]}, r"rewards are float64 \[5\]; expected floats \[7\]"),
        ({"rewards": np.zeros(7, dtype=np.int64)}, "rewards are int64"),
        ({"terminated": np.zeros(7, dtype=bool)}, r"terminated is bool \[7\]; expected bool \[2\]"),
        ({"truncated": np.zeros(2)}, r"truncated is float64 \[2\]"),
        ({"last_observations": {"status": STATE[:2]}}, r"last observations are \['status'\]"),
        ({"last_observations": {"state": STATE}}, r"last observations 'state' are \(7, 3\); expected \(2, 3\)"),
        ({"last_observations": {"state": with_nan(STATE[:2], 1, 0)}}, "last observation 'state' of episode 1, step 0"),
        (
            {"observations": {"state": STATE.astype(str)}, "last_observations": None},
            "of type <U32; expected real",
        ),
        (
            {"observations": {"image/a": np.zeros((7, 3, 4, 4), dtype=np.float32)}, "last_observations": None},
            r"'image/a' is float32 \[7, 3, 4, 4\]; expected uint8",
        ),
        ({"episode_meta": [{}]}, "tells of 1 episodes; there are 2"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=f"^encoded: .*{message}"):
        changed(**values)


@pytest.mark.parametrize("episodes", [[], [2], [-1], [0.5], [[0]], [True]])
def test_episodes_that_are_not_there_are_refused(episodes: list) -> None:
    with pytest.raises(UsageError, match="encoded has episodes 0 to 1"):
        DATA.subset(episodes)


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    wider = replace(DATA, actions=np.zeros((7, 3), dtype=np.float32))
    with pytest.raises(UsageError, match=r"part 1 holds .*'action': \(3,\).* must be alike"):
        Demonstrations.concatenate([DATA, wider])
    with pytest.raises(UsageError, match="one of part 0 and part 1 has rewards and the other not"):
        Demonstrations.concatenate([DATA, replace(DATA, rewards=None)])
    with pytest.raises(UsageError, match="at least one part"):
        Demonstrations.concatenate([])
    episodes = list(DATA.episodes())
    other = Episode({"state": STATE}, DATA.actions, {"status": STATE[0]}, DATA.rewards, True, False)
    with pytest.raises(UsageError, match="episode 1 has last observations"):
        Demonstrations.from_episodes([episodes[0], other])
    with pytest.raises(UsageError, match="no episodes"):
        Demonstrations.from_episodes([])
