"""Things are moved once, at the declared step, and actions arrive as late as was said."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.errors import UsageError
from pilotage.environments.control import control_env
from pilotage.systems.robots.rti_dp.disturbances import Delayed, Displaced

STILL = {"push-t": None, "block-push": np.zeros(2), "pillar": np.zeros(2), "ring-fixed": np.zeros(2)}
WHAT = {"push-t": [2, 3], "block-push": [0, 1, 3, 4], "pillar": [1], "ring-fixed": [4, 5]}
SIZE = {"push-t": 40.0, "block-push": 0.05, "pillar": 0.15, "ring-fixed": 2.0}


@pytest.mark.parametrize("world", WHAT)
def test_something_is_moved_once_by_so_much(world: str) -> None:
    seen = []
    for _ in range(2):
        env = Displaced(control_env(world), at=3)
        state, info = env.reset(seed=4)
        assert not info["displaced"]
        states = [state]
        for _ in range(6):
            rest = env.unwrapped.state[:2] if STILL[world] is None else STILL[world]
            state, _, _, _, info = env.step(rest)
            states.append(state)
        assert info["displaced"]
        seen.append(np.stack(states)[:, WHAT[world]])
        env.close()
    np.testing.assert_array_equal(*seen)  # the same from the same seed
    moves = np.linalg.norm(np.diff(seen[0], axis=0), axis=1)
    assert moves[3] == pytest.approx(SIZE[world], rel=0.3)
    assert np.delete(moves, 3).max() < 0.2 * SIZE[world]


def test_actions_arrive_late() -> None:
    late, prompt = Delayed(control_env("pillar"), 2), control_env("pillar")
    late.reset(seed=0), prompt.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    states = [late.step(action)[0] for action in actions]
    expected = [prompt.step(action)[0] for action in [np.zeros(2), np.zeros(2), *actions[:3]]]
    np.testing.assert_array_equal(states, expected)
    late.reset(seed=0)  # nothing waits from the episode before
    np.testing.assert_array_equal(late.step(actions[4])[0], states[0])


def test_what_cannot_be_disturbed() -> None:
    import gymnasium

    other = gymnasium.make("CartPole-v1")
    with pytest.raises(UsageError, match="nothing can be displaced"):
        Displaced(other)
    with pytest.raises(UsageError, match="0 or more"):
        Delayed(control_env("pillar"), -1)
    with pytest.raises(UsageError, match="1 or later"):
        Displaced(control_env("pillar"), at=0)
    with pytest.raises(UsageError, match="with a seed"):
        Displaced(control_env("pillar")).reset()
