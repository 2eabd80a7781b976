from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.rollouts.counting_world import SEEDS, STARTS, CopyingWorld, CountingWorld, Noisy, gymnasium

from pilotage.core.errors import UsageError
from pilotage.rollouts.control import evaluate, starts_of
from pilotage.rollouts.episodes import entropy_of
from pilotage.rollouts.observations import policy_view
from pilotage.rollouts.vector_envs import EpisodeStart

AutoresetMode, SyncVectorEnv = gymnasium.vector.AutoresetMode, gymnasium.vector.SyncVectorEnv


def records(lanes: int, **options):
    done = evaluate(CountingWorld, Noisy(), STARTS, num_envs=lanes, window=2, measures=("place",), **options)
    return done.records()


@pytest.mark.parametrize("lanes", [4, 10, 50])
def test_episodes_are_the_same_for_any_number_of_lanes(lanes):
    alone = records(1)
    assert records(lanes) == alone
    assert [record["seed"] for record in alone] == SEEDS
    assert len({record["total_reward"] for record in alone}) > 40  # there is something to differ


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("lanes", [1, 4, 10])
def test_a_vector_env_gives_the_episodes_of_single_environments(mode, lanes):
    starts = SEEDS[:25]
    vector = SyncVectorEnv([CopyingWorld] * lanes, autoreset_mode=mode, copy=False)
    options = {"window": 2, "measures": ("place",)}
    expected = evaluate(CountingWorld, Noisy(), starts, num_envs=3, **options)
    got = evaluate(vector, Noisy(), starts, **options)
    assert got.records() == expected.records()


def test_a_vector_env_without_autoreset_takes_options_and_one_with_refuses_different_ones():
    starts = STARTS[36:44]
    vector = SyncVectorEnv([CountingWorld] * 3, autoreset_mode=AutoresetMode.DISABLED)
    assert evaluate(vector, Noisy(), starts).records() == evaluate(CountingWorld, Noisy(), starts).records()
    with pytest.raises(UsageError, match="DISABLED"):
        evaluate(SyncVectorEnv([CountingWorld] * 8), Noisy(), starts)
    same = [EpisodeStart(seed, {"place": 0.25}) for seed in range(7)]
    vector = SyncVectorEnv([CountingWorld] * 3)
    assert evaluate(vector, Noisy(), same).records() == evaluate(CountingWorld, Noisy(), same).records()


def test_a_free_lane_takes_the_next_episode_at_once():
    policy = Noisy()
    done = evaluate(CountingWorld, policy, SEEDS[:9], num_envs=2)
    assert {len(rows) for rows in policy.rows[:-8]} == {2}
    assert sum(map(len, policy.rows)) == sum(e.steps for e in done.episodes)


def test_no_more_environments_are_made_than_there_are_episodes():
    before = CountingWorld.made
    evaluate(CountingWorld, Noisy(), [1, 2, 3], num_envs=50)
    assert CountingWorld.made - before == 3


def test_the_window_is_padded_with_the_first_observation_and_ends_in_the_newest():
    policy = Noisy()
    evaluate(CountingWorld, policy, [3], window=3)
    steps = [window[0, :, 1].tolist() for window in policy.windows]
    assert steps[:4] == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_terminated_and_truncated_are_told_apart_and_the_limit_truncates():
    done = evaluate(CountingWorld, Noisy(), range(40))
    for episode in done.episodes:
        assert episode.terminated != episode.truncated
        assert episode.truncated == (episode.steps == 8 and not episode.terminated)
    assert {e.terminated for e in done.episodes} == {True, False}
    cut = evaluate(CountingWorld, Noisy(), range(40), max_steps=2).episodes
    assert {(e.steps, e.terminated, e.truncated) for e in cut} == {(2, False, True)}


def test_the_record_agrees_with_the_kept_trajectory():
    done = evaluate(CountingWorld, Noisy(), SEEDS[:6], num_envs=3, measures=("place",), keep=[1, 4])
    assert sorted(done.trajectories) == [1, 4]
    for row, trajectory in done.trajectories.items():
        episode, place = done.episodes[row], [info["place"] for info in trajectory.infos]
        assert trajectory.observations["state"].shape == (episode.steps + 1, 3)
        assert trajectory.actions.shape == (episode.steps, 2)
        assert episode.total_reward == pytest.approx(trajectory.rewards.sum(), abs=1e-9)
        assert (episode.best_reward, episode.last_reward) == (trajectory.rewards.max(), trajectory.rewards[-1])
        assert episode.measures == {"place/best": max(place), "place/last": place[-1]}
        assert episode.success == any(info["success"] for info in trajectory.infos)
        assert episode.mode == trajectory.infos[-1]["mode"]
        assert episode.calls == episode.steps * (1 + row % 3)
    assert json.loads(json.dumps([done.records(), done.settings]))


def test_metrics_are_those_of_the_records():
    done = evaluate(CountingWorld, Noisy(), SEEDS, measures=("place",))
    metrics = done.metrics("test")
    assert metrics["test/success"] == pytest.approx(np.mean([e.success for e in done.episodes]))
    assert metrics["test/place/best"] == pytest.approx(np.mean([e.measures["place/best"] for e in done.episodes]))
    assert sum(done.modes().values()) == sum(bool(e.success) for e in done.episodes)
    assert metrics["test/mode_entropy"] == entropy_of(list(done.modes().values()))
    assert len(done.seconds) == len(done.episodes)
    assert all(s.policy > 0 and s.environment > 0 for s in done.seconds)


@pytest.mark.parametrize(("counts", "bits"), [([], 0), ([7], 0), ([5, 5], 1), ([1, 1, 1, 1], 2), ([3, 0, 3], 1)])
def test_entropy_in_bits(counts, bits):
    assert entropy_of(counts) == pytest.approx(bits)


def test_frames_are_kept_of_the_chosen_episodes():
    done = evaluate(lambda: CountingWorld("rgb_array"), Noisy(), SEEDS[:5], num_envs=2, frames=[0, 3], frame_every=3)
    assert sorted(done.frames) == [0, 3]
    for row, frames in done.frames.items():
        steps = done.episodes[row].steps
        assert [int(frame[0, 0, 0]) for frame in frames] == sorted({*range(0, steps + 1, 3), steps})
    with pytest.raises(UsageError, match="rgb_array"):
        evaluate(CountingWorld, Noisy(), [1], frames=[0])


def test_actions_outside_the_box_are_clipped_and_counted():
    done = evaluate(CountingWorld, Noisy(scale=5.0), SEEDS[:4], keep=range(4))
    assert all(np.abs(t.actions).max() == 1 for t in done.trajectories.values())
    assert sum(e.clipped for e in done.episodes) > 0
    assert all(e.clipped == 0 for e in evaluate(CountingWorld, Noisy(scale=0.0), SEEDS[:4]).episodes)


class Fixed:
    def __init__(self, action) -> None:
        self.action = action

    def reset(self, rows):
        pass

    def act(self, _, rows):
        assert not torch.is_grad_enabled()
        return self.action if self.action.ndim > 1 else self.action.expand(len(rows), -1)


@pytest.mark.parametrize(
    ("action", "options", "words"),
    [
        (torch.tensor([0.0, float("nan")]), {}, "step 0 of episode 0 \\(seed 5\\) is not finite"),
        (torch.zeros(3), {}, "1 actions of shape \\(2,\\)"),
        (torch.zeros(2, 2), {}, "answered with shape \\(2, 2\\)"),
        (torch.zeros(2), {"num_envs": 0}, "num_envs must be 1 or more"),
        (torch.zeros(2), {"window": 0}, "window must be 1 or more"),
        (torch.zeros(2), {"keep": [1]}, "rows are 0 to 0"),
        (torch.zeros(2), {"measures": ["speed"]}, "no 'speed'; it has success, place, mode"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(action, options, words):
    with pytest.raises(UsageError, match=words):
        evaluate(CountingWorld, Fixed(action), [5], **options)


def test_no_episodes_and_negative_seeds_are_refused():
    with pytest.raises(UsageError, match="empty"):
        evaluate(CountingWorld, Noisy(), [])
    with pytest.raises(UsageError, match="-3 was given"):
        evaluate(CountingWorld, Noisy(), [1, -3])
    assert [s.seed for s in starts_of(3, 10)] == [10, 11, 12]


def test_a_registered_gymnasium_environment_runs_too():
    policy = Fixed(torch.zeros(1))
    done = evaluate(lambda: gymnasium.make("Pendulum-v1"), policy, [0, 1], max_steps=5)
    assert done.settings["environment"] == "Pendulum-v1"
    assert all(e.success is None and e.mode is None and e.calls is None for e in done.episodes)
    assert "evaluation/success" not in done.metrics()


def test_observations_get_the_names_that_policies_read():
    image = np.full((6, 8, 3), 255, np.uint8)
    view = policy_view({"observation": np.arange(4.0), "achieved_goal": np.zeros(2), "desired_goal": np.ones(2)})
    assert sorted(view) == ["goal", "state"]
    view = policy_view({"state": np.arange(4.0), "image/top": image})
    assert view["image/top"].shape == (3, 6, 8)
    assert view["image/top"].max() == 1
    assert policy_view(image)["image/pixels"].dtype == np.float32
    with pytest.raises(UsageError, match="'agent_pos'"):
        policy_view({"agent_pos": np.zeros(2)})
