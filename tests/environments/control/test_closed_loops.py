"""Lanes and Encounter as Gymnasium environments."""

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from pilotage.environments.control.encounter import (
    ROOM,
    draw_encounters,
    signals,
    walk,
)
from pilotage.environments.control.encounter_drive import Encounter

from pilotage.rewards.temporal_logic import robustness
from pilotage.systems.robots.stl_diffusion.descent import descend
from pilotage.systems.robots.stl_diffusion.env.geometry import roll_out
from pilotage.systems.robots.stl_diffusion.env.highway import futures, in_ego_frame
from pilotage.systems.robots.stl_diffusion.env.highway import signals as lane_signals
from pilotage.systems.robots.stl_diffusion.env.highway_drive import LanesDrive, unpack
from pilotage.systems.robots.stl_diffusion.signals import encounter_rule


@pytest.mark.parametrize("environment", [LanesDrive, Encounter, lambda: Encounter(yielding=True)])
@pytest.mark.filterwarnings("ignore:.*(infinity|spec).*")
def test_the_checker_of_gymnasium_is_content(environment):
    from gymnasium.utils.env_checker import check_env

    check_env(environment(), skip_render_check=True)


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
    first, again = (episode(LanesDrive(steps=10), follower, 4)[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, episode(LanesDrive(steps=10), follower, 5)[0])


def test_who_follows_the_lane_stays_in_it_and_gets_on():
    for seed in range(4):
        _, rewards, infos, terminated = episode(LanesDrive(), follower, seed)
        assert not terminated
        assert not any(info["out_of_lane"] for info in infos)
        assert infos[-1]["progress"] > 5
        assert sum(rewards) == pytest.approx(infos[-1]["progress"] / 6.0, rel=1e-3)


def test_who_does_not_brake_or_steer_is_told():
    told = {"collision": 0, "out_of_lane": 0}
    for seed in range(5):
        _, rewards, infos, terminated = episode(LanesDrive(), lambda *_: np.array([0.0, 0.3], np.float32), seed)
        told["collision"] += infos[-1]["collision"]
        told["out_of_lane"] += infos[-1]["out_of_lane"]
        assert terminated == infos[-1]["collision"]
        assert (rewards[-1] < -8) == infos[-1]["collision"] or infos[-1]["progress"] > 100
    assert told["out_of_lane"] >= 2


def test_a_planner_sees_what_the_policy_sees():
    environment = LanesDrive()
    observation, info = environment.reset(seed=2)
    for _ in range(5):
        observation, _, _, _, info = environment.step(np.array([0.0, 0.2], np.float32))
    scenes = environment.scenes()
    for name, value in in_ego_frame(scenes).items():
        np.testing.assert_allclose(unpack(torch.from_numpy(observation))[name].numpy(), value[0].numpy(), atol=1e-5)
    heard = lane_signals(scenes, scenes.start[:, None, None], 0, futures(scenes, 0))
    if int(scenes.neighbours[0, :, 0].sum()):
        assert heard["clearance"].item() >= info["clearance"] - 1e-3


# ---- Encounter -------------------------------------------------------------------------------------------------------


def test_people_walk_straight_stop_at_walls_and_yield_when_they_do():
    encounters = draw_encounters(200, torch.Generator().manual_seed(0))
    far = encounters.start[:, None, None].expand(-1, 1, 21, 4)
    places = walk(encounters, far)
    assert (places >= 0.3 - 1e-6).all()
    assert (places <= ROOM - 0.3 + 1e-6).all()
    torch.testing.assert_close(places[:, 0, 4], encounters.person[:, :2] + 2.0 * encounters.person[:, 2:])
    front = far.clone()
    front[..., :2] = encounters.person[:, None, None, :2] + encounters.person[:, None, None, 2:]
    still = walk(encounters, front, yielding=True)
    assert (still == still[:, :, :1]).all()
    behind = far.clone()
    behind[..., :2] = encounters.person[:, None, None, :2] - encounters.person[:, None, None, 2:]
    torch.testing.assert_close(walk(encounters, behind, yielding=True), walk(encounters, behind))


def test_the_frame_of_the_person():
    encounters = draw_encounters(3, torch.Generator().manual_seed(1))
    direction = torch.nn.functional.normalize(encounters.person[:, 2:], dim=-1)
    left = torch.stack([-direction[:, 1], direction[:, 0]], -1)
    states = torch.zeros(3, 1, 1, 4)
    states[:, 0, 0, :2] = encounters.person[:, :2] + 2.0 * direction + 3.0 * left
    heard = signals(encounters, states, encounters.person[:, None, None, :2])
    torch.testing.assert_close(heard["ahead"], torch.full((3, 1, 1), 2.0))
    torch.testing.assert_close(heard["beside"], torch.full((3, 1, 1), 3.0))
    torch.testing.assert_close(heard["clearance"], torch.full((3, 1, 1), 13**0.5 - 0.6))


def test_trajectory_optimisation_meets_people_by_the_rule():
    encounters = draw_encounters(20, torch.Generator().manual_seed(2))
    psi = {"dsafe": 0.4, "radius": 0.5, "deadline": 10.0, "reach": 0.5}

    def score(controls, behind=False, tau=20.0):
        states = roll_out(encounters.start, controls, 0.5)[:, None]
        heard = signals(encounters, states, walk(encounters, states))
        return robustness(encounter_rule(behind=behind), heard, psi, tau=tau)[:, 0]

    start = 0.1 * torch.randn(20, 20, 2, generator=torch.Generator().manual_seed(3))
    assert (score(start, tau=None) > 0).float().mean() < 0.1
    for behind, least in ((False, 0.9), (True, 0.7)):
        found = descend(start, lambda u, b=behind: score(u, b), torch.ones(2), steps=200, rate=0.1, margin=0.2)
        assert (score(found, behind, tau=None) > 0).float().mean() >= least


def test_an_encounter_ends_at_the_goal_at_the_person_and_at_the_wall():
    environment, ends = Encounter(), set()
    for seed in range(25):
        for turn in (-0.3, 0.0, 0.3):

            def policy(_, seen, turn=turn):
                return np.array([turn if seen[-1] > 9 else 0.0, 0.4], np.float32)

            _, rewards, infos, terminated = episode(environment, policy, seed)
            kind = next((name for name in ("collision", "outside", "reached") if infos[-1][name]), "time")
            assert terminated == (kind != "time")
            assert rewards[-1] == {"collision": -1.0, "outside": -1.0, "reached": 1.0, "time": 0.0}[kind]
            ends.add(kind)
    assert {"collision", "outside", "reached"} <= ends
