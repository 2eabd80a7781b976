"""Windows: which steps they hold, what is repeated at the ends, where goals come from, and the order of batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tests.data.encoded import CountingFrames, encoded

from pilotage.core.errors import UsageError
from pilotage.data.normalisers import fit_normalisers
from pilotage.data.windows import Goals, WindowBatch, WindowBatches, Windows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everything(windows: Windows, **given) -> WindowBatch:
    return windows.take(np.arange(len(windows)), **given)


LENGTHS = st.lists(st.integers(1, 25), min_size=1, max_size=4)


@st.composite
def shapes(draw) -> dict[str, int]:
    seen, executed = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    return {
        "n_obs_steps": seen,
        "n_action_steps": executed,
        "chunk_size": seen - 1 + executed + draw(st.integers(0, 8)),
    }


@settings(max_examples=25)
@given(LENGTHS, shapes())
def test_a_window_holds_its_steps_and_repeats_the_ends(lengths: list[int], shape: dict[str, int]) -> None:
    windows = Windows(encoded(lengths), **shape)
    batch = everything(windows)
    for row in range(len(windows)):
        episode, start = int(batch.episode[row]), int(batch.start[row])
        for k in range(shape["chunk_size"]):
            step = min(max(start + k, 0), lengths[episode] - 1)
            assert batch.actions[row, k].tolist() == [-episode, -step]
            assert bool(batch.padded[row, k]) == (step != start + k)
            if k < shape["n_obs_steps"]:
                assert batch.observations["state"][row, k].tolist() == [episode, step, 1000 * episode + step]
                assert bool(batch.observation_padded[row, k]) == (step != start + k)


@settings(max_examples=25)
@given(LENGTHS, shapes())
def test_windows_start_early_and_end_late_by_what_the_lengths_allow(lengths: list[int], shape: dict[str, int]) -> None:
    """To - 1 steps before an episode and Ta - 1 after it; short episodes get one window and are counted."""
    windows = Windows(encoded(lengths), **shape)
    batch = everything(windows)
    earliest = 1 - shape["n_obs_steps"]
    for number, length in enumerate(lengths):
        starts = batch.start[batch.episode == number].tolist()
        latest = max(length - shape["chunk_size"] + shape["n_action_steps"] - 1, earliest)
        assert starts == list(range(earliest, latest + 1))
    assert windows.short_episodes == sum(length < shape["chunk_size"] for length in lengths)


def test_the_published_lengths_give_the_published_windows() -> None:
    """2/16/8 on an episode of 100 steps: 100 - 16 + 1 windows inside, 1 before, 7 after."""
    windows = Windows(encoded([100]))
    assert len(windows) == 85 + 1 + 7
    batch = everything(windows)
    assert batch.start.tolist() == list(range(-1, 92))
    assert batch.padded.sum(1).tolist() == [1, *[0] * 85, *range(1, 8)]
    # The action at the present, To - 1, is the one that was taken on the newest observation.
    assert torch.equal(-batch.actions[:, 1, 1], batch.observations["state"][:, 1, 1])


def test_pictures_come_as_floats_channel_first_and_are_decoded_only_when_named() -> None:
    data = encoded((6, 4), last=False, cameras=True)
    frames = CountingFrames(data.observations["image/top"])
    data = replace(data, observations={**data.observations, "image/top": frames})
    shape = {"n_obs_steps": 2, "chunk_size": 3, "n_action_steps": 2}
    everything(Windows(data, **shape))
    assert frames.decoded == []
    windows = Windows(data, **shape, names=("state", "image/top"))
    batch = windows.take([1, 7])
    seen = batch.observations["image/top"]
    assert (tuple(seen.shape), seen.dtype) == ((2, 2, 3, 4, 6), torch.float32)
    assert (seen[:, :, 0, 0, 0] * 255).round().tolist() == [[0, 0], [1, 1]]
    assert torch.equal((seen[:, :, 1, 0, 0] * 255).round(), batch.observations["state"][..., 1])
    assert sorted(frames.decoded) == [0, 1, 6, 7]


def test_columns_are_normalised_once_and_goals_like_their_column() -> None:
    data = encoded((30, 30))
    normalisers = fit_normalisers(data, {"action": "min_max", "state": "mean_std"})
    shape = {"n_obs_steps": 2, "chunk_size": 4, "n_action_steps": 2}
    plain = Windows(data, **shape, goals=Goals())
    scaled = Windows(data, **shape, goals=Goals(keep=[1]), normalisers=normalisers)
    raw, batch = everything(plain, generator=generator()), everything(scaled, generator=generator())
    assert torch.equal(batch.actions, normalisers["action"].normalise(raw.actions))
    assert torch.equal(batch.observations["state"], normalisers["state"].normalise(raw.observations["state"]))
    assert torch.equal(batch.has_goal, raw.has_goal)
    expected = normalisers["state"].normalise(raw.observations["goal"])[:, 1]
    assert torch.equal(batch.observations["goal"][:, 1], torch.where(raw.has_goal, expected, 0.0))
    assert not batch.observations["goal"][:, [0, 2]].any()


# ---- goals -----------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(LENGTHS, shapes(), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_goals_lie_after_the_window_in_the_same_trajectory(
    lengths: list[int], shape: dict[str, int], steps: int, last: bool, seed: int
) -> None:
    windows = Windows(encoded(lengths, last=last), **shape, goals=Goals(steps=steps))
    batch = everything(windows, generator=generator(seed))
    goals = batch.observations["goal"].reshape(len(batch), steps, 3)
    for row in range(len(batch)):
        episode, after = int(batch.episode[row]), int(batch.start[row]) + shape["chunk_size"]
        newest = lengths[episode] - steps + last
        assert bool(batch.has_goal[row]) == (after <= newest)
        if batch.has_goal[row]:
            start = int(batch.goal_start[row])
            assert after <= start <= newest
            assert goals[row, :, 0].tolist() == [episode] * steps
            assert goals[row, :, 1].tolist() == [start + k for k in range(steps)]
        else:
            assert not goals[row].any()
            assert batch.goal_start[row] == -1


def test_the_goals_start_is_uniform_over_what_is_left() -> None:
    windows = Windows(encoded([30], last=False), n_obs_steps=5, chunk_size=5, n_action_steps=1, goals=Goals(steps=2))
    batch = windows.take([4 + 3] * 20_000, generator(1))
    assert int(batch.start[0]) == 3
    counts = np.bincount(batch.goal_start.numpy(), minlength=29)
    assert counts[:8].sum() == 0  # the window is steps 3 to 7
    assert len(counts) == 29  # the last start is T - goal length
    assert chisquare(counts[8:29]).pvalue > 0.001


def test_goals_need_a_generator_a_state_and_entries_that_exist() -> None:
    with pytest.raises(UsageError, match="give take.. a generator"):
        Windows(encoded(), goals=Goals()).take([0])
    with pytest.raises(UsageError, match="entries are 0 to 2"):
        Windows(encoded(), goals=Goals(keep=[0, 3]))
    with pytest.raises(UsageError, match="at least 1"):
        Windows(encoded(), goals=Goals(steps=0))


# ---- batches ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 3))
def test_every_window_comes_once_per_epoch(batch: int, seed: int) -> None:
    windows = Windows(encoded((9, 6)), n_obs_steps=2, chunk_size=4, n_action_steps=2)
    batches = WindowBatches(windows, batch, generator(seed))
    drawn: list[tuple[int, int]] = []
    while len(drawn) < 3 * len(windows):
        part = batches.draw()
        assert len(part) == batch
        drawn += zip(part.episode.tolist(), part.start.tolist(), strict=True)
    whole = everything(windows)
    expected = sorted(zip(whole.episode.tolist(), whole.start.tolist(), strict=True))
    epochs = [drawn[k * len(windows) : (k + 1) * len(windows)] for k in range(3)]
    assert all(sorted(epoch) == expected for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("before", [0, 1, 4, 9])
def test_a_restored_order_goes_on_bit_for_bit(before: int) -> None:
    windows = Windows(encoded((9, 6)), n_obs_steps=2, chunk_size=4, n_action_steps=2, goals=Goals())
    batches = WindowBatches(windows, 5, generator(3))
    for _ in range(before):
        batches.draw()
    state = batches.state_dict()
    expected = [batches.draw() for _ in range(8)]
    other = WindowBatches(windows, 5, generator(99))
    other.load_state_dict(state)
    for batch in expected:
        again = other.draw()
        assert torch.equal(again.actions, batch.actions)
        assert torch.equal(again.observations["goal"], batch.observations["goal"])
    assert other.epoch == batches.epoch
    with pytest.raises(UsageError, match="order is of 13 windows, but there are"):
        WindowBatches(Windows(encoded((30,))), 5, generator()).load_state_dict(state)


def test_goals_do_not_disturb_the_order() -> None:
    plain = Windows(encoded((9, 6)), n_obs_steps=2, chunk_size=4, n_action_steps=2)
    aimed = Windows(encoded((9, 6)), n_obs_steps=2, chunk_size=4, n_action_steps=2, goals=Goals())
    first = WindowBatches(plain, len(plain), generator()).draw()
    second = WindowBatches(aimed, len(aimed), generator()).draw()
    assert torch.equal(first.start, second.start)


def test_the_global_generators_neither_matter_nor_move() -> None:
    windows = Windows(encoded((9, 6)), n_obs_steps=2, chunk_size=4, n_action_steps=2, goals=Goals())
    before = (torch.random.get_rng_state(), np.random.get_state()[1].tolist())
    batches = WindowBatches(windows, 5, generator())
    first = [batches.draw().observations["goal"] for _ in range(3)]
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    torch.rand(3)
    np.random.rand(3)
    again = WindowBatches(windows, 5, generator())
    assert all(torch.equal(goal, again.draw().observations["goal"]) for goal in first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_obs_steps": 0}, "all at least 1"),
        ({"n_action_steps": 0}, "all at least 1"),
        ({"chunk_size": 8, "n_action_steps": 8}, r"must lie in the chunk: expected chunk_size ≥ .* = 9"),
        ({"names": ("stat",)}, "no observation 'stat'"),
    ],
)
def test_lengths_and_names_that_cannot_be_are_refused(given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Windows(encoded(), **given)
    with pytest.raises(UsageError, match="at least 1"):
        WindowBatches(Windows(encoded()), 0, generator())
