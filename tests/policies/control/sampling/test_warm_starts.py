"""Warm starts: against the base sampler, with entries of two values, given up when the situation jumps."""

import numpy as np
import pytest
import torch
from toys import generator, small_policy

from pilotage.core.errors import UsageError
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.execution.discrete_entries import BinaryDimsHorizon, SignedGuess
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.sampling.discrete_samplers import ddpm
from pilotage.policies.control.sampling.restarts import RestartingStart
from pilotage.policies.control.sampling.sampling import InitialSample
from pilotage.policies.control.sampling.starts import ShiftedStart
from pilotage.systems.robots.rti_dp.actions import contraction_by_list
from pilotage.systems.robots.rti_dp.metrics import WatchedPlans
from pilotage.systems.robots.rti_dp.policy import planned, row_generators

STATE = np.array([[0.3, -0.2], [1.0, 2.0]], np.float32)
PATH = VariancePreserving()


def test_all_levels_from_noise_are_the_base_sampler_bit_for_bit():
    policy = small_policy()
    observations = {"state": torch.randn(3, 2, 2, generator=generator())}
    full = planned(policy, observations, 5)
    noise = torch.stack([torch.randn(6, 2, generator=g) for g in row_generators(3, 5)])

    generators = row_generators(3, 5)
    for g in generators:
        torch.randn(6, 2, generator=g)  # what the start took
    with torch.no_grad():
        chunk = policy.head.eval().sample(
            policy.encoder(observations), generators, InitialSample(noise, range(9, -1, -1))
        )
    assert torch.equal(chunk, full)


def test_a_start_may_bring_its_sampler():
    policy = small_policy()
    observations = {"state": torch.randn(3, 2, 2, generator=generator())}
    guess = torch.randn(3, 6, 2, generator=generator(1))
    ours, own = (planned(policy, observations, 0, InitialSample(guess, [3, 0], name)) for name in ("ddim", None))
    policy.head.sampler = "ddim"
    assert torch.equal(ours, planned(policy, observations, 0, InitialSample(guess, [3, 0])))
    assert not torch.equal(ours, own)


@pytest.mark.parametrize(
    ("magnitude", "guess_size", "levels", "late"),
    [
        (1.0, None, [3, 1, 0], None),  # plain: never
        (0.1, None, [3, 1, 0], 2),  # scaled
        (1.0, 1.0, [3, 1, 0], None),  # clipped, short
        (1.0, 1.0, [*range(50, 0, -3), 0], 2),  # clipped, long
    ],
)
def test_a_gripper_flips_when_it_is_scaled_or_its_list_is_long(magnitude, guess_size, levels, late):
    """The expert flips at step 20; the denoiser believes in what it sees, 100 to 1, and in the chunk it gets."""
    alter = None if guess_size is None else SignedGuess([0], guess_size)
    start = ShiftedStart(levels, alter=alter)
    start.keep([0], torch.full((1, 8, 1), magnitude))
    acted = []
    for step in range(1, 40):
        wanted = torch.where(step + torch.arange(8) < 20, 1.0, -1.0)[None, :, None]

        def denoise(x, level, wanted=wanted):
            bar = PATH.alpha_bars[int(level[0])].float()
            distance = 2 * bar.sqrt() * magnitude * x * wanted / (1 - bar)
            return magnitude * wanted * torch.tanh((distance + np.log(100)) / 2)

        begun = start.start([0], [generator(step)])
        chunk = ddpm(denoise, begun.levels, begun.chunk, [generator(step)], path=PATH)
        start.keep([0], chunk)
        acted.append(bool(chunk[0, 0, 0] > 0))
    if late is None:
        assert all(acted)
    else:
        assert all(acted[:17])
        assert not any(acted[19 + late :])


def test_a_two_valued_entry_is_executed_as_one_of_its_values():
    executor = BinaryDimsHorizon(1, 2, 1, [1], 0.1)
    executor.receive([0], torch.tensor([[[0.3, -0.02], [0.0, 0.0]]]))
    torch.testing.assert_close(executor.next([0]), torch.tensor([[0.3, -0.1]]))
    executor.receive([0], torch.tensor([[[0.3, 0.0], [0.0, 0.0]]]))
    torch.testing.assert_close(executor.next([0]), torch.tensor([[0.3, 0.1]]))
    with pytest.raises(UsageError, match="count from 0"):
        SignedGuess([2])(torch.zeros(1, 2, 2))
    with pytest.raises(UsageError, match="some entries"):
        BinaryDimsHorizon(1, 2, 1, [])
    with pytest.raises(UsageError, match="more than 0"):
        SignedGuess([0], 0.0)


def acted(policy, states):
    policy.reset([0, 1])
    calls = []
    for state in states:
        before = dict(policy.calls)
        policy.act({"state": np.asarray(state, np.float32)}, [0, 1])
        calls.append([policy.calls[row] - before.get(row, 0) for row in (0, 1)])
    return calls


def test_a_jump_is_decided_in_full_in_that_row_only():
    start = RestartingStart([3, 1, 0], jump=0.2)
    policy = small_policy(executed=1, initialiser=start)
    moved = STATE + np.array([[0, 0], [0, 1.0]], np.float32)  # half a unit when normalised
    assert acted(policy, [STATE, STATE, moved, moved]) == [[10, 10], [3, 3], [3, 10], [3, 3]]
    assert start.restarts == 1


def test_after_a_poor_guess_the_next_decision_is_in_full():
    start = RestartingStart([3, 1, 0], residual=0.0)
    policy = small_policy(executed=1, initialiser=start)
    assert acted(policy, [STATE] * 4) == [[10, 10], [3, 3], [10, 10], [3, 3]]
    assert start.restarts == 4
    patient = small_policy(executed=1, initialiser=RestartingStart([3, 1, 0], residual=100.0, jump=100.0))
    assert acted(patient, [STATE] * 4) == [[10, 10], [3, 3], [3, 3], [3, 3]]
    with pytest.raises(UsageError, match="0 or more"):
        RestartingStart([0], jump=-1.0)


def test_resetting_one_lane_decides_in_full_there_alone():
    policy = small_policy(executed=1, initialiser=RestartingStart([3, 1, 0], jump=0.2))
    acted(policy, [STATE, STATE])
    policy.reset([1])
    before = dict(policy.calls)
    policy.act({"state": STATE}, [0, 1])
    assert [policy.calls[row] - before[row] for row in (0, 1)] == [3, 10]


def test_plans_that_go_on_change_by_nothing():
    policy = small_policy(executed=1, initialiser=ShiftedStart([]))
    seen = []
    policy.executor = watched = WatchedPlans(policy.executor, lambda row, chunk: seen.append((row, chunk.shape)))
    acted(policy, [STATE] * 3)
    assert watched.changes == [0.0] * 4
    assert len(seen) == 6
    policy = small_policy(executed=1)
    policy.executor = watched = WatchedPlans(policy.executor)
    acted(policy, [STATE] * 2)
    assert min(watched.changes) > 0.05


def test_contraction_of_a_head_that_forgets_is_nothing():
    policy = small_policy()
    policy.head.network.forward = lambda x, *_: 0 * x + 0.2
    assert isinstance(policy.head, Denoiser)
    observations, guess = {"state": torch.zeros(3, 2, 2)}, torch.zeros(3, 6, 2)
    forgets, keeps = contraction_by_list(policy, observations, guess, [[0], []])
    assert forgets == pytest.approx(0, abs=1e-6)
    assert keeps == 1
