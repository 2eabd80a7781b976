"""The estimate of K' and the factors by which denoising shrinks errors."""

from __future__ import annotations

import pytest
import torch

from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.objectives.warm_start import contraction, gaussian_contraction, shift_errors
from pilotage.policies.control.sampling.discrete_samplers import ddpm

PATH = VariancePreserving()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shift_errors_against_a_loop() -> None:
    guess, target = torch.randn(2, 5, 4, 3, generator=generator())
    errors = shift_errors(guess, target, PATH)
    for level in (0, 7, 99):
        scale = float(PATH.alpha_bars[level]) ** 0.5
        norms = sorted(float((g - scale * t).double().norm()) / 12**0.5 for g, t in zip(guess, target, strict=True))
        assert float(errors.error[level]) == pytest.approx(norms[2], rel=1e-6)
        own = sorted(float((g - scale * t)[:, 1].double().norm()) / 2 for g, t in zip(guess, target, strict=True))
        assert float(errors.by_entry[level, 1]) == pytest.approx(own[2], rel=1e-6)
        assert float(errors.noise[level]) == pytest.approx((1 - scale**2) ** 0.5)


def test_the_estimate_is_the_first_level_whose_noise_covers_the_guess() -> None:
    target = 0.1 * torch.randn(50, 8, 2, generator=generator())
    guess = target + 0.1 * torch.randn(target.shape, generator=generator(1))
    level = shift_errors(guess, target, PATH).first_level()
    assert level is not None
    assert float((1 - PATH.alpha_bars[level]).sqrt()) >= 0.09 > float((1 - PATH.alpha_bars[level - 1]).sqrt()) - 0.02
    assert shift_errors(target, target, PATH).first_level() == 0


def test_an_entry_that_flips_never_meets_the_bound() -> None:
    target = torch.stack([torch.ones(20, 8), torch.zeros(20, 8)], -1)
    errors = shift_errors(-2 * target, target, PATH)
    assert errors.first_level(0) is None
    assert errors.first_level(1) == 0


@pytest.mark.parametrize("std", [0.05, 0.3])
@pytest.mark.parametrize("levels", [[0], [3, 1, 0], [30, 20, 10, 0]])
def test_measured_contraction_is_that_of_theory(std: float, levels: list[int]) -> None:
    target = torch.randn(16, 4, 2, generator=generator(2))

    def denoise(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        bar = PATH.alpha_bars[int(level[0])].float()
        return target + bar.sqrt() * std**2 / (bar * std**2 + 1 - bar) * (x - bar.sqrt() * target)

    starts = [target, target + 0.1 * torch.randn(target.shape, generator=generator(3))]
    ends = [ddpm(denoise, levels, start, generator(4), path=PATH, clip=None) for start in starts]
    theory = float(gaussian_contraction(PATH, std)[levels].prod())
    assert 0 < theory < 1
    torch.testing.assert_close(contraction(*ends, *starts), torch.full((16,), theory), rtol=0.01, atol=0)
