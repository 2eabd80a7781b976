import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.objectives.levels import SCHEDULES, called_levels, falling_to_zero, karras_levels, spaced_levels


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    count=st.integers(1, 60),
    low=st.floats(0.001, 0.5),
    ratio=st.floats(1.5, 1000),
)
def test_schedules_fall_strictly_from_the_largest_level_to_zero(name, count, low, ratio):
    levels = SCHEDULES[name](count, low, low * ratio)
    assert levels.shape == (count + 1,)
    assert levels[0] == low * ratio
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    if count > 1:
        assert levels[-2] == low


def test_exponential_levels_are_even_in_the_logarithm_and_linear_ones_as_they_are():
    assert SCHEDULES["exponential"](3, 0.01, 1.0).tolist() == pytest.approx([1.0, 0.1, 0.01, 0])
    assert SCHEDULES["linear"](3, 0.2, 1.0).tolist() == pytest.approx([1.0, 0.6, 0.2, 0])


def test_karras_with_rho_one_is_linear_and_large_rho_exponential():
    torch.testing.assert_close(karras_levels(9, 0.05, 1.0, rho=1), SCHEDULES["linear"](9, 0.05, 1.0))
    torch.testing.assert_close(
        karras_levels(9, 0.05, 1.0, rho=1e5), SCHEDULES["exponential"](9, 0.05, 1.0), rtol=0, atol=1e-4
    )


def test_vp_levels_are_even_in_its_time():
    t = torch.linspace(1, 0.1, 10, dtype=torch.float64)
    sigma = ((0.5 * 19.9 * t**2 + 0.1 * t).exp() - 1).sqrt()
    torch.testing.assert_close(SCHEDULES["vp"](10, sigma[-1].item(), sigma[0].item())[:-1], sigma)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_integer_levels_equal_those_of_diffusers(spacing):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100, timestep_spacing=spacing, steps_offset=0)
    for count in (1, 2, 3, 4, 5, 8, 10, 16, 20, 50, 100):
        scheduler.set_timesteps(count)
        assert spaced_levels(100, count, spacing=spacing).tolist() == scheduler.timesteps.tolist()


@given(steps=st.integers(1, 200), data=st.data(), spacing=st.sampled_from(["trailing", "leading"]))
def test_integer_levels_fall_within_the_path(steps, data, spacing):
    count = data.draw(st.integers(1, steps))
    levels = spaced_levels(steps, count, spacing=spacing)
    assert called_levels(levels, steps) == levels.tolist()
    assert len(levels) == count
    assert levels[0 if spacing == "trailing" else -1] == (steps - 1 if spacing == "trailing" else 0)


@pytest.mark.parametrize("levels", [[1.0], [1.0, 1.0, 0.0], [0.5, 1.0, 0.0], [1.0, 0.5], []])
def test_levels_that_do_not_fall_to_zero_are_refused(levels):
    with pytest.raises(UsageError, match="fall strictly and end with 0"):
        falling_to_zero(levels)


@pytest.mark.parametrize("levels", [[100, 0], [3, 3, 0], [0, 3], [-1]])
def test_integer_levels_outside_the_path_are_refused(levels):
    with pytest.raises(UsageError, match="within 0 to 99"):
        called_levels(levels, 100)


def test_bad_bounds_are_refused():
    with pytest.raises(UsageError, match="sigma_min < sigma_max"):
        karras_levels(3, 0.0, 1.0)
    with pytest.raises(UsageError, match="give 1 to 100"):
        spaced_levels(100, 101)
