from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

from pilotage.core.errors import UsageError
from pilotage.environments.control import collect, control_env, control_expert


@pytest.fixture(scope="module")
def env():
    return control_env("pick-place")


def play(env, seed: int, disturbance=None):
    expert = control_expert("pick-place")
    env.reset(seed=seed, options={"disturbance": disturbance})
    expert.reset(env, np.random.default_rng(seed), 0)
    infos, over = [], False
    while not over:
        _, _, terminated, truncated, info = env.step(expert.act(env))
        infos.append(info)
        over = terminated or truncated
    return infos


def test_the_expert_picks_and_places(env):
    made = collect(env, control_expert("pick-place"), 8, 0, only_successes=False)
    assert made["meta"]["success_rate"] == 1
    assert set(np.unique(made["actions"][:, 3])) == {-1, 1}
    assert made["observations"]["state"].shape[1] == 28


@pytest.mark.parametrize("disturbance", ["slip", "nudge"])
def test_a_disturbed_grasp_fails_once_and_the_expert_tries_again(env, disturbance):
    for seed in (1, 2, 3):
        clean, disturbed = play(env, seed), play(env, seed, disturbance)
        assert (clean[-1]["attempts"], clean[-1]["disturbed"]) == (1, False)
        assert disturbed[-1]["disturbed"]
        assert disturbed[-1]["success"]
        assert len(disturbed) > len(clean) + 5
        assert disturbed[-1]["attempts"] >= 2


def test_only_the_sign_of_the_fourth_action_counts(env):
    ends = []
    for strength in (0.05, 1.0):
        env.reset(seed=2)
        for step in range(12):
            action = np.array([0.1, 0, -0.2, strength if step < 6 else -strength], np.float32)
            shown, *_ = env.step(action)
        ends.append(shown)
    np.testing.assert_array_equal(*ends)


def test_an_unknown_disturbance_is_refused(env):
    with pytest.raises(UsageError, match="slip or nudge; 'quake'"):
        env.reset(options={"disturbance": "quake"})
