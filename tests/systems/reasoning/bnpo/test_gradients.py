from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pilotage.systems.reasoning.bnpo.gradients import gram_matrix, scale_free_variance


def draws(count: int, noise: float, seed: int = 0) -> torch.Tensor:
    """Estimates around (1, 1, 1, 1) with known tr Cov = 4 noise² and |E g|² = 4."""
    generator = torch.Generator().manual_seed(seed)
    return 1 + noise * torch.randn(count, 4, generator=generator, dtype=torch.float64)


def test_it_is_trace_of_covariance_over_squared_mean():
    gradients = draws(30, 0.5)
    noise = np.trace(np.cov(gradients.numpy().T))
    signal = float((gradients.mean(0) ** 2).sum()) - noise / 30
    assert scale_free_variance(gram_matrix(gradients)) == pytest.approx(noise / signal, rel=1e-12)


def test_it_tends_to_the_true_ratio_where_the_plain_one_is_far_off():
    """With noise five times the signal and eight estimates the squared mean holds more noise than signal."""
    unbiased = [gram_matrix(draws(8, 5.0, seed)) for seed in range(4000)]
    signals = [(gram.sum() - np.trace(gram)) / 56 for gram in unbiased]
    traces = [np.trace(gram) / 8 - signal for gram, signal in zip(unbiased, signals, strict=True)]
    assert np.mean(signals) == pytest.approx(4.0, rel=0.1)
    assert np.mean(traces) == pytest.approx(100.0, rel=0.02)
    assert np.mean([gram.sum() / 64 for gram in unbiased]) > 15, "the plain squared mean"


def test_a_factor_changes_nothing():
    gradients = draws(6, 1.0)
    assert scale_free_variance(gram_matrix(1e-4 * gradients)) == pytest.approx(
        scale_free_variance(gram_matrix(gradients)), rel=1e-9
    )


def test_equal_estimates_have_no_variance():
    assert scale_free_variance(gram_matrix(torch.ones(3, 5))) == pytest.approx(0.0, abs=1e-12)


def test_a_signal_that_is_not_seen_is_not_a_number():
    assert math.isnan(scale_free_variance(gram_matrix(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))))


def test_long_gradients_are_summed_in_pieces():
    gradients = torch.randn(3, 70_000, generator=torch.Generator().manual_seed(1))
    expected = (gradients.double() @ gradients.double().T).numpy()
    assert np.allclose(gram_matrix(gradients), expected, rtol=1e-12)


@pytest.mark.parametrize("gram", [np.ones((1, 1)), np.ones((2, 3)), np.ones(4)])
def test_too_few_estimates_are_refused(gram):
    with pytest.raises(ValueError, match="Gram matrix"):
        scale_free_variance(gram)


def test_only_matrices_of_gradients_are_taken():
    with pytest.raises(ValueError, match=r"\[batch, parameter\]"):
        gram_matrix(torch.ones(3))
