import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import categorical, normal, uniform
from pilotage.objectives.noise_paths import Karras, Linear, VariancePreserving

PATHS = {
    "vp": VariancePreserving(),
    "vp linear": VariancePreserving(1000, "linear"),
    "vp mild": VariancePreserving(beta_scale=0.2),
    "karras": Karras(),
    "linear": Linear(),
}
PAIRS = [(name, predicts) for name, path in PATHS.items() for predicts in path.PREDICTS]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def double(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def inner_levels(path, count=64):
    """Levels away from the ends, where neither factor vanishes."""
    level = path.draw(count, generator(3))
    if isinstance(path, VariancePreserving):
        return level.clamp(max=path.steps * 9 // 10)
    return level.clamp(0.01, 0.99)


@pytest.mark.parametrize(("name", "predicts"), PAIRS)
def test_the_target_gives_back_clean_chunk_and_noise(name, predicts):
    path = PATHS[name]
    clean, noise, level = double(64, 3, 2), double(64, 3, 2, seed=1), inner_levels(path)
    noisy = path.mix(clean, noise, level)
    target = path.target(clean, noise, level, predicts)
    torch.testing.assert_close(path.clean_of(target, noisy, level, predicts), clean, rtol=0, atol=1e-9)
    torch.testing.assert_close(path.noise_of(target, noisy, level, predicts), noise, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["karras", "linear"])
def test_velocity_is_the_derivative_along_the_path(name):
    path = PATHS[name]
    clean, noise, level, step = double(64, 3, 2), double(64, 3, 2, seed=1), inner_levels(path), 1e-6
    difference = path.mix(clean, noise, level + step) - path.mix(clean, noise, level - step)
    torch.testing.assert_close(path.target(clean, noise, level, "velocity"), difference / (2 * step), rtol=0, atol=1e-7)


def test_velocity_of_a_variance_preserving_path_is_salimans_and_ho():
    path, clean, noise = VariancePreserving(), double(5, 2, 1), double(5, 2, 1, seed=1)
    level = torch.tensor([0, 10, 50, 90, 99])
    a, b = path.alpha_bars[level].sqrt()[:, None, None], (1 - path.alpha_bars[level]).sqrt()[:, None, None]
    torch.testing.assert_close(path.target(clean, noise, level, "velocity"), a * noise - b * clean)


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
def test_betas_equal_those_of_diffusers(schedule):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule=schedule)
    path = VariancePreserving(100, schedule)
    torch.testing.assert_close(path.betas, scheduler.betas.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(path.alpha_bars, scheduler.alphas_cumprod.double(), rtol=0, atol=1e-6)


def test_the_squared_cosine_is_capped():
    path = VariancePreserving()
    assert path.betas.max() == 0.999
    assert path.betas[-1] == 0.999
    u = 37 / 100
    bar = math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert path.alpha_bars[36].item() == pytest.approx(bar, rel=1e-12)


def test_levels_of_a_variance_preserving_path_are_uniform():
    level = VariancePreserving(10).draw(20_000, generator())
    assert level.dtype == torch.int64
    share = level.bincount(minlength=10) / len(level)
    assert len(share) == 10
    torch.testing.assert_close(share, torch.full((10,), 0.1), rtol=0, atol=0.01)


@pytest.mark.parametrize("law", ["log_logistic", "log_normal", "log_uniform", "uniform"])
def test_sigma_follows_its_law_within_its_bounds(law):
    path = Karras(sigma_min=0.05, sigma_max=1.0, law=law)
    sigma = path.draw(20_000, generator()).numpy()
    assert sigma.min() >= 0.05
    assert sigma.max() <= 1.0

    def cdf(value):
        inside = path.cumulative(torch.as_tensor(value))
        low, high = path.cumulative(torch.tensor([0.05, 1.0], dtype=torch.float64))
        return ((inside - low) / (high - low)).numpy()

    assert kstest(sigma, cdf).pvalue > 0.01


def test_the_log_logistic_law_is_the_closed_form():
    sigma = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    expected = [1 / (1 + math.exp(-math.log(s / 0.5) / 0.5)) for s in (0.1, 0.5, 1.0)]
    assert Karras().cumulative(sigma).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.0])
def test_edm_targets_have_unit_variance_at_every_level(sigma):
    path = Karras(sigma_data=0.5)
    clean, noise = 0.5 * double(40_000, 1, 1), double(40_000, 1, 1, seed=1)
    level = torch.full((40_000,), sigma, dtype=torch.float64)
    scaling = path.scalings(level)
    assert path.target(clean, noise, level, "residual").var().item() == pytest.approx(1, abs=0.02)
    scaled_input = scaling.c_in[:, None, None] * path.mix(clean, noise, level)
    assert scaled_input.var().item() == pytest.approx(1, abs=0.02)


def test_edm_weights_make_every_prediction_the_same_loss():
    path, level = Karras(), torch.tensor([0.05, 0.3, 1.0], dtype=torch.float64)
    clean, noise, wrong = double(3, 2, 2), double(3, 2, 2, seed=1), double(3, 2, 2, seed=2)
    noisy, losses = path.mix(clean, noise, level), []
    for predicts in ("residual", "clean", "noise"):
        output = path.target(wrong, (noisy - wrong) / level[:, None, None], level, predicts)
        error = (output - path.target(clean, noise, level, predicts)).square().mean((1, 2))
        losses.append(path.weight(level, predicts) * error)
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(losses[2], losses[0])


def test_beta_levels_favour_the_noisy_end():
    level = Linear("beta").draw(20_000, generator()).numpy()
    assert kstest(1 - level / 0.999, lambda s: s**1.5).pvalue > 0.01
    assert level.mean() < 0.45


@pytest.mark.parametrize(
    "make",
    [
        lambda: VariancePreserving(0),
        lambda: VariancePreserving(schedule="cosine"),
        lambda: Karras(sigma_min=1.0, sigma_max=0.5),
        lambda: Karras(law="normal"),
        lambda: Linear("cosine"),
        lambda: Linear().target(double(1, 1, 1), double(1, 1, 1), torch.tensor([0.5]), "residual"),
        lambda: VariancePreserving().weight(torch.tensor([1]), "x0"),
    ],
)
def test_what_does_not_exist_is_refused(make):
    with pytest.raises(UsageError, match=r"expected|choose|at least"):
        make()


def test_one_level_per_row_is_needed():
    with pytest.raises(ValueError, match="one level per row"):
        Linear().mix(double(3, 1, 1), double(3, 1, 1), torch.tensor([0.5]))


@given(rows=st.integers(1, 5), seed=st.integers(0, 100))
def test_with_a_generator_per_row_a_row_does_not_depend_on_the_others(rows, seed):
    for draw in (normal, uniform):
        together = draw([rows, 3, 2], [generator(seed + i) for i in range(rows)])
        alone = [draw([1, 3, 2], [generator(seed + i)])[0] for i in range(rows)]
        assert torch.equal(together, torch.stack(alone))


def test_as_many_generators_as_rows_are_needed():
    with pytest.raises(ValueError, match="2 generators for 3 rows"):
        normal([3, 1], [generator(), generator()])


def test_categorical_draws_follow_the_probabilities():
    probability = torch.tensor([[0.2, 0.0, 0.5, 0.3], [0.0, 1.0, 0.0, 0.0]])
    drawn = categorical(probability, generator(), 20_000)
    share = torch.stack([row.bincount(minlength=4) / 20_000 for row in drawn])
    torch.testing.assert_close(share, probability, rtol=0, atol=0.015)
    assert categorical(probability, generator()).shape == (2,)
