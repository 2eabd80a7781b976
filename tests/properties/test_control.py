"""S10: transitions are what happened. S15: evaluation begins where it was declared to begin."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollouts.counting_world import CopyingWorld, CountingWorld, Noisy, gymnasium

from pilotage.core.errors import UsageError
from pilotage.rollouts.control import evaluate

AutoresetMode, SyncVectorEnv = gymnasium.vector.AutoresetMode, gymnasium.vector.SyncVectorEnv

WAYS = ["single", *AutoresetMode]


def world(way, num_envs: int):
    if way == "single":
        return CountingWorld
    # By SAME_STEP a world that overwrites its observations loses the final ones: see the test of its refusal.
    one = CopyingWorld if way == AutoresetMode.SAME_STEP else CountingWorld
    return SyncVectorEnv([one] * num_envs, autoreset_mode=way, copy=False)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_stored_transitions_are_those_of_their_episode_and_step(way, num_envs):
    """The environment writes every observation into one array and says in it which episode and step it is."""
    starts = range(100, 113)
    done = evaluate(world(way, num_envs), Noisy(), starts, num_envs=num_envs, keep=range(len(starts)))
    for row, seed in enumerate(starts):
        trajectory = done.trajectories[row]
        steps = len(trajectory.rewards)
        state = trajectory.observations["state"]
        assert state[:, 0].tolist() == [seed] * (steps + 1)
        assert state[:, 1].tolist() == list(range(steps + 1))  # no reset in between, the final one is there
        assert trajectory.rewards.tolist() == [100 * seed + step for step in range(1, steps + 1)]
        assert done.episodes[row].total_reward == trajectory.rewards.sum()
        np.testing.assert_allclose(state[1:, 2], [info["place"] for info in trajectory.infos], rtol=1e-6)


def test_a_final_observation_that_was_overwritten_is_never_stored():
    vector = SyncVectorEnv([CountingWorld] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(UsageError, match="NEXT_STEP or DISABLED"):
        evaluate(vector, Noisy(), range(5))


@settings(max_examples=12)
@given(
    starts=st.lists(st.integers(0, 30), min_size=1, max_size=14),
    num_envs=st.sampled_from([1, 2, 5, 20]),
    way=st.sampled_from(WAYS),
)
def test_the_initial_states_are_the_declared_ones_for_different_policies(starts, num_envs, way):
    """One policy ends its episodes by other steps and successes than the other; starts may repeat."""
    expected = Counter(evaluate(CountingWorld, Noisy(), [seed]).episodes[0].start for seed in starts)
    for policy in (Noisy(seed=1, scale=0.0), Noisy(seed=2, scale=1.0)):
        done = evaluate(world(way, num_envs), policy, starts, num_envs=num_envs, keep=range(len(starts)))
        assert len(done.episodes) == len(starts)
        assert [e.seed for e in done.episodes] == starts
        assert Counter(e.start for e in done.episodes) == expected
        assert [int(done.trajectories[row].observations["state"][0, 0]) for row in range(len(starts))] == starts
        assert [start["seed"] for start in done.settings["starts"]] == starts
