import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import generator

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import normal
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.execution.executors import RecedingHorizon, TemporalEnsembling
from pilotage.policies.control.sampling.starts import FreshStart, ShiftedStart, shifted


def numbered(rows, horizon):
    """Chunks whose action at index i of row r is 100·r + i: [rows, horizon, 1]."""
    return (100 * torch.arange(rows)[:, None] + torch.arange(horizon))[..., None].float()


@pytest.mark.parametrize(("frames", "executed"), [(1, 4), (2, 8), (4, 1)])
def test_the_first_executed_action_stands_at_the_newest_frame(frames, executed):
    executor = RecedingHorizon(frames, 16, executed)
    executor.receive([0], numbered(1, 16))
    taken = [executor.next([0]).item() for _ in range(executed)]
    assert taken == list(range(frames - 1, frames - 1 + executed))
    assert executor.due(0)


@given(
    frames=st.integers(1, 4),
    executed=st.integers(1, 4),
    asked=st.lists(st.sets(st.integers(0, 2), min_size=1), max_size=12),
)
def test_rows_are_executed_each_by_itself(frames, executed, asked):
    executor, steps = RecedingHorizon(frames, 8, executed), [0, 0, 0]
    for rows in (sorted(one) for one in asked):
        due = [row for row in rows if executor.due(row)]
        assert due == [row for row in rows if steps[row] % executed == 0]
        if due:
            executor.receive(due, numbered(3, 8)[due])
        expected = [100 * row + frames - 1 + steps[row] % executed for row in rows]
        assert executor.next(rows).flatten().tolist() == expected
        for row in rows:
            steps[row] += 1


@pytest.mark.parametrize(("frames", "horizon", "executed"), [(2, 8, 8), (1, 4, 5), (0, 4, 1), (1, 4, 0)])
def test_more_than_the_chunk_holds_is_refused(frames, horizon, executed):
    with pytest.raises(UsageError, match=r"To−1\+Ta must be at most Tp"):
        RecedingHorizon(frames, horizon, executed)
    RecedingHorizon(2, 8, 7)


@pytest.mark.parametrize("make", [lambda: RecedingHorizon(1, 4, 2), lambda: TemporalEnsembling(1, 4)])
def test_a_reset_forgets_the_chunks_of_that_row_only(make):
    executor = make()
    executor.receive([0, 1], numbered(2, 4))
    executor.reset([1])
    assert executor.due(1)
    assert not executor.due(0)
    assert executor.next([0]).item() == 0
    with pytest.raises(UsageError, match="give"):
        executor.next([1])


def test_temporal_ensembling_weighs_the_oldest_chunk_most():
    executor, said = TemporalEnsembling(2, 5, rate=0.3), torch.randn(10, 5, 1, generator=generator())
    for now in range(10):
        assert executor.due(0)
        executor.receive([0], said[now : now + 1])
        # A chunk made at `then` begins at then − 1 and speaks of now at index now − then + 1.
        reaching = [then for then in range(now + 1) if now - then + 1 < 5]
        weights = [math.exp(-0.3 * i) for i in range(len(reaching))]
        expected = sum(w * said[then, now - then + 1].item() for w, then in zip(weights, reaching, strict=True))
        assert executor.next([0]).item() == pytest.approx(expected / sum(weights), abs=1e-6)
    assert len(reaching) == 4


def test_ensembling_over_equal_chunks_is_that_chunk():
    executor = TemporalEnsembling(1, 4)
    for _ in range(6):
        executor.receive([0], torch.full((1, 4, 2), 0.7))
        torch.testing.assert_close(executor.next([0]), torch.full((1, 2), 0.7))


# ---- initialisers ----------------------------------------------------------------------------------------------------


@given(horizon=st.integers(2, 8), data=st.data())
def test_a_shifted_chunk_drops_what_was_executed_and_repeats_the_last(horizon, data):
    executed = data.draw(st.integers(1, horizon - 1))
    chunk = numbered(2, horizon)
    guess = shifted(chunk, executed)
    assert torch.equal(guess[:, : horizon - executed], chunk[:, executed:])
    assert (guess[:, horizon - executed :] == chunk[:, -1:]).all()
    with pytest.raises(UsageError, match="leave nothing"):
        shifted(chunk, horizon)


def test_a_shifted_start_is_the_guess_as_it_is_with_the_short_list():
    start = ShiftedStart([3, 1, 0], executed=2)
    assert not start.has_start(0)
    start.keep([0, 4], numbered(2, 6))
    assert start.has_start(0)
    assert start.has_start(4)
    chunk, levels, sampler = start.start([4], [generator()])
    assert sampler is None
    assert torch.equal(chunk, shifted(numbered(2, 6)[1:], 2))
    assert levels == [3, 1, 0]
    start.reset([4])
    assert not start.has_start(4)
    assert start.has_start(0)


def test_a_renoised_start_is_the_guess_on_the_noise_path():
    path = VariancePreserving()
    start = ShiftedStart([20, 10, 0], renoise=path)
    start.keep([0], numbered(1, 6))
    guess = shifted(numbered(1, 6), 1)
    noise = normal(guess.shape, [generator(3)])
    torch.testing.assert_close(start.start([0], [generator(3)]).chunk, path.mix(guess, noise, torch.tensor([20])))
    with pytest.raises(UsageError, match="give levels"):
        ShiftedStart([], renoise=path)


def test_the_guess_can_be_altered():
    start = ShiftedStart([0], alter=lambda guess: guess.sign() / 10)
    start.keep([0], numbered(1, 3) + 1)
    assert torch.equal(start.start([0], [generator()]).chunk, torch.full((1, 3, 1), 0.1))


def test_a_fresh_start_is_never_warm():
    fresh = FreshStart()
    fresh.keep([0], numbered(1, 3))
    assert not fresh.has_start(0)
    with pytest.raises(UsageError, match="begins from noise"):
        fresh.start([0], [generator()])
