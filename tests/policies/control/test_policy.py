import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Told, affine, generator, small_policy

from pilotage.core.errors import UsageError
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.encoders import FlattenEncoder
from pilotage.policies.control.execution.executors import RecedingHorizon, TemporalEnsembling
from pilotage.policies.control.execution.latency import MeteredPolicy
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.direct import Regression
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.starts import ShiftedStart, shifted


def states(rows, step=0):
    """Different states for every row and step: [rows, 2] float64, as environments give them."""
    return np.array([[row + 0.1 * step, np.sin(row + step)] for row in rows])


def told(frames, executed, horizon=6, **options):
    """A policy whose action says which state it saw and which index of the chunk it is."""
    normalisers = {"action": affine(10.0, 5.0)}
    head = Regression(Told(1, horizon))
    return ActionPolicy(
        FlattenEncoder(1, frames), head, RecedingHorizon(frames, horizon, executed), normalisers, **options
    )


def test_actions_come_from_the_newest_observation_at_the_newest_index_in_raw_units():
    policy = told(frames=3, executed=2)
    policy.reset([0])
    normalised = [(policy.act(np.array([[0.1 * step]]), [0])[0, 0].item() - 5) / 10 for step in range(5)]
    # Decisions at steps 0, 2, 4; the chunk's index 2 belongs to the newest of three frames.
    assert normalised == pytest.approx([0.0 + 0.02, 0.0 + 0.03, 0.2 + 0.02, 0.2 + 0.03, 0.4 + 0.02], abs=1e-5)


def test_the_window_holds_the_last_frames_and_begins_with_the_first_one_repeated():
    seen = []

    class Watching(FlattenEncoder):
        def forward(self, observations, generator=None):
            seen.append(observations["state"].flatten().tolist())
            return super().forward(observations, generator)

    normalisers = {"state": affine(0.1), "action": affine()}
    policy = ActionPolicy(Watching(1, 3), Regression(Told()), RecedingHorizon(3, 6, 1), normalisers)
    policy.reset([7])
    for value in (0.1, 0.2, 0.3, 0.4):
        policy.act(np.array([[value]]), [7])
    policy.reset([7])
    policy.act({"state": np.array([[0.9]])}, [7])
    assert [pytest.approx(window, abs=1e-5) for window in seen] == [
        [1, 1, 1],
        [1, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [9, 9, 9],
    ]


@settings(max_examples=15)
@given(data=st.data())
def test_a_row_acts_the_same_whichever_rows_are_asked_beside_it(data):
    seeds = {0: 5, 1: 6, 2: 7}
    alone = {row: small_policy() for row in seeds}
    together = small_policy()
    together.reset(list(seeds), list(seeds.values()))
    for row, policy in alone.items():
        policy.reset([0], [seeds[row]])
    steps = dict.fromkeys(seeds, 0)
    for _ in range(data.draw(st.integers(1, 6))):
        rows = sorted(data.draw(st.sets(st.sampled_from(list(seeds)), min_size=1)))
        actions = together.act(np.concatenate([states([row], steps[row]) for row in rows]), rows)
        for row, action in zip(rows, actions, strict=True):
            expected = alone[row].act(states([row], steps[row]), [0])[0]
            np.testing.assert_allclose(action, expected, atol=1e-4)
            steps[row] += 1


def test_noise_belongs_to_the_row_or_to_its_seed():
    policy = small_policy()
    policy.reset([0, 1], [3, 4])
    first = policy.act(states([0, 0]), [0, 1])
    assert not np.allclose(first[0], first[1])
    policy.reset([5, 6], [4, 3])
    np.testing.assert_allclose(policy.act(states([0, 0]), [5, 6]), first.flip(0), atol=1e-5)
    policy.reset([0, 1])
    once = policy.act(states([0, 0]), [0, 1])
    assert not np.allclose(once[0], once[1])
    policy.reset([0])
    np.testing.assert_allclose(policy.act(states([0]), [0])[0], once[0], atol=1e-5)
    with pytest.raises(UsageError, match="1 seeds for 2 rows"):
        policy.reset([0, 1], [3])


def test_given_windows_count_as_they_are_and_single_steps_are_gathered():
    by_steps, by_windows = small_policy(executed=1), small_policy(executed=1)
    for policy in (by_steps, by_windows):
        policy.reset([0, 1])
    past = [states([0, 1], 0)] * 2
    for step in range(4):
        past = [past[-1], states([0, 1], step)] if step else past
        windows = np.stack(past, 1)
        assert torch.equal(by_windows.act({"state": windows}, [0, 1]), by_steps.act(past[-1], [0, 1]))
    with pytest.raises(UsageError, match="sees To=2 frames"):
        by_windows.act({"state": np.zeros((2, 3, 2))}, [0, 1])
    with pytest.raises(UsageError, match="all be windows"):
        by_windows.act({"state": np.zeros((2, 2, 2)), "image/top": np.zeros((2, 3, 8, 8))}, [0, 1])


def test_global_generators_change_nothing():
    actions = []
    for seed in (0, 1):
        policy = small_policy()
        torch.manual_seed(seed)
        np.random.seed(seed)
        policy.reset([0])
        actions.append(policy.act(states([0]), [0]))
    assert np.array_equal(*actions)


# ---- warm starts -----------------------------------------------------------------------------------------------------


def test_a_warm_start_calls_the_network_once_per_listed_level_and_a_reset_row_in_full():
    policy = small_policy(executed=1, initialiser=ShiftedStart([3, 1, 0]))
    policy.reset(range(5))
    taken = []
    for step in range(4):
        if step == 3:
            policy.reset([3])
        before = policy.passes
        policy.act(states(range(5), step), range(5))
        taken.append(policy.passes - before)
    assert taken == [10, 3, 3, 10 + 3]
    assert policy.decisions == 20
    assert policy.calls == {0: 19, 1: 19, 2: 19, 3: 26, 4: 19}


def test_without_levels_the_open_loop_chunk_is_executed():
    warm = small_policy(executed=1, initialiser=ShiftedStart([]))
    plain = small_policy(executed=5)
    for policy in (warm, plain):
        policy.reset([0], [1])
    for step in range(5):
        np.testing.assert_allclose(warm.act(states([0], step), [0]), plain.act(states([0], step), [0]), atol=1e-6)


def test_the_start_is_the_last_chunk_shifted_by_what_was_executed():
    start = ShiftedStart([1, 0], executed=3)
    policy = small_policy(executed=3, initialiser=start)
    policy.reset([0])
    policy.act(states([0]), [0])
    last = start._last[0]
    torch.testing.assert_close(start.start([0], [generator()]).chunk, shifted(last[None], 3))


# ---- goals -----------------------------------------------------------------------------------------------------------


def goal_actions(weight, goal):
    policy = small_policy(goal_dim=2, goal_weight=weight)
    policy.reset([0], [1])
    action = policy.act({"state": states([0]), "goal": np.array([goal])}, [0])
    return action, policy.passes


def test_goal_weights_zero_and_one_cost_one_call_and_zero_ignores_the_goal():
    one, calls = goal_actions(1.0, [1.0, 2.0])
    assert calls == 10
    zero, calls = goal_actions(0.0, [1.0, 2.0])
    assert calls == 10
    assert np.array_equal(zero, goal_actions(0.0, [-3.0, 0.5])[0])
    assert np.array_equal(zero, goal_actions(1.0, [0.0, 0.0])[0])
    assert not np.array_equal(one, goal_actions(1.0, [-3.0, 0.5])[0])
    assert goal_actions(1.5, [1.0, 2.0])[1] == 20


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_rows_that_were_not_reset_or_stand_twice_are_refused():
    policy = small_policy()
    policy.reset([0])
    for rows in ([1], [0, 0]):
        with pytest.raises(UsageError, match="reset first"):
            policy.act(states(rows), rows)
    with pytest.raises(UsageError, match="2 rows for 1 rows asked"):
        policy.act(states([0, 1]), [0])


def test_parts_that_do_not_belong_together_are_refused():
    encoder, head = FlattenEncoder(1, 2), Regression(Told())
    one, full = {"action": affine()}, RecedingHorizon(2, 6, 2)
    for arguments, options, said in [
        ((encoder, head, full, {}), {}, "no normaliser for 'action'"),
        ((encoder, head, RecedingHorizon(1, 6, 2), one), {}, "frames=1"),
        ((encoder, head, RecedingHorizon(2, 8, 2), one), {}, "horizon=8"),
        ((encoder, head, full, one), {"initialiser": ShiftedStart([0])}, "shifts chunks by 1"),
        ((encoder, head, full, one), {"goal_weight": 2.0}, "encoder with a goal"),
    ]:
        with pytest.raises(UsageError, match=said):
            ActionPolicy(*arguments, **options)


def test_a_chunk_that_is_not_finite_stops_the_policy():
    policy = small_policy()
    policy.reset([0])
    with pytest.raises(UsageError, match="not finite"):
        policy.act(np.array([[np.nan, 0.0]]), [0])


def test_acting_is_without_dropout_and_leaves_the_training_mode():
    encoder = FlattenEncoder(2, 1, goal_dim=1, goal_dropout=0.9)
    head = Denoiser(ResidualMLP(1, 2, 3, width=16, dropout=0.9), VariancePreserving(2)).train()
    policy = ActionPolicy(encoder, head, RecedingHorizon(1, 2, 1), {"action": affine()})
    actions = []
    for _ in range(2):
        policy.reset([0], [0])
        actions.append(policy.act({"state": states([0]), "goal": np.ones((1, 1))}, [0]))
    assert np.array_equal(*actions)
    assert head.training
    assert encoder.training


def test_ensembling_decides_at_every_step():
    policy = small_policy()
    policy.executor = TemporalEnsembling(2, 6)
    policy.reset([0])
    for step in range(3):
        policy.act(states([0], step), [0])
    assert policy.decisions == 3


# ---- the meter -------------------------------------------------------------------------------------------------------


def test_the_meter_reports_decisions_passes_and_percentiles():
    ticks = iter(np.repeat(np.arange(100.0), 2).cumsum())
    policy = MeteredPolicy(small_policy(executed=3), warm_up=1, clock=lambda: next(ticks))
    policy.reset([0, 1])
    for step in range(12):
        policy.act(states([0, 1], step), [0, 1])
    summary = policy.summary()
    assert summary["decisions"] == 3
    assert summary["calls_per_decision"] == 10
    # Nine steps of two rows: 3 decisions × 10 passes × 2 rows over 18 actions.
    assert summary["calls_per_action"] == pytest.approx(10 / 3)
    assert summary["p50_ms"] == pytest.approx(np.percentile(policy.seconds, 50) * 1e3)
    assert summary["p95_ms"] >= summary["p50_ms"] > 0
    with pytest.raises(UsageError, match="act longer"):
        MeteredPolicy(small_policy()).summary()
