from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pymunk")

from pilotage.core.errors import UsageError
from pilotage.environments.control import control_env, control_expert
from pilotage.environments.control.block_push import IN_TARGET, LARGEST_STEP


def play(env, seed: int, turn: int, options=None):
    """An oracle's episode: rewards and infos."""
    expert = control_expert("block-push")
    env.reset(seed=seed, options=options)
    expert.reset(env, np.random.default_rng(seed), turn)
    rewards, infos, over = [], [], False
    while not over:
        _, reward, terminated, truncated, info = env.step(expert.act(env))
        rewards.append(reward)
        infos.append(info)
        over = terminated or truncated
    return rewards, infos


def test_starts_are_as_the_card_says():
    env = control_env("block-push")
    sides = set()
    for seed in range(40):
        state = env.reset(seed=seed)[0][:16]
        blocks, targets = state[:6].reshape(2, 3), state[10:].reshape(2, 3)
        assert np.hypot(*(blocks[0] - blocks[1])[:2]) >= 0.1
        assert (np.abs(blocks[:, 0] - 0.4) <= 0.1001).all()
        assert ((blocks[:, 1] >= -0.1001) & (blocks[:, 1] <= 0.0501)).all()
        assert state[6:10].tolist() == pytest.approx([0.3, -0.4] * 2)
        np.testing.assert_allclose(np.abs(targets[:, 0] - 0.4), 0.12, atol=0.006)
        np.testing.assert_allclose(targets[:, 1], 0.2, atol=0.008)
        sides.add(bool(targets[0, 0] > targets[1, 0]))
    assert sides == {True, False}


@pytest.mark.parametrize("turn", range(4))
def test_reward_is_for_any_target_and_result_for_the_goals(turn):
    env = control_env("block-push-goals")
    for swapped in (False, True):
        env.reset(seed=11)
        goal = env.targets[[1, 0] if swapped else [0, 1]].ravel()
        rewards, infos = play(env, 11, turn, {"goal": goal})
        assert sum(rewards) == pytest.approx(1.0)
        assert sorted(round(r, 2) for r in rewards if r) == [0.49, 0.51]
        assert infos[-1]["success"]
        first, target = "12"[turn // 2], "AB"[turn % 2]
        assert infos[-1]["mode"].startswith(f"{first}{target}-")
        matched = (infos[-1]["mode"].replace(" ", "") in ("1A-2B", "2B-1A")) != swapped
        assert infos[-1]["result"] == pytest.approx(1.0 if matched else 0.0)


def test_success_is_what_the_positions_say():
    env = control_env("block-push")
    _, infos = play(env, 3, 0)
    inside = np.hypot(*(env.blocks[:, None] - env.targets[None]).transpose(2, 0, 1)) < IN_TARGET
    assert (inside.sum(0) == 1).all()
    assert infos[-1]["success"]
    assert not any(info["success"] for info in infos[:-1])


def test_blocks_stand_still_unless_they_are_pushed():
    env = control_env("block-push")
    env.reset(seed=0)
    before = env.state[:6].copy()
    for _ in range(20):
        env.step(np.array([LARGEST_STEP, -LARGEST_STEP], np.float32))
    np.testing.assert_array_equal(env.state[:6], before)
    # pushed, they stop when the pusher stops
    env.reset(seed=0, options={"state": [0.4, 0, 0, 0.6, 0.3, 0, 0.4, -0.05, 0.4, -0.05, *env.state[10:]]})
    for _ in range(3):
        env.step(np.array([0.0, LARGEST_STEP], np.float32))
    for _ in range(5):
        env.step(np.zeros(2, np.float32))
    stopped = env.blocks.copy()
    assert stopped[0, 1] > 0.02
    env.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(env.blocks, stopped, atol=1e-4)
    assert stopped[1].tolist() == pytest.approx([0.6, 0.3])


def test_differences_say_where_things_are_from_each_other():
    env, plain = control_env("block-push"), control_env("block-push", relative=False)
    shown, bare = env.reset(seed=3)[0], plain.reset(seed=3)[0]
    np.testing.assert_array_equal(shown[:16], bare)
    assert plain.observation_space.shape == (16,)
    assert env.observation_space.shape == shown.shape == (30,)
    env.step(np.array([0.02, 0.01], np.float32))
    shown = env.step(np.array([0.02, 0.01], np.float32))[0]
    blocks, pusher, commanded = shown[:6].reshape(2, 3)[:, :2], shown[6:8], shown[8:10]
    targets = shown[10:16].reshape(2, 3)[:, :2]
    expected = [blocks[0] - pusher, blocks[1] - pusher, commanded - pusher]
    expected += [targets[0] - blocks[0], targets[1] - blocks[0], targets[0] - blocks[1], targets[1] - blocks[1]]
    np.testing.assert_allclose(shown[16:], np.concatenate(expected), atol=1e-6)


def test_a_state_is_set_exactly_and_a_wrong_one_refused():
    env = control_env("block-push")
    env.reset(seed=8)
    state = env.state
    shown, _ = env.reset(seed=1, options={"state": state})
    np.testing.assert_allclose(shown[:16], state, rtol=1e-6)
    with pytest.raises(UsageError, match="16 numbers"):
        env.reset(options={"state": [0.0]})
    with pytest.raises(UsageError, match="4 numbers"):
        env.reset(options={"goal": [0.0]})
