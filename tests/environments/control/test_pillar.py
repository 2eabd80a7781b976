"""The world exists to tell policies that choose from policies that average."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from pilotage.environments.control import collect, control_env, control_expert
from pilotage.environments.control.pillar import SwerveExpert
from pilotage.rollouts.control import evaluate

CHUNK, EXECUTED = 16, 8


@pytest.fixture(scope="module")
def chunks() -> tuple[torch.Tensor, torch.Tensor]:
    """Windows [N, 8] of two states, normalised by nothing, and the 16 actions [N, 32] that the experts took."""
    made = collect(control_env("pillar"), control_expert("pillar"), 60, 0)
    states, actions, seen, done = made["observations"]["state"], made["actions"], [], []
    begin = 0
    for end in made["episode_ends"]:
        for step in range(begin, end):
            seen.append(states[np.clip([step - 1, step], begin, end - 1)].ravel())
            done.append(actions[np.clip(np.arange(step, step + CHUNK), begin, end - 1)].ravel())
        begin = end
    return torch.tensor(np.array(seen)), torch.tensor(np.array(done))


class Chunked:
    """Executes 8 of the 16 actions that `answer(window, generator)` gives."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def reset(self, rows):
        self.left = {**getattr(self, "left", {}), **{row: [] for row in rows}}
        self.random = {**getattr(self, "random", {}), **{row: np.random.default_rng(row) for row in rows}}

    def act(self, observations, rows):
        for window, row in zip(observations["state"], rows, strict=True):
            if not self.left[row]:
                self.left[row] = list(self.answer(window.reshape(-1), self.random[row]).reshape(CHUNK, 2)[:EXECUTED])
        return torch.stack([self.left[row].pop(0) for row in rows])


def run(policy, episodes: int):
    return evaluate(lambda: control_env("pillar"), policy, [0] * episodes, window=2, num_envs=10, keep=range(episodes))


def test_the_mean_of_the_two_experts_hits_the_pillar():
    class Mean:
        def reset(self, rows):
            pass

        def act(self, observations, _):
            return torch.tensor(np.array([self.mean(state) for state in observations["state"][:, -1].numpy()]))

        def mean(self, state):
            intents = []
            for side in (1.0, -1.0):
                expert = SwerveExpert()
                expert.side = side
                intents.append(expert.intent(state))
            return np.mean(intents, axis=0)

    done = run(Mean(), 1)
    assert done.trajectories[0].infos[-1]["contact"]
    assert done.episodes[0].terminated
    assert not done.episodes[0].success


def test_choosing_among_what_experts_did_goes_round_on_both_sides(chunks):
    seen, actions = chunks
    scale = seen.std(0) + 1e-6

    def answer(window, random):
        near = (((seen - window) / scale) ** 2).sum(1).topk(20, largest=False).indices
        return actions[near[int(random.integers(20))]]

    done = run(Chunked(answer), 40)
    assert done.metrics()["evaluation/success"] >= 0.85
    assert min(done.modes().values()) >= 8


def test_regression_on_balanced_demonstrations_hits_the_pillar(chunks):
    seen, actions = chunks
    mean, scale = seen.mean(0), seen.std(0) + 1e-6
    for seed in range(2):
        random = torch.Generator().manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(8, 96), torch.nn.ReLU(), torch.nn.Linear(96, 96), torch.nn.ReLU(), torch.nn.Linear(96, 32)
        )
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=random)
        optimiser = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(600):
            rows = torch.randint(len(seen), (128,), generator=random)
            loss = ((net((seen[rows] - mean) / scale) - actions[rows]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        def answer(window, _, net=net):
            return net((window - mean) / scale)

        done = run(Chunked(answer), 1)
        assert done.trajectories[0].infos[-1]["contact"]


def test_the_start_is_always_the_same_and_contact_counts_between_steps():
    env = control_env("pillar")
    assert len({env.reset(seed=seed)[0].tobytes() for seed in range(4)}) == 1
    env.reset(seed=0, options={"state": [-0.3, 0.2, 12.0, 0.0]})  # so fast that it would jump over
    _, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert info["contact"]
    assert (reward, terminated, truncated) == (0.0, True, False)
