"""Normalisers: ranges, constants, clipping, and numbers that travel with the weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.data.encoded import encoded

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Statistics
from pilotage.data.normalisers import Normaliser, Scaling, fit_normalisers

SCALINGS: tuple[Scaling, ...] = ("min_max", "mean_std", "identity")
COLUMNS = arrays(np.float32, st.tuples(st.integers(2, 20), st.integers(1, 4)), elements=st.floats(-1e4, 1e4, width=32))


@settings(max_examples=25)
@given(COLUMNS, st.sampled_from(SCALINGS))
def test_what_was_normalised_comes_back(values: np.ndarray, scaling: Scaling) -> None:
    normaliser = Normaliser.fit(values, scaling)
    raw = torch.from_numpy(values)
    back = normaliser.denormalise(normaliser.normalise(raw))
    assert torch.allclose(back, raw, rtol=1e-5, atol=1e-5 * float(np.abs(values).max()))


@settings(max_examples=25)
@given(COLUMNS)
def test_min_max_fills_the_range_and_never_leaves_it(values: np.ndarray) -> None:
    normaliser = Normaliser.fit(values)
    scaled = normaliser.normalise(torch.from_numpy(values))
    assert scaled.abs().max() <= 1 + 1e-3
    moving = ~normaliser.constant
    assert torch.allclose(scaled.amax(0)[moving], torch.ones(()), atol=1e-3)
    assert torch.allclose(scaled.amin(0)[moving], -torch.ones(()), atol=1e-3)
    assert bool((scaled[:, ~moving] == 0).all())


def test_mean_and_deviation_become_0_and_1() -> None:
    values = np.random.default_rng(0).normal(300, 7, (5000, 3)).astype(np.float32)
    scaled = Normaliser.fit(values, "mean_std").normalise(torch.from_numpy(values))
    assert scaled.mean(0).abs().max() < 1e-4
    assert (scaled.std(0, correction=0) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("scaling", ["min_max", "mean_std"])
@pytest.mark.parametrize("constant", [0.0, 0.04, -512.0])
def test_a_constant_entry_maps_to_0_and_comes_back_as_the_constant(scaling: Scaling, constant: float) -> None:
    values = np.stack([np.full(9, constant), np.arange(9)], axis=1).astype(np.float32)
    normaliser = Normaliser.fit(values, scaling)
    assert normaliser.constant.tolist() == [True, False]
    scaled = normaliser.normalise(torch.tensor([[constant, 4.0], [123.0, 4.0]]))
    assert scaled[:, 0].tolist() == [0, 0]
    back = normaliser.denormalise(torch.tensor([[0.7, 0.0], [-5.0, 0.0]]))
    assert back[:, 0].tolist() == [np.float32(constant)] * 2
    assert torch.isfinite(back).all()


def test_rounding_of_a_constant_is_no_range() -> None:
    values = np.array([[0.1 + 0.2], [0.3]], dtype=np.float64)
    assert Normaliser.fit(values).constant.tolist() == [True]


def test_what_is_out_of_range_is_clipped_and_counted_only_when_asked() -> None:
    normaliser = Normaliser.fit(np.array([[0.0, 0.0], [10.0, 4.0]]))
    given = torch.tensor([[5.0, 2.0], [20.0, -1.0], [10.0, 4.0]])
    assert normaliser.normalise(given)[1].tolist() == [3.0, -1.5]
    assert (normaliser.clipped, normaliser.seen) == (0, 0)
    assert normaliser.normalise(given, clip=True).tolist() == [[0, 0], [1, -1], [1, 1]]
    assert (normaliser.clipped, normaliser.seen) == (2, 6)
    assert normaliser.denormalise(torch.tensor([1.5, -1.5]), clip=True).tolist() == [10, 0]
    assert normaliser.denormalise(torch.tensor([1.5, -1.5])).tolist() == [12.5, -1]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_state_holds_everything_and_loads_into_an_unfitted_one(scaling: Scaling) -> None:
    values = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    values[:, 1] = 3
    normaliser = Normaliser.fit(values, scaling)
    fresh = Normaliser.unfitted((3,))
    fresh.load_state_dict(normaliser.state_dict())
    given = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fresh.normalise(given, clip=True), normaliser.normalise(given, clip=True))
    assert torch.equal(fresh.denormalise(given), normaliser.denormalise(given))
    assert fresh.fingerprint() == normaliser.fingerprint()
    assert all(isinstance(value, torch.Tensor) for value in normaliser.state_dict().values())
    assert list(normaliser.parameters()) == []


def test_the_fingerprint_tells_normalisers_apart() -> None:
    values = np.arange(6.0)[:, None]
    prints = {Normaliser.fit(values, scaling).fingerprint() for scaling in SCALINGS}
    assert len(prints | {Normaliser.fit(values * 2).fingerprint()}) == 4


def test_columns_are_fitted_by_name() -> None:
    found = fit_normalisers(encoded((4, 9)), {"action": "min_max", "state": "mean_std"})
    assert found["action"].low.tolist() == [-1, -8]
    assert found["state"].offset.shape == (3,)
    with pytest.raises(UsageError, match="no observation 'stat'"):
        fit_normalisers(encoded(), {"stat": "min_max"})
    with pytest.raises(UsageError, match="camera frames"):
        fit_normalisers(encoded(cameras=True), {"image/top": "min_max"})


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="expected min_max, mean_std, identity"):
        Normaliser.fit(np.zeros((2, 2)), "minmax")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not finite"):
        Normaliser(Statistics(np.array([np.nan]), np.array([1.0]), np.zeros(1), np.ones(1), 2))
    normaliser = Normaliser.fit(np.zeros((2, 3)))
    for wrong in (torch.zeros(4, 2), torch.zeros(4, 3, dtype=torch.int64), torch.zeros(())):
        with pytest.raises(UsageError, match=r"fitted to floats \[\.\.\., 3\]"):
            normaliser.normalise(wrong)


def test_a_shrunk_entry_is_small_and_comes_back_whole() -> None:
    values = np.array([[-1.0, 3.0, 7.0], [1.0, 5.0, 7.0], [1.0, 3.0, 7.0]], np.float32)
    normaliser = Normaliser.fit(values)
    normaliser.shrink([0], 10.0)
    scaled = normaliser.normalise(torch.from_numpy(values))
    torch.testing.assert_close(scaled[:, 0], torch.tensor([-0.1, 0.1, 0.1]))
    assert scaled[:, 1].tolist() == [-1.0, 1.0, -1.0]
    assert normaliser.denormalise(scaled)[:, 0].tolist() == [-1.0, 1.0, 1.0]
    assert [normaliser.shrinkage(entry) for entry in (0, 1)] == [10.0, 1.0]
    for entries, fitted in (([0], normaliser), ([2], normaliser), ([0], Normaliser.fit(values, "mean_std"))):
        with pytest.raises(UsageError, match="cannot be shrunk"):
            fitted.shrink(entries, 10.0)
    with pytest.raises(UsageError, match="count from 0"):
        normaliser.shrink([3], 10.0)
