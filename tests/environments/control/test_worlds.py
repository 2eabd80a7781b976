"""What every control world of ours promises."""

from __future__ import annotations

import numpy as np
import pytest

from pilotage.core.errors import UsageError
from pilotage.core.registry import find_pieces
from pilotage.environments.control import collect, control_env, control_expert, episode_seed
from pilotage.rollouts.control import evaluate

pytest.importorskip("gymnasium_robotics")
pytest.importorskip("gym_pusht")
pytest.importorskip("cv2", reason="gym-pusht draws with OpenCV, which needs libGL", exc_type=ImportError)

OURS = ["push-t", "ring", "lattice-goals", "pillar", "block-push", "block-push-goals", "pick-place"]
WITH_EXPERT = ["ring", "lattice", "pillar", "block-push", "pick-place"]


def flat(observation) -> np.ndarray:
    parts = observation.values() if isinstance(observation, dict) else [observation]
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])


def run(env, seed: int, steps: int, options=None, render: bool = False) -> np.ndarray:
    """Everything that came out of an episode with random actions."""
    random = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed, options=options)
    out = [flat(observation)]
    space = env.action_space
    for _ in range(steps):
        if render:
            env.render()
        observation, reward, terminated, truncated, _ = env.step(random.uniform(space.low, space.high).astype("f4"))
        out.append(np.append(flat(observation), [reward, terminated, truncated]))
        if terminated or truncated:
            break
    return np.concatenate(out)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.filterwarnings("ignore")
def test_gymnasiums_checker_is_content(name):
    from gymnasium.utils.env_checker import check_env

    check_env(control_env(name), skip_render_check=True)


@pytest.mark.parametrize("name", find_pieces("env"))
def test_the_same_seed_and_actions_give_the_same_bits_in_a_used_environment(name):
    used = control_env(name)
    run(used, 77, 15)
    run(used, 78, 4)
    expected = run(control_env(name), 5, 25)
    np.testing.assert_array_equal(run(used, 5, 25), expected)
    if "fixed" not in name and name != "pillar":
        assert not np.array_equal(run(used, 6, 25)[:4], expected[:4])


@pytest.mark.parametrize("name", [*WITH_EXPERT, "push-t"])
def test_pictures_are_made_without_a_screen_and_change_nothing(name):
    if name == "pick-place":
        pytest.importorskip("OpenGL")
    env = control_env(name, render_mode="rgb_array")
    try:
        watched = run(env, 3, 12, render=True)
    except UsageError as error:
        pytest.skip(f"no graphics driver here: {error}")
    np.testing.assert_array_equal(watched, run(control_env(name), 3, 12))
    frame = env.render()
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.std() > 5
    env.reset(seed=4)
    assert not np.array_equal(env.render(), frame)
    assert control_env("pillar").render() is None


@pytest.mark.parametrize(("name", "episodes"), [("ring", 10), ("lattice", 12), ("pillar", 20), ("block-push", 24)])
def test_experts_succeed_in_every_mode_equally_often(name, episodes):
    made = collect(control_env(name), control_expert(name), episodes, 0, only_successes=False)["meta"]
    assert made["success_rate"] >= 0.95
    counts = [made["modes"].count(mode) for mode in set(made["modes"])]
    assert len(counts) == {"ring": 2, "lattice": 6, "pillar": 2, "block-push": 4}[name]
    assert max(counts) - min(counts) <= 1


def test_demonstrations_hold_what_happened():
    env = control_env("lattice-goals")
    made = collect(env, control_expert("lattice"), 3, 9)
    ends = made["episode_ends"]
    assert made["actions"].dtype == np.float32
    assert ends.dtype == np.int64
    assert set(made["observations"]) == {"state", "goal"} == set(made["last_observations"])
    assert ends[-1] == len(made["actions"]) == len(made["rewards"]) == len(made["observations"]["state"])
    assert made["terminated"].all()
    assert not made["truncated"].any()
    begin = 0
    for episode, end in enumerate(ends):  # playing the actions again gives the observations again
        observation, _ = env.reset(seed=made["meta"]["seeds"][episode])
        for step in range(begin, end):
            np.testing.assert_array_equal(observation["state"], made["observations"]["state"][step])
            observation, reward, *_ = env.step(made["actions"][step])
            assert reward == made["rewards"][step]
        np.testing.assert_array_equal(observation["state"], made["last_observations"]["state"][episode])
        begin = end


class Jitter:
    """Acts by noise drawn from (row, step)."""

    def __init__(self, space) -> None:
        self.space, self.step = space, {}

    def reset(self, rows):
        self.step.update(dict.fromkeys(rows, 0))

    def act(self, _, rows):
        chosen = []
        for row in rows:
            random = np.random.default_rng([row, self.step[row]])
            chosen.append(random.uniform(self.space.low, self.space.high))
            self.step[row] += 1
        return np.array(chosen, dtype=np.float32)


@pytest.mark.parametrize("name", ["push-t", "ring", "pillar", "block-push", "pick-place"])
def test_episodes_are_the_same_in_any_number_of_lanes(name):
    """Some steps of nine episodes; pictures of one."""
    steps = 8 if name == "pick-place" else 25
    space = control_env(name).action_space
    alone = evaluate(lambda: control_env(name), Jitter(space), range(9), num_envs=1, max_steps=steps, keep=range(9))
    for lanes in (4, 10):
        beside = evaluate(lambda: control_env(name), Jitter(space), range(9), num_envs=lanes, max_steps=steps, keep=[7])
        assert beside.records() == alone.records()
        for key, shown in beside.trajectories[7].observations.items():
            np.testing.assert_array_equal(shown, alone.trajectories[7].observations[key])


class Sleepy:
    """Drives straight into the pillar every other time."""

    disturbance = 0.0

    def reset(self, env, generator, turn):
        self.inner = control_expert("pillar", noise=0.0)
        self.inner.reset(env, generator, turn)
        self.awake = generator.uniform() < 0.5

    def act(self, env):
        return self.inner.act(env) if self.awake else np.array([1.0, 0.0])


def test_failures_are_left_out_and_counted():
    made = collect(control_env("pillar"), Sleepy(), 8, 1)
    assert all(made["meta"]["successes"])
    assert len(made["episode_ends"]) == 8 < made["meta"]["tried"]
    assert made["meta"]["success_rate"] == 8 / made["meta"]["tried"]
    assert sorted(made["meta"]["modes"]) == ["left"] * 4 + ["right"] * 4  # the turn is tried again
    all_of_them = collect(control_env("pillar"), Sleepy(), 8, 1, only_successes=False)
    assert all_of_them["meta"]["tried"] == 8 > sum(all_of_them["meta"]["successes"])


def test_an_expert_that_never_succeeds_is_given_up():
    class Hopeless(Sleepy):
        def act(self, _):
            return np.array([1.0, 0.0])

    with pytest.raises(UsageError, match="Hopeless failed 3 times at episode 0"):
        collect(control_env("pillar"), Hopeless(), 2, 0, tries=3)
    with pytest.raises(UsageError, match="0 was given"):
        collect(control_env("pillar"), Hopeless(), 0, 0)


def test_what_is_disturbed_is_what_is_executed_not_what_is_recorded():
    env, calm = control_env("block-push"), control_expert("block-push", disturbance=0.0)
    shown = collect(env, control_expert("block-push", disturbance=0.01), 2, 0, only_successes=False)
    commanded = shown["observations"]["state"][:, 8:10]
    ends = set(shown["episode_ends"] - 1)
    within = [i for i in range(len(commanded) - 1) if i not in ends]
    missed = np.array([commanded[i + 1] - commanded[i] - shown["actions"][i] for i in within])
    assert 0.004 < missed.std() < 0.012  # clipped to the action box, hence below 0.01
    still = collect(env, calm, 2, 0, only_successes=False)
    commanded, ends = still["observations"]["state"][:, 8:10], set(still["episode_ends"] - 1)
    within = [i for i in range(len(commanded) - 1) if i not in ends]
    missed = [commanded[i + 1] - commanded[i] - still["actions"][i] for i in within]
    np.testing.assert_allclose(missed, 0, atol=1e-6)


def test_episode_seeds_do_not_repeat():
    assert len({episode_seed(seed, number) for seed in range(20) for number in range(200)}) == 4000


def test_names_that_do_not_exist_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'block-push'"):
        control_env("blockpush")
    with pytest.raises(UsageError, match="no scripted expert"):
        control_expert("push-t")
    assert type(control_expert("ring-fixed")).__name__ == "WaypointExpert"
    assert type(control_expert("lattice-play")).__name__ == "PlayExpert"
    assert control_env("Pendulum-v1").spec.id == "Pendulum-v1"
