"""The arithmetic of steps down an energy."""

from __future__ import annotations

import math

import pytest
import torch

from pilotage.objectives.energy_steps import energy_scaled, falling_noise, noised_start, spread_factor, unit_scale


def test_steps_shrink_with_the_energy_and_never_overflow() -> None:
    size = energy_scaled(torch.tensor([1.0, 0.0, -2.0, 500.0]), 3.0, temperature=2.0)
    torch.testing.assert_close(size[:3], 1.5 * torch.tensor([math.e, 1.0, math.exp(-2)]))
    assert size[3] == pytest.approx(1.5 * math.exp(10))


def test_noise_falls_linearly_with_both_ends() -> None:
    assert falling_noise(0.3, 0.1, 3) == pytest.approx([0.3, 0.2, 0.1])
    assert falling_noise(0.3, 0.1, 1) == [0.3]
    with pytest.raises(ValueError, match="first >= last"):
        falling_noise(0.1, 0.3, 3)


def test_unit_scale_is_of_the_whole_chunk_and_of_each_row_alone() -> None:
    chunk = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9, 30])[:, None, None]
    scaled = unit_scale(chunk)
    torch.testing.assert_close(scaled.square().mean((1, 2)), torch.ones(3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled[1], unit_scale(chunk[1:2])[0])
    assert unit_scale(torch.zeros(1, 2, 2)).isfinite().all()


def test_a_noised_start_keeps_the_share_of_variance() -> None:
    clean, noise = torch.ones(2, 1, 1), 2 * torch.ones(2, 1, 1)
    got = noised_start(clean, noise, torch.tensor([1.0, 0.25])).flatten()
    torch.testing.assert_close(got, torch.tensor([1.0, 0.5 + 2 * math.sqrt(0.75)]))


def test_step_factors_lie_between_a_half_and_two() -> None:
    like = torch.zeros(1)
    assert spread_factor(4, 1.0, torch.Generator(), like=like) is None
    factor = spread_factor(2000, 2.0, torch.Generator().manual_seed(0), like=like)
    assert factor is not None
    assert 0.5 <= factor.min() < 0.51
    assert 1.99 < factor.max() <= 2
    with pytest.raises(ValueError, match="at least 1"):
        spread_factor(4, 0.5, torch.Generator(), like=like)
