from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("gym_pusht")
pytest.importorskip("cv2", reason="gym-pusht draws with OpenCV, which needs libGL", exc_type=ImportError)

from pilotage.core.errors import UsageError
from pilotage.environments.control import control_env
from pilotage.environments.control.push_t import shown_state
from pilotage.rollouts.control import evaluate
from pilotage.rollouts.vector_envs import EpisodeStart


@pytest.fixture(scope="module")
def demonstrations(shared_data):
    path = shared_data / "pusht-human-demos" / "pusht_demos_lowdim.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with np.load(path) as arrays:
        ends = arrays["episode_ends"]
        bounds = list(zip([0, *ends[:-1]], ends, strict=True))
        return [(arrays["state"][a:b], arrays["action"][a:b], arrays["keypoint"][a:b]) for a, b in bounds[::10]]


class Recorded:
    """Plays each row's recorded actions, the last one on and on."""

    def __init__(self, actions) -> None:
        self.actions, self.step = actions, {}

    def reset(self, rows):
        self.step.update(dict.fromkeys(rows, -1))

    def act(self, _, rows):
        for row in rows:
            self.step[row] += 1
        chosen = [self.actions[row][min(self.step[row], len(self.actions[row]) - 1)] for row in rows]
        return torch.tensor(np.array(chosen))


def test_replaying_human_demonstrations_covers_the_goal_as_they_did(demonstrations):
    starts = [EpisodeStart(0, {"state": states[0]}) for states, _, _ in demonstrations]
    policy = Recorded([actions for _, actions, _ in demonstrations])
    longest = max(len(actions) for _, actions, _ in demonstrations)
    rows = range(len(starts))
    done = evaluate(lambda: control_env("push-t"), policy, starts, measures=("coverage",), max_steps=longest, keep=rows)
    assert done.metrics()["evaluation/coverage/best"] == pytest.approx(0.90, abs=0.04)
    errors = []
    for row, (states, _, _) in enumerate(demonstrations):
        shown = done.trajectories[row].observations["state"]
        np.testing.assert_allclose(shown[0], states[0], atol=1e-4)
        errors.append(np.abs(shown[1] - states[1]))
    assert np.max(errors, axis=0)[:2].max() < 0.1  # pixels; setting position before angle makes the block's 60
    assert np.mean(errors, axis=0)[2:4].max() < 0.7


def test_a_state_is_restored_exactly_whatever_the_angle():
    env = control_env("push-t")
    for angle in np.linspace(0.1, 6.2, 7):
        state = np.array([100.0, 400.0, 210.0, 305.0, angle])
        env.reset(seed=1)
        env.step(np.array([400.0, 100.0], np.float32))
        shown, info = env.reset(seed=1, options={"state": state})
        np.testing.assert_allclose(shown, state.astype(np.float32), rtol=1e-6)
        np.testing.assert_allclose(env.step(state[:2].astype(np.float32))[0], shown, atol=1e-3)  # at rest
        assert not info["success"]
    shown, info = env.reset(options={"state": [100, 400, 256, 256, np.pi / 4]})
    assert info["coverage"] == pytest.approx(1)


def test_keypoints_of_recorded_states_are_those_that_the_world_shows():
    env = control_env("push-t", observation="keypoints")
    plain = control_env("push-t")
    for seed in range(5):
        shown, _ = env.reset(seed=seed)
        plain.reset(seed=seed)
        np.testing.assert_allclose(shown_state(plain.state, "keypoints"), shown, rtol=1e-6)
        np.testing.assert_allclose(
            shown[2:].reshape(8, 2),
            env._inner.get_keypoints(env._inner._block_shapes)[np.argsort(corner_order(env))],
            atol=1e-3,
        )
    with pytest.raises(UsageError, match="not as 'pixels'"):
        shown_state(plain.state, "pixels")


def corner_order(env) -> list[int]:
    """Where each corner that gym-pusht lists stands in our list."""
    from pilotage.environments.control.push_t import _CORNERS

    listed = [tuple(v) for shape in env._inner._block_shapes for v in shape.get_vertices()]
    return [int(np.argmin(np.abs(_CORNERS - corner).sum(1))) for corner in listed]


def test_images_are_shown_to_policies_as_channels_in_0_to_1():
    windows = []

    class Looks:
        def reset(self, rows):
            pass

        def act(self, observations, rows):
            windows.append(observations)
            return torch.full((len(rows), 2), 256.0)

    evaluate(lambda: control_env("push-t", observation="pixels"), Looks(), [0, 1], window=2, max_steps=2)
    assert windows[0]["image/top"].shape == (2, 2, 3, 96, 96)
    assert windows[0]["state"].shape == (2, 2, 2)
    assert 0 <= windows[0]["image/top"].min() < 0.5 < windows[0]["image/top"].max() <= 1


def test_bad_states_and_observations_are_refused():
    with pytest.raises(UsageError, match="'touch' was asked for"):
        control_env("push-t", observation="touch")
    with pytest.raises(UsageError, match="pusher x, y, block"):
        control_env("push-t").reset(options={"state": [1, 2, 3]})
