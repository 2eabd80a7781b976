"""S11 to S14 as far as they speak of data: rewards and steps that belong together, masks, subsets, scaling."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.data.encoded import encoded, expect_same, reward

from pilotage.data.demonstrations import Demonstrations
from pilotage.data.normalisers import Normaliser, fit_normalisers
from pilotage.data.windows import Goals, WindowBatch, WindowBatches, Windows

LENGTHS = st.lists(st.integers(1, 20), min_size=2, max_size=6)
SHAPE = {"n_obs_steps": 2, "chunk_size": 6, "n_action_steps": 3}


def everything(data: Demonstrations, **given) -> WindowBatch:
    windows = Windows(data, **{**SHAPE, **given})
    return windows.take(np.arange(len(windows)), torch.Generator().manual_seed(0))


# ---- S11 -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(LENGTHS)
def test_rewards_belong_to_the_steps_they_followed(lengths: list[int]) -> None:
    data = encoded(lengths)
    assert data.total_steps == sum(lengths)
    assert data.total_episodes == len(lengths)
    for number, episode in enumerate(data.episodes()):
        assert len(episode) == lengths[number]
        for step in range(lengths[number]):
            assert episode.observations["state"][step, :2].tolist() == [number, step]
            assert episode.actions[step].tolist() == [-number, -step]
            assert episode.rewards[step] == reward(number, step)
        assert episode.last_observations["state"][1] == lengths[number]
    np.testing.assert_allclose(data.returns, [sum(reward(n, t) for t in range(T)) for n, T in enumerate(lengths)])


# ---- S12 -------------------------------------------------------------------------------------------------------------


def masked_loss(batch: WindowBatch, prediction: torch.Tensor) -> torch.Tensor:
    wrong = (prediction - batch.actions).square().mean(-1)
    return torch.where(batch.padded, 0.0, wrong).sum() / (~batch.padded).sum()


@settings(max_examples=25)
@given(LENGTHS)
def test_what_stands_in_padded_actions_changes_nothing_behind_the_mask(lengths: list[int]) -> None:
    batch = everything(encoded(lengths))
    prediction = torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(1))
    expected = masked_loss(batch, prediction)
    for poison in (1e30, torch.nan):
        actions = torch.where(batch.padded[..., None], poison, batch.actions)
        assert torch.equal(masked_loss(replace(batch, actions=actions), prediction), expected)


@settings(max_examples=25)
@given(LENGTHS, st.data())
def test_the_neighbours_steps_never_enter_a_window(lengths: list[int], draw) -> None:
    """The padding of one episode is its own ends, not what lies beside it in the table."""
    data = encoded(lengths)
    number = draw.draw(st.integers(0, len(lengths) - 1))
    alone, whole = everything(data.subset([number]), goals=Goals()), everything(data, goals=Goals())
    rows = whole.episode == number
    assert torch.equal(alone.actions, whole.actions[rows])
    assert torch.equal(alone.padded, whole.padded[rows])
    assert torch.equal(alone.observations["state"], whole.observations["state"][rows])
    assert bool((whole.observations["goal"][rows & whole.has_goal][:, 0] == number).all())


def test_a_batch_without_its_mask_cannot_be_made_nor_asked_under_another_name() -> None:
    batch = everything(encoded())
    given = {field.name: getattr(batch, field.name) for field in fields(batch) if field.name != "padded"}
    with pytest.raises(TypeError, match="padded"):
        WindowBatch(**given)
    with pytest.raises(AttributeError, match="action_is_pad"):
        _ = batch.action_is_pad  # type: ignore[attr-defined]


# ---- S13 -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=8, max_size=10), st.data())
def test_steps_of_a_subset_are_those_of_the_full_set(lengths: list[int], draw) -> None:
    data = encoded(lengths, cameras=True)
    chosen = draw.draw(st.one_of(st.just([7, 3]), st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=4)))
    part = data.subset(chosen)
    assert part.lengths.tolist() == [lengths[number] for number in chosen]
    for place, number in enumerate(chosen):
        expect_same(part.subset([place]), Demonstrations.from_episodes([data.episode(number)]))
        assert part.episode_meta[place] == data.episode_meta[number]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=8, max_size=9))
def test_windows_of_a_subset_are_those_of_the_full_set(lengths: list[int]) -> None:
    data = encoded(lengths)
    part, whole = everything(data.subset([7, 3])), everything(data)
    rows = torch.cat([torch.where(whole.episode == number)[0] for number in (7, 3)])
    assert torch.equal(part.actions, whole.actions[rows])
    assert torch.equal(part.observations["state"], whole.observations["state"][rows])
    assert part.episode.unique().tolist() == [0, 1]


# ---- S14 -------------------------------------------------------------------------------------------------------------


def varied(episodes: int = 40) -> Demonstrations:
    random = np.random.default_rng(0)
    data = encoded(random.integers(20, 60, episodes).tolist(), last=False)
    actions = random.normal([300, -0.01], [80, 0.002], (data.total_steps, 2)).astype(np.float32)
    state = random.normal([5, 0, 1e3], [1, 10, 0.5], (data.total_steps, 3)).astype(np.float32)
    return replace(data, actions=actions, observations={"state": state})


def test_what_enters_the_loss_has_mean_0_and_deviation_1() -> None:
    data = varied()
    normalisers = fit_normalisers(data, {"action": "mean_std", "state": "mean_std"})
    # One window per step, so that every step enters once.
    windows = Windows(data, n_obs_steps=1, chunk_size=1, n_action_steps=1, normalisers=normalisers)
    batches = WindowBatches(windows, 97, torch.Generator().manual_seed(0))
    drawn = [batches.draw() for _ in range(len(windows) // 97)]
    for tensor in (torch.cat([b.actions for b in drawn]), torch.cat([b.observations["state"] for b in drawn])):
        assert tensor.mean((0, 1)).abs().max() < 0.05  # the last incomplete batch is missing
    whole = windows.take(np.arange(len(windows)))
    assert len(whole) == data.total_steps
    for tensor in (whole.actions, whole.observations["state"]):
        assert tensor.mean((0, 1)).abs().max() < 0.01
        assert (tensor.std((0, 1)) - 1).abs().max() < 0.01


def test_chunks_stay_in_the_range_that_samplers_clip_to() -> None:
    data = varied()
    normalisers = fit_normalisers(data, {"action": "min_max"})
    batch = everything(data, normalisers=normalisers)
    assert batch.actions.abs().max() <= 1 + 1e-4
    back = normalisers["action"].denormalise(batch.actions)
    assert torch.allclose(back, everything(data).actions, rtol=1e-5)


@pytest.mark.parametrize("scaling", ["min_max", "mean_std", "identity"])
def test_evaluation_leaves_the_statistics_as_they_are(scaling) -> None:
    data = varied()
    normaliser = fit_normalisers(data, {"state": scaling})["state"]
    before = normaliser.fingerprint()
    normaliser.eval()
    far = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * 1e6
    normaliser.denormalise(normaliser.normalise(far, clip=True), clip=True)
    normaliser.train()
    normaliser(far)
    assert normaliser.clipped > 0
    assert normaliser.fingerprint() == before


def test_a_fresh_process_scales_as_this_one_does(tmp_path: Path) -> None:
    normaliser = Normaliser(varied().statistics("action"))
    save_file(normaliser.state_dict(), tmp_path / "normaliser.safetensors")
    given = torch.tensor([[123.4, -0.0123], [1e4, 0.0]])
    code = (
        "import sys, torch\n"
        "from safetensors.torch import load_file\n"
        "from pilotage.data.normalisers import Normaliser\n"
        "normaliser = Normaliser.unfitted((2,))\n"
        "normaliser.load_state_dict(load_file(sys.argv[1]))\n"
        f"print(normaliser.normalise(torch.tensor({given.tolist()}), clip=True).tolist())\n"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "normaliser.safetensors")],
        env={"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(normaliser.normalise(given, clip=True).tolist())
