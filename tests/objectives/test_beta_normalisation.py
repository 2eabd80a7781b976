import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.objectives.advantages import group_center, group_zscore
from pilotage.objectives.beta_normalisation import (
    LARGEST_WEIGHT,
    SmoothedBetaNorm,
    beta_density,
    beta_fit,
    beta_moments,
    beta_norm,
    bnpo_exponents,
    bnpo_variance,
    decomposed_beta_norm,
)
from pilotage.objectives.decomposition import decompose, decoupled_zscore

RATES = torch.tensor([0, 0.125, 0.25, 0.5, 0.75, 1], dtype=torch.float64)


def answers(rates, size=8):
    """0/1 rewards, right ones first, and groups for these pass rates."""
    reward = torch.cat([(torch.arange(size) < round(rate * size)).double() for rate in np.asarray(rates)])
    return reward, torch.arange(len(rates)).repeat_interleave(size)


def test_reference_fit():
    a, b = beta_moments(RATES)
    assert (a, b) == pytest.approx((0.287829, 0.370066), abs=5e-7)
    assert bnpo_exponents(a, b) == pytest.approx((1.095943, 1.123355), abs=5e-7)
    fit = beta_fit(*answers(RATES))
    assert fit.mean == pytest.approx(0.4375)
    assert fit.variance == pytest.approx(0.148438, abs=5e-7)
    assert (fit.a, fit.b, fit.alpha, fit.beta) == pytest.approx((a, b, *bnpo_exponents(a, b)))
    assert fit.reason == ""


def test_reference_density_and_advantages():
    alpha, beta = bnpo_exponents(*beta_moments(RATES))
    expected = [0, 0.999102, 1.047691, 1.065107, 1.016610, 0]
    assert beta_density(RATES, alpha, beta).tolist() == pytest.approx(expected, abs=5e-6)
    advantage = beta_norm(*answers(RATES)).view(6, 8)
    right, wrong = advantage[:, 0].tolist(), advantage[:, -1].tolist()
    assert right == pytest.approx([0, 0.875786, 0.715860, 0.469436, 0.245915, 0], abs=5e-6)
    assert wrong == pytest.approx([0, -0.125112, -0.238620, -0.469436, -0.737746, 0], abs=5e-6)
    assert (advantage[[0, 5]] == 0).all()


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.2, 30), st.floats(0.2, 30))
def test_density_equals_scipy(p, alpha, beta):
    ours = beta_density(torch.tensor(p, dtype=torch.float64), alpha, beta).item()
    assert ours == pytest.approx(scipy.stats.beta(alpha, beta).pdf(p), rel=1e-8, abs=1e-300)


rates = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=2, max_size=9)


@given(rates)
def test_exponents_one_are_the_group_mean_baseline(several):
    reward, group = answers(several)
    torch.testing.assert_close(
        beta_norm(reward, group, alpha=1, beta=1), group_center(reward, group), rtol=0, atol=1e-10
    )


@given(rates)
def test_exponents_three_halves_are_the_z_score(several):
    reward, group = answers(several)
    p = torch.tensor(several, dtype=torch.float64).repeat_interleave(8)
    spread = (p * (1 - p)).sqrt()
    zscore = torch.where(spread > 0, (reward - p) / spread, 0)
    result = beta_norm(reward, group, alpha=1.5, beta=1.5)
    torch.testing.assert_close(result, math.pi / 8 * zscore, rtol=0, atol=1e-10)


def test_three_halves_reference_values():
    advantage = beta_norm(*answers([0.125, 0.25, 0.5, 0.75]), alpha=1.5, beta=1.5).view(4, 8)
    assert advantage[:, 0].tolist() == pytest.approx([1.038984, 0.680175, 0.392699, 0.226725], abs=5e-7)


def test_reference_variance_objective():
    assert bnpo_exponents(2, 5) == pytest.approx((5 / 3, 8 / 3))
    assert bnpo_variance(2, 5, *bnpo_exponents(2, 5)) == pytest.approx(0.094657, abs=5e-7)
    assert bnpo_variance(2, 5, 1, 1) == pytest.approx(0.178571, abs=5e-7)
    assert bnpo_variance(2, 5, 1.5, 1.5) == pytest.approx(0.154213, abs=5e-7)


@pytest.mark.parametrize(("a", "b", "alpha", "beta"), [(2, 5, 1.5, 1.2), (1.5, 1.5, 1.2, 1.6), (4, 1, 2.2, 1.1)])
def test_variance_objective_is_the_integral(a, b, alpha, beta):
    def integrand(p):
        return p * (1 - p) / scipy.stats.beta.pdf(p, alpha, beta) ** 2 * scipy.stats.beta.pdf(p, a, b)

    assert bnpo_variance(a, b, alpha, beta) == pytest.approx(scipy.integrate.quad(integrand, 0, 1)[0], rel=1e-6)


@given(st.floats(0.05, 12), st.floats(0.05, 12))
def test_closed_form_beats_every_grid_point(a, b):
    best = bnpo_variance(a, b, *bnpo_exponents(a, b))
    grid = np.linspace(0.5, 6, 23)
    assert all(best <= bnpo_variance(a, b, alpha, beta) * (1 + 1e-9) for alpha in grid for beta in grid)


def test_variance_is_infinite_outside_its_domain():
    assert bnpo_variance(1, 1, 2.0, 1.0) == math.inf


@pytest.mark.parametrize(
    ("several", "reason"),
    [
        ([0.5] * 6, "all pass rates equal"),
        ([0, 1, 0, 1, 1, 0], "pass rates too bimodal"),
        ([0.25, 0.5, 0.75], "fewer than 4 prompts"),
        ([0.25], "fewer than 4 prompts"),
    ],
)
def test_degenerate_batches_fall_back_to_the_group_mean_and_say_why(several, reason):
    reward, group = answers(several)
    fit = beta_fit(reward, group)
    assert (fit.alpha, fit.beta, fit.reason) == (1, 1, reason)
    assert all(math.isfinite(value) for value in fit[:-1])
    torch.testing.assert_close(beta_norm(reward, group), group_center(reward, group))


def test_moments_without_spread_are_refused():
    with pytest.raises(ValueError, match="without spread"):
        beta_moments(torch.tensor([0.5, 0.5]))


def test_bounded_rewards_are_mapped_to_the_unit_interval():
    reward, group = answers(RATES)
    torch.testing.assert_close(beta_norm(reward * 4 - 1, group, low=-1, high=3), beta_norm(reward, group))


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
def test_a_reward_outside_the_range_is_refused_with_its_value(bad):
    with pytest.raises(UsageError, match=str(bad)):
        beta_norm(torch.tensor([0.0, bad]), torch.tensor([0, 0]))


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="give both"):
        beta_norm(torch.zeros(2), torch.zeros(2, dtype=torch.int64), alpha=1.5)
    with pytest.raises(UsageError, match="not below"):
        beta_norm(torch.zeros(2), torch.zeros(2, dtype=torch.int64), low=1, high=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rare_successes_stay_finite_and_weights_can_be_capped(dtype):
    reward, group = answers([0, 0, 0, 0, 0, 0, 0, 0.5])
    reward = reward.to(dtype)
    steep = beta_norm(reward, group, alpha=3.0, beta=400.0)
    assert steep.isfinite().all()
    assert steep.abs().max() == pytest.approx(0.5 * LARGEST_WEIGHT)
    capped = beta_norm(reward, group, alpha=3.0, beta=400.0, max_weight=2.0)
    assert capped.abs().max() == 1.0


def test_decomposition_is_the_mean_of_the_components():
    first, group = answers(RATES)
    second = first.view(6, 8).flip(0, 1).reshape(-1) * torch.tensor([1, 0] * 24)
    scores = torch.stack([first, second], 1)
    expected = (beta_norm(first, group) + beta_norm(second, group)) / 2
    torch.testing.assert_close(decomposed_beta_norm(scores, group), expected)
    assert not torch.allclose(expected, beta_norm(first + second, group, high=2))


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_a_constant_component_adds_nothing_and_leaves_the_factor_of_the_others(constant):
    reward, group = answers(RATES)
    scores = torch.stack([reward, torch.full_like(reward, constant)], 1)
    torch.testing.assert_close(decompose(beta_norm, scores, group), beta_norm(reward, group) / 2)
    torch.testing.assert_close(decoupled_zscore(scores, group), group_zscore(reward, group, epsilon=1e-4) / 2)
    assert (decompose(beta_norm, torch.ones(48, 2), group) == 0).all()


def test_an_abstaining_component_leaves_its_rows_to_the_others():
    reward, group = answers(RATES)
    other = reward.flip(0).clone()
    other[:8] = torch.nan
    result = decompose(group_center, torch.stack([reward, other], 1), group)
    torch.testing.assert_close(result[:8], group_center(reward, group)[:8])
    torch.testing.assert_close(result[8:], (group_center(reward, group)[8:] + group_center(other[8:], group[8:])) / 2)


def test_smoothed_moments_follow_the_batches_and_decay_zero_is_the_batch_alone():
    first, second = answers(RATES), answers(RATES.flip(0) * 0.5)
    plain, smooth = SmoothedBetaNorm(decay=0.0), SmoothedBetaNorm(decay=0.9)
    for piece in (plain, smooth):
        torch.testing.assert_close(piece(*first), beta_norm(*first))
        piece.update(*first)
    torch.testing.assert_close(plain(*second), beta_norm(*second))
    means, variances = zip(*[(float(r.mean()), float(r.var())) for r in (RATES, batch_rates(second))], strict=True)
    m, v = (0.9 * pair[0] + 0.1 * pair[1] for pair in (means, variances))
    kappa = m * (1 - m) / v - 1
    alpha, beta = bnpo_exponents(kappa * m, kappa * (1 - m))
    torch.testing.assert_close(smooth(*second), beta_norm(*second, alpha=alpha, beta=beta))
    resumed = SmoothedBetaNorm(decay=0.9)
    resumed.load_state_dict(smooth.state_dict())
    assert torch.equal(resumed(*second), smooth(*second))


def batch_rates(batch):
    reward, group = batch
    return torch.stack([reward[group == one].mean() for one in group.unique()])


def test_one_prompt_a_batch_is_enough_once_others_came_before():
    piece = SmoothedBetaNorm()
    alone = answers([0.25])
    torch.testing.assert_close(piece(*alone), group_center(*alone))
    piece.update(*answers(RATES))
    assert not torch.allclose(piece(*alone), group_center(*alone))
    with pytest.raises(UsageError, match="decay is 1"):
        SmoothedBetaNorm(decay=1)
