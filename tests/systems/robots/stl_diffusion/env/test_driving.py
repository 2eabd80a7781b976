"""The highway in closed loop, as a Gymnasium environment."""

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from pilotage.systems.robots.stl_diffusion.env.driving import HighwayDrive, unpack
from pilotage.systems.robots.stl_diffusion.env.highway import futures, in_ego_frame
from pilotage.systems.robots.stl_diffusion.env.highway import signals as highway_signals


@pytest.mark.filterwarnings("ignore:.*(infinity|spec).*")
def test_the_checker_of_gymnasium_is_content():
    from gymnasium.utils.env_checker import check_env

    check_env(HighwayDrive(), skip_render_check=True)


def episode(environment, policy, seed):
    observation, _ = environment.reset(seed=seed)
    observations, rewards, infos = [observation], [], []
    while True:
        observation, reward, terminated, truncated, info = environment.step(policy(environment, observation))
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
        if terminated or truncated:
            return np.stack(observations), rewards, infos, terminated


def follower(_, observation):
    """Steers along its lane, and keeps a time gap to what is close."""
    ego = unpack(torch.from_numpy(observation))["ego"]
    lanes = unpack(torch.from_numpy(observation))["lanes"]
    ahead = lanes[0, 2]
    speed = max(float(ego[0]), 0.5)
    wanted = float(torch.atan2(ahead[1], ahead[0])) * speed / 3
    seen = unpack(torch.from_numpy(observation))["neighbours"]
    close = (seen[:, 0] > 0) & (seen[:, 1] > 0) & (seen[:, 1] < 8 + 2 * speed) & (seen[:, 2].abs() < 2.5)
    return np.array(
        [np.clip(wanted / 0.5, -1, 1), -0.8 if close.any() and speed > 0.5 else 0.1 * (7 - speed)], np.float32
    )


def test_a_seed_and_actions_determine_a_drive():
    first, again = (episode(HighwayDrive(steps=10), follower, 4)[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, episode(HighwayDrive(steps=10), follower, 5)[0])


def test_who_follows_the_lane_stays_in_it_and_gets_on():
    for seed in range(4):
        _, rewards, infos, terminated = episode(HighwayDrive(), follower, seed)
        assert not terminated
        assert not any(info["out_of_lane"] for info in infos)
        assert infos[-1]["progress"] > 5
        assert sum(rewards) == pytest.approx(infos[-1]["progress"] / 6.0, rel=1e-3)


def test_who_does_not_brake_or_steer_is_told():
    told = {"collision": 0, "out_of_lane": 0}
    for seed in range(5):
        _, rewards, infos, terminated = episode(HighwayDrive(), lambda *_: np.array([0.0, 0.3], np.float32), seed)
        told["collision"] += infos[-1]["collision"]
        told["out_of_lane"] += infos[-1]["out_of_lane"]
        assert terminated == infos[-1]["collision"]
        assert (rewards[-1] < -8) == infos[-1]["collision"] or infos[-1]["progress"] > 100
    assert told["out_of_lane"] >= 2


def test_a_planner_sees_what_the_policy_sees():
    environment = HighwayDrive()
    observation, info = environment.reset(seed=2)
    for _ in range(5):
        observation, _, _, _, info = environment.step(np.array([0.0, 0.2], np.float32))
    scenes = environment.scenes()
    for name, value in in_ego_frame(scenes).items():
        np.testing.assert_allclose(unpack(torch.from_numpy(observation))[name].numpy(), value[0].numpy(), atol=1e-5)
    found = highway_signals(scenes, scenes.start[:, None, None], 0, futures(scenes, 0))
    if int(scenes.neighbours[0, :, 0].sum()):
        assert found["clearance"].item() >= info["clearance"] - 1e-3
